//! A network that is cut, slow or silent on command.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// Bytes that are forwarded at once, at most.
const CHUNK_BYTES: usize = 16 * 1024;

/// A TCP proxy before one server. It runs on a thread of its own, beside the runtime of the test; dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
    /// Tells the thread to end.
    _alive: oneshot::Sender<()>,
}

impl Proxy {
    /// A proxy that forwards everything, until told otherwise.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on the loopback");
        listener.set_nonblocking(true).expect("a socket that tokio can take");
        let address = listener.local_addr().expect("a bound socket has an address");
        let network = Arc::new(Network::default());
        let (alive, ended) = oneshot::channel();
        let shared = Arc::clone(&network);
        std::thread::spawn(move || run(listener, target, shared, ended));
        Self { address, network, _alive: alive }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Breaks every connection, and every new one as soon as it is made.
    pub fn cut(&self) {
        self.network.change(|weather| {
            weather.cut = true;
            weather.storms += 1;
        });
    }

    /// Breaks every connection that there is; new ones are forwarded.
    pub fn reset(&self) {
        self.network.change(|weather| weather.storms += 1);
    }

    /// Takes connections and forwards nothing, in neither direction, until [`heal`](Self::heal).
    pub fn stall(&self) {
        self.network.change(|weather| weather.stalled = true);
    }

    /// Holds back whatever comes, in both directions, by this much.
    pub fn delay(&self, by: Duration) {
        self.network.change(|weather| weather.delay = by);
    }

    /// Forwards everything again, and forgets the traps that did not close.
    pub fn heal(&self) {
        *self.network.trap() = Trap::default();
        self.network.change(|weather| {
            weather.cut = false;
            weather.stalled = false;
            weather.delay = Duration::ZERO;
        });
    }

    /// Forwards so many more bytes to the server, counted over all connections, and breaks the connection of the last one:
    /// the server has half a message. Once.
    pub fn cut_after(&self, bytes: usize) {
        *self.network.trap() = Trap { after: Some(bytes), ..Trap::default() };
    }

    /// Forwards the next message to the server and breaks its connection when the answer comes: the client does not know
    /// that it was heard. Once.
    pub fn lose_answer(&self) {
        self.lose_answer_to(b"");
    }

    /// As [`lose_answer`](Self::lose_answer), for the next message with these bytes in it, as in `COMMIT`.
    pub fn lose_answer_to(&self, bytes: &[u8]) {
        *self.network.trap() = Trap { answer_to: Some(bytes.into()), ..Trap::default() };
    }

    /// Whether a trap is set that did not close yet.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        let trap = self.network.trap();
        trap.after.is_some() || trap.answer_to.is_some()
    }
}

/// What all connections share.
#[derive(Debug, Default)]
struct Network {
    weather: watch::Sender<Weather>,
    trap: Mutex<Trap>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    cut: bool,
    stalled: bool,
    delay: Duration,
    /// How often all connections were broken.
    storms: u64,
}

/// What breaks one connection at a given byte or message.
#[derive(Debug, Default)]
struct Trap {
    after: Option<usize>,
    answer_to: Option<Box<[u8]>>,
}

impl Network {
    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    fn trap(&self) -> std::sync::MutexGuard<'_, Trap> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of a piece on its way to the server.
    fn fate(&self, piece: &[u8]) -> Fate {
        let mut trap = self.trap();
        if let Some(left) = trap.after {
            trap.after = left.checked_sub(piece.len()).filter(|left| *left > 0);
            return if trap.after.is_none() { Fate::CutAfter(left) } else { Fate::Forward };
        }
        match &trap.answer_to {
            Some(bytes) if contains(piece, bytes) => {
                trap.answer_to = None;
                Fate::LoseAnswer
            }
            _ => Fate::Forward,
        }
    }
}

enum Fate {
    Forward,
    CutAfter(usize),
    LoseAnswer,
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

fn run(listener: std::net::TcpListener, target: SocketAddr, network: Arc<Network>, ended: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("a socket that does not block");
        let mut connections = JoinSet::new();
        let serve = async {
            loop {
                tokio::select! {
                    client = listener.accept() => {
                        if let Ok((client, _)) = client {
                            connections.spawn(connection(client, target, Arc::clone(&network)));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        };
        tokio::select! {
            () = serve => {}
            _ = ended => {}
        }
    });
}

/// One connection, until either side ends it or the network does.
async fn connection(client: TcpStream, target: SocketAddr, network: Arc<Network>) {
    let mut weather = network.weather.subscribe();
    let (cut, storms) = {
        let now = weather.borrow_and_update();
        (now.cut, now.storms)
    };
    let _abrupt = client.set_zero_linger();
    if cut {
        return;
    }
    tokio::select! {
        _ = forward(client, target, &network) => {}
        _ = weather.wait_for(|now| now.storms != storms) => {}
    }
}

async fn forward(client: TcpStream, target: SocketAddr, network: &Network) -> std::io::Result<()> {
    let server = TcpStream::connect(target).await?;
    server.set_zero_linger()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client, server) = (client.into_split(), server.into_split());
    let doom = watch::Sender::new(false);
    tokio::select! {
        done = requests(client.0, server.1, network, &doom) => done,
        done = answers(server.0, client.1, network, &doom) => done,
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    network: &Network,
    doom: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = client.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        passage(network).await;
        match network.fate(&buffer[..count]) {
            Fate::Forward => {}
            Fate::CutAfter(left) => {
                server.write_all(&buffer[..left.min(count)]).await?;
                return Ok(());
            }
            Fate::LoseAnswer => doom.send_modify(|doomed| *doomed = true),
        }
        server.write_all(&buffer[..count]).await?;
    }
}

async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    network: &Network,
    doom: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = server.read(&mut buffer).await?;
        if count == 0 || *doom.borrow() {
            return Ok(());
        }
        passage(network).await;
        client.write_all(&buffer[..count]).await?;
    }
}

/// Waits as long as the weather wants it.
async fn passage(network: &Network) {
    let delay = network.weather.borrow().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let mut weather = network.weather.subscribe();
    let _always_there = weather.wait_for(|now| !now.stalled).await;
}
