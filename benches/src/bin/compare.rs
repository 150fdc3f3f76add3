//! The end-to-end comparison: the gateway beside bare proxies that do one part of its work each.
//!
//! `cargo build --release -p cfr-server -p cfr-benches && target/release/compare` prints Markdown for `RESULTS.md`;
//! `--quick` takes one short round. Every process runs on a core of its own: what is measured on the first, the mock
//! provider and the load on the second. Rounds of all targets are interleaved and medians are shown, so that a noisy
//! neighbour spoils a round and not a target. The program starts itself again as `mock`, `floor` and `load`.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use cfr_benches::body::Wish;
use cfr_benches::floor::{Depth, Floor};
use cfr_benches::gateway::{self, Gateway};
use cfr_benches::load::{self, Plan, Report};
use cfr_benches::process::{Pinned, bind_this_process};
use cfr_benches::table::{grouped, markdown, mebibytes, median, micros, ratio};
use cfr_benches::{Failure, mock, serve};
use cfr_core::time::{Clock as _, SystemClock};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where the measured process runs.
const MEASURED_CORE: u32 = 0;
/// Where the mock provider and the load run.
const OTHER_CORE: u32 = 1;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["mock"] => run_async(run_mock()),
        ["floor", depth, upstream] => run_async(run_floor(depth, upstream)),
        ["load", plan] => run_async(run_load(plan)),
        [] => compare(Scale::FULL),
        ["--quick"] => compare(Scale::QUICK),
        _ => Err("usage: compare [--quick]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("compare: {failure}");
            ExitCode::FAILURE
        }
    }
}

// --- The processes beside the gateway -------------------------------------------------------------------------------

fn run_async(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}

async fn run_mock() -> Result<(), Failure> {
    let listener = announced_listener().await?;
    Ok(serve::serve(listener, mock::answer).await?)
}

async fn run_floor(depth: &str, upstream: &str) -> Result<(), Failure> {
    let floor = Floor::new(depth.parse()?, upstream)?;
    let listener = announced_listener().await?;
    Ok(serve::serve(listener, move |request| floor.clone().pass(request)).await?)
}

/// A listener on a free port, which is printed for the process that started this one.
async fn announced_listener() -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    Ok(listener)
}

async fn run_load(plan: &str) -> Result<(), Failure> {
    let report = load::run(&serde_json::from_str(plan)?).await?;
    Ok(serde_json::to_writer(io::stdout(), &report)?)
}

// --- The comparison -------------------------------------------------------------------------------------------------

/// How long and how often.
#[derive(Clone, Copy)]
struct Scale {
    rounds: u32,
    run_ms: u64,
    starts: u32,
}

impl Scale {
    const FULL: Self = Self { rounds: 5, run_ms: 3_000, starts: 9 };
    const QUICK: Self = Self { rounds: 1, run_ms: 700, starts: 3 };
}

/// One thing that answers requests.
struct Target {
    name: &'static str,
    address: SocketAddr,
    key: String,
    /// None for the provider itself, which is not measured.
    process: Option<Pinned>,
}

/// What is measured of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Figure {
    /// Nanoseconds of processor time per request of 1 KB, 64 at a time.
    CpuNanos,
    /// Requests per second on one core, in the same run.
    PerSecond,
    /// The same with bodies of 100 KB, 16 at a time.
    LargeCpuNanos,
    /// Nanoseconds of processor time per chunk of a stream.
    ChunkCpuNanos,
    /// Time to the whole answer at a low rate, half of the requests.
    P50Micros,
    /// The same, 99 of 100 requests.
    P99Micros,
    /// Time to the first byte of a stream at a low rate, half of the requests.
    FirstByteMicros,
    /// Memory before the first request.
    IdleKib,
    /// The most memory while 256 requests are under way.
    LoadedKib,
}

/// Every round of every figure, by the target's place in the list.
type Rounds = BTreeMap<(usize, Figure), Vec<u64>>;

