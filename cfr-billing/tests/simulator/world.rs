//! One schedule: what happens, in which order, as the seed says.

use std::collections::BTreeMap;

use super::node::{Hold, Node, Settlement};
use super::random::Random;
use super::store::Store;
use super::{Account, Config, KEYS_PER_USER, Millis, Path, Request, USERS, oracle, path_of};

/// Clocks differ by at most so many parts per million, either way.
const DRIFT_PPM_MAX: u64 = 200;
/// The invariants are checked after so many steps.
const CHECK_EVERY_STEPS: u64 = 4;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) now: Millis,
    pub(crate) store: Store,
    pub(crate) nodes: Vec<Node>,
    /// Every request that an upstream was called for.
    pub(crate) served: BTreeMap<Request, Served>,
    random: Random,
    tally: Tally,
}

/// What the upstream knows.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) path: Path,
    /// Whether its node died before the charge was durable.
    pub(crate) lost: bool,
}

/// What happened in a schedule.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) admitted: u64,
    pub(crate) denied: u64,
    /// What prices exceeded charges by.
    pub(crate) absorbed: i64,
    /// What was settled on the tenant after its lease was reclaimed.
    pub(crate) late: i64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.denied += other.denied;
        self.absorbed += other.absorbed;
        self.late += other.late;
    }
}

/// Plays the schedule of a seed; the error says which invariant broke, when and how.
pub(crate) fn play(config: &Config, seed: u64, steps: u64) -> Result<Tally, String> {
    let mut world = World::new(config.clone(), seed);
    for step in 0..steps {
        world.step();
        if step % CHECK_EVERY_STEPS == 0 {
            oracle::check(&world).map_err(|broken| format!("step {step}, {} ms: {broken}", world.now))?;
        }
    }
    world.come_to_rest();
    oracle::check_at_rest(&world).map_err(|broken| format!("at rest: {broken}"))?;
    world.tally.late = world.store.late[0];
    Ok(world.tally)
}

impl World {
    fn new(config: Config, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let drift =
            |random: &mut Random| random.below(2 * DRIFT_PPM_MAX + 1).cast_signed() - DRIFT_PPM_MAX.cast_signed();
        let nodes = (0..config.nodes).map(|position| Node::new(position, drift(&mut random))).collect();
        let (store, served) = (Store::new(&config), BTreeMap::new());
        Self { config, now: 1_000_000, store, nodes, served, random, tally: Tally::default() }
    }

    fn step(&mut self) {
        self.now += self.random.below(20);
        let node = self.random.position_below(self.nodes.len());
        match self.random.below(100) {
            0..45 => self.request(node),
            45..75 => self.complete(node),
            75..87 => self.flush(node),
            87..91 => self.renew(node),
            91..94 => self.give_back(node),
            94..96 => self.store.reclaim(self.now, &self.config),
            96 => self.kill(node),
            97 => self.restart(node),
            98 => self.partition(node),
            _ => self.now += self.random.below(self.config.ttl_ms),
        }
    }

    fn request(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        let hold = self.random_hold();
        let (request, path) = (self.served.len() as Request, hold.path);
        if self.nodes[node].admit(request, hold, &mut self.store, self.now, &self.config) {
            self.served.insert(request, Served { path, lost: false });
            self.tally.admitted += 1;
        } else {
            self.tally.denied += 1;
        }
    }

    fn random_hold(&mut self) -> Hold {
        let random = &mut self.random;
        let path = path_of(random.position_below(USERS * KEYS_PER_USER));
        let amount = 50 + random.amount_below(400);
        let price = if random.happens(self.config.overrun_permille) {
            amount + random.amount_below(100)
        } else {
            random.amount_below(amount + 1)
        };
        let ends_at = self.now + 1 + random.below(self.config.request_ms_max);
        Hold { path, amount, price, ends_at, epoch: 0 }
    }

    fn complete(&mut self, node: usize) {
        // A dead node has no holds.
        self.tally.absorbed += self.nodes[node].complete(self.now, &self.config);
    }

    fn flush(&mut self, node: usize) {
        let (twice, acknowledged) = (self.random.happens(100), !self.random.happens(150));
        if self.nodes[node].reaches_store(self.now) {
            self.nodes[node].flush(&mut self.store, twice, acknowledged, &self.config);
        }
    }

    fn renew(&mut self, node: usize) {
        if self.nodes[node].reaches_store(self.now) {
            self.nodes[node].renew(&mut self.store, self.now, &self.config);
        }
    }

    fn give_back(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let accounts: Vec<Account> = node.rights.keys().copied().collect();
        if node.reaches_store(self.now) && node.outbox.is_empty() && !accounts.is_empty() {
            let account = accounts[self.random.position_below(accounts.len())];
            node.give_back(account, &mut self.store, self.now);
        }
    }

    /// The charges of what was in flight, or not yet in the store, are lost to the operator.
    fn kill(&mut self, node: usize) {
        if !self.random.happens(200) {
            return;
        }
        let node = &mut self.nodes[node];
        let unflushed = node.outbox.iter().map(|settlement| settlement.request);
        let unknown = unflushed.filter(|request| !self.store.charges.contains_key(request));
        for request in node.holds.keys().copied().chain(unknown) {
            self.served.entry(request).and_modify(|served| served.lost = true);
        }
        node.kill();
    }

    fn restart(&mut self, node: usize) {
        if !self.nodes[node].alive {
            self.nodes[node].restart();
        }
    }

    fn partition(&mut self, node: usize) {
        if self.random.happens(150) {
            self.nodes[node].partitioned_until = self.now + self.random.below(self.config.partition_ms_max);
        }
    }

    /// Every partition heals, every request ends, everything is flushed, every lease expires.
    fn come_to_rest(&mut self) {
        for node in &mut self.nodes {
            let open = std::mem::take(&mut node.holds).into_iter();
            node.outbox.extend(open.map(|(request, hold)| Settlement {
                request,
                path: hold.path,
                charge: hold.price.min(hold.amount),
                epoch: hold.epoch,
            }));
            for settlement in node.outbox.drain(..) {
                self.store.settle(node.position, &settlement, self.config.mutant);
            }
        }
        let Config { ttl_ms, request_ms_max, grace_ms, .. } = self.config;
        self.now += 100 * (ttl_ms + request_ms_max + grace_ms);
        self.store.reclaim(self.now, &self.config);
    }
}