const RATE_CONNECTIONS: u32 = 10;
const RATE_PAUSE_MS: u64 = 100;
const PROVIDER_DELAY_MS: u64 = 20;
const STREAM_CHUNKS: u32 = 200;
const MEMORY_CONNECTIONS: u32 = 256;

fn compare(scale: Scale) -> Result<(), Failure> {
    bind_this_process(OTHER_CORE)?;
    let program = env::current_exe()?.into_os_string();
    let (_provider, provider) = Pinned::spawn_listening(OTHER_CORE, &program, &["mock"])?;
    let server = gateway::binary();
    let mut targets = vec![Target { name: "direct", address: provider, key: String::new(), process: None }];
    targets.extend(start_floors(&program, provider)?);
    let gateways = match &server {
        Some(server) => {
            gateway::DURABILITIES.into_iter().map(|mode| Gateway::prepare(server, provider, mode)).collect()
        }
        None => {
            eprintln!("no cfr-server binary (CFR_SERVER_BIN or target/release/cfr-server): floors only");
            Ok(Vec::new())
        }
    }?;
    let starts = gateways.first().map(|gateway| start_times(gateway, scale)).transpose()?;
    for gateway in &gateways {
        let process = gateway.start(MEASURED_CORE)?;
        let key = gateway.key().to_owned();
        targets.push(Target { name: gateway.name(), address: gateway.address(), key, process: Some(process) });
    }
    let rounds = measure(&program, &mut targets, scale)?;
    report(&targets, &rounds, starts.as_ref(), scale)
}

fn start_floors(program: &OsStr, provider: SocketAddr) -> Result<Vec<Target>, Failure> {
    let start = |depth: Depth| {
        let arguments = ["floor", depth.name(), &provider.to_string()];
        let (process, address) = Pinned::spawn_listening(MEASURED_CORE, program, &arguments)?;
        Ok(Target { name: depth.name(), address, key: String::new(), process: Some(process) })
    };
    Depth::ALL.into_iter().map(start).collect()
}

fn measure(program: &OsStr, targets: &mut [Target], scale: Scale) -> Result<Rounds, Failure> {
    let mut rounds = Rounds::new();
    for (at, target) in targets.iter_mut().enumerate() {
        measure_memory(program, at, target, scale, &mut rounds)?;
    }
    for round in 1..=scale.rounds {
        eprintln!("round {round} of {}", scale.rounds);
        for (at, target) in targets.iter_mut().enumerate() {
            measure_round(program, at, target, scale, &mut rounds)?;
        }
    }
    Ok(rounds)
}

fn measure_round(
    program: &OsStr,
    at: usize,
    target: &mut Target,
    scale: Scale,
    rounds: &mut Rounds,
) -> Result<(), Failure> {
    let mut note = |figure, value| rounds.entry((at, figure)).or_default().push(value);
    let unary = target.plan(64, 1_000, scale);
    let (report, cpu) = run_load_on(program, target, &unary)?;
    note(Figure::CpuNanos, per(cpu, report.answers));
    note(Figure::PerSecond, report.per_second());
    let large = target.plan(16, 100_000, scale);
    let (report, cpu) = run_load_on(program, target, &large)?;
    note(Figure::LargeCpuNanos, per(cpu, report.answers));
    let stream = Plan { wish: Wish { delay_ms: 0, chunks: STREAM_CHUNKS }, ..target.plan(32, 1_000, scale) };
    let (report, cpu) = run_load_on(program, target, &stream)?;
    note(Figure::ChunkCpuNanos, per(cpu, report.answers * u64::from(STREAM_CHUNKS)));
    let wish = Wish { delay_ms: PROVIDER_DELAY_MS, chunks: 0 };
    let slow = Plan { wish, pause_ms: RATE_PAUSE_MS, ..target.plan(RATE_CONNECTIONS, 1_000, scale) };
    let (report, _) = run_load_on(program, target, &slow)?;
    note(Figure::P50Micros, report.whole.p50_us);
    note(Figure::P99Micros, report.whole.p99_us);
    let stream = Plan { wish: Wish { chunks: 10, ..wish }, ..slow };
    let (report, _) = run_load_on(program, target, &stream)?;
    note(Figure::FirstByteMicros, report.first_byte.p50_us);
    Ok(())
}

/// Memory before the first request, and the most of it while many are under way.
fn measure_memory(
    program: &OsStr,
    at: usize,
    target: &mut Target,
    scale: Scale,
    rounds: &mut Rounds,
) -> Result<(), Failure> {
    let wish = Wish { delay_ms: 100, chunks: 0 };
    let plan = Plan { wish, ..target.plan(MEMORY_CONNECTIONS, 1_000, scale) };
    let Some(process) = &target.process else { return Ok(()) };
    rounds.insert((at, Figure::IdleKib), vec![process.resident_kib()?]);
    let mut load = spawn_load(program, &plan)?;
    let mut most = 0;
    while load.try_wait()?.is_none() {
        most = most.max(process.resident_kib()?);
        sleep(Duration::from_millis(20));
    }
    read_report(target.name, load)?;
    rounds.insert((at, Figure::LoadedKib), vec![most]);
    Ok(())
}

impl Target {
    fn plan(&self, connections: u32, body_bytes: usize, scale: Scale) -> Plan {
        Plan {
            target: self.address,
            key: self.key.clone(),
            connections,
            run_ms: scale.run_ms,
            body_bytes,
            pause_ms: 0,
            wish: Wish::default(),
        }
    }
}

/// Runs a load and takes the processor time that the target used for it.
fn run_load_on(program: &OsStr, target: &mut Target, plan: &Plan) -> Result<(Report, Duration), Failure> {
    let before = target.process.as_ref().map_or(Ok(Duration::ZERO), Pinned::cpu)?;
    let report = read_report(target.name, spawn_load(program, plan)?)?;
    if let Some(process) = &mut target.process {
        process.ensure_running()?;
    }
    let after = target.process.as_ref().map_or(Ok(Duration::ZERO), Pinned::cpu)?;
    Ok((report, after.saturating_sub(before)))
}

fn spawn_load(program: &OsStr, plan: &Plan) -> Result<std::process::Child, Failure> {
    let core = OTHER_CORE.to_string();
    let arguments: [&OsStr; 4] = ["--cpu-list".as_ref(), core.as_ref(), program, "load".as_ref()];
    let plan = serde_json::to_string(plan)?;
    Ok(Command::new("taskset").args(arguments).arg(plan).stdout(Stdio::piped()).spawn()?)
}

/// A figure of a run with failures would flatter the target: the comparison ends instead.
fn read_report(name: &str, load: std::process::Child) -> Result<Report, Failure> {
    let output = load.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("the load on {name} ended with {}", output.status).into());
    }
    let report: Report = serde_json::from_slice(&output.stdout)?;
    match &report.first_failure {
        None if report.answers > 0 => Ok(report),
        failure => Err(format!("{name}: {} answers, {} failures: {failure:?}", report.answers, report.failures).into()),
    }
}

fn per(cpu: Duration, count: u64) -> u64 {
    let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
    nanos.checked_div(count).unwrap_or(0)
}

// --- Start ----------------------------------------------------------------------------------------------------------

/// Microseconds from the start of the process to the first sign of readiness.
struct StartTimes {
    existing_us: u64,
    new_us: u64,
}

fn start_times(gateway: &Gateway, scale: Scale) -> Result<StartTimes, Failure> {
    let (mut existing, mut new) = (Vec::new(), Vec::new());
    for _ in 0..scale.starts {
        existing.push(gateway.time_to_ready(MEASURED_CORE)?);
        new.push(gateway.time_to_ready_on_a_new_file(MEASURED_CORE)?);
    }
    Ok(StartTimes { existing_us: median(existing), new_us: median(new) })
}

// --- The report -----------------------------------------------------------------------------------------------------

fn report(targets: &[Target], rounds: &Rounds, starts: Option<&StartTimes>, scale: Scale) -> Result<(), Failure> {
    let of = |at: usize, figure: Figure| rounds.get(&(at, figure)).cloned().map_or(0, median);
    let floor = |depth: Depth, figure: Figure| {
        targets.iter().position(|target| target.name == depth.name()).map_or(0, |at| of(at, figure))
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", conditions(scale)?)?;
    writeln!(out, "{}", cpu_table(targets, &of, &floor))?;
    writeln!(out, "{}", latency_table(targets, &of))?;
    writeln!(out, "{}", memory_table(targets, &of))?;
    if let Some(starts) = starts {
        let row = vec![grouped(starts.existing_us), grouped(starts.new_us)];
        writeln!(out, "{}", markdown(&["ready on an existing file, µs", "on a new file, µs"], &[row]))?;
    }
    Ok(())
}

fn cpu_table(targets: &[Target], of: &dyn Fn(usize, Figure) -> u64, floor: &dyn Fn(Depth, Figure) -> u64) -> String {
    let head = [
        "target",
        "CPU per request, 1 KB, c64",
        "× raw",
        "× peek",
        "× json",
        "requests/s on one core",
        "of json",
        "CPU per request, 100 KB, c16",
        "× peek",
        "CPU per streamed chunk",
        "× raw",
    ];
    let row = |(at, target): (usize, &Target)| {
        let (cpu, large, chunk) =
            (of(at, Figure::CpuNanos), of(at, Figure::LargeCpuNanos), of(at, Figure::ChunkCpuNanos));
        let rate = of(at, Figure::PerSecond);
        vec![
            target.name.to_owned(),
            micros(cpu),
            ratio(cpu, floor(Depth::Raw, Figure::CpuNanos)),
            ratio(cpu, floor(Depth::Peek, Figure::CpuNanos)),
            ratio(cpu, floor(Depth::Json, Figure::CpuNanos)),
            grouped(rate),
            ratio(rate, floor(Depth::Json, Figure::PerSecond)),
            micros(large),
            ratio(large, floor(Depth::Peek, Figure::LargeCpuNanos)),
            micros(chunk),
            ratio(chunk, floor(Depth::Raw, Figure::ChunkCpuNanos)),
        ]
    };
    markdown(&head, &targets.iter().enumerate().skip(1).map(row).collect::<Vec<_>>())
}

/// What a target adds to the direct call; the direct call itself stands in the first row.
fn latency_table(targets: &[Target], of: &dyn Fn(usize, Figure) -> u64) -> String {
    let head = ["target", "whole answer p50, µs", "p99, µs", "first byte of a stream p50, µs"];
    let figures = [Figure::P50Micros, Figure::P99Micros, Figure::FirstByteMicros];
    let row = |(at, target): (usize, &Target)| {
        let cell = |figure| match at {
            0 => grouped(of(at, figure)),
            _ => added(of(at, figure), of(0, figure)),
        };
        std::iter::once(target.name.to_owned()).chain(figures.map(cell)).collect::<Vec<_>>()
    };
    markdown(&head, &targets.iter().enumerate().map(row).collect::<Vec<_>>())
}

fn added(figure: u64, direct: u64) -> String {
    match figure.checked_sub(direct) {
        Some(more) => format!("+{}", grouped(more)),
        None => format!("-{}", grouped(direct - figure)),
    }
}

fn memory_table(targets: &[Target], of: &dyn Fn(usize, Figure) -> u64) -> String {
    let row = |(at, target): (usize, &Target)| {
        vec![target.name.to_owned(), mebibytes(of(at, Figure::IdleKib)), mebibytes(of(at, Figure::LoadedKib))]
    };
    let head = ["target", "memory idle", "at 256 concurrent calls"];
    markdown(&head, &targets.iter().enumerate().skip(1).map(row).collect::<Vec<_>>())
}

/// Under which conditions the figures were taken.
fn conditions(scale: Scale) -> Result<String, Failure> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{} · {cores} × {} · Linux {} · medians of {} interleaved rounds of {} ms{}\n",
        SystemClock::new().now().strftime("%Y-%m-%d"),
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        scale.rounds,
        scale.run_ms,
        if cfg!(debug_assertions) { " · NOT OPTIMISED: these figures mean nothing" } else { "" },
    ))
}
