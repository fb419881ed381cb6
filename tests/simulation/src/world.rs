//! A world: one engine, its disk and rows, the tills, the network between them, and a clock that only this file moves.
//!
//! Everything that happens is an event with a time. Chance comes from the seed alone, so that a seed gives the same world
//! again.

mod faults;
mod member;
mod node;
mod tills;
mod wire;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::coverage::{Coverage, Sight};
use crate::oracle::{Oracle, Violation};
use crate::plan::{MS, Plan, SECOND};
use crate::rng::Rng;

use member::{Member, Shared};
use node::Node;
use tills::Till;
use wire::Conn;

/// How long after the last trouble everything must be as if there had been none.
const PATIENCE: u64 = 240 * SECOND;
/// How long after the last trouble an operator releases what still has no place: devices have come by then.
const RELEASED_AFTER: u64 = 60 * SECOND;
/// Events of one world beyond which it runs in circles.
const EVENTS_MAX: u64 = 400_000;

/// Something that happens.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Event {
    /// At a till.
    Happen(usize),
    /// A till syncs its outbox.
    Sync(usize),
    /// A till tries to reach the engine.
    Connect(usize),
    /// A till's session wants to be looked at again.
    Tick(usize),
    /// Bytes arrive at the engine.
    In(u64),
    /// Bytes arrive at a till.
    Out(u64),
    /// The engine learns that a connection is gone.
    GoneAtEngine(u64),
    /// A till learns it.
    GoneAtTill(u64),
    /// A connection is cut.
    Cut(u64),
    /// The journal's turn, at an engine.
    Commit(usize),
    /// A flush begins.
    Flush(usize),
    /// Rows are written.
    Write(usize),
    /// Indexes and retention.
    Upkeep(usize),
    /// The engine's process ends.
    Crash(usize),
    /// It starts again.
    Start(usize),
    /// A shard fails.
    ShardCrash(usize),
    /// The engine's clock leaps.
    Leap(usize),
    /// The disk has no room, or has room again.
    Fill(usize),
    Free(usize),
    /// A file of the disk cannot be read, or can be read again.
    Blind(usize),
    Mend(usize),
    /// An operator wants what was quarantined decided again.
    Retry(usize),
    /// An operator looks at records that have no place.
    Release,
    /// Of an engine among others: its clock's turn, that of what is handed off, a call to the shared store that takes effect,
    /// and its answer.
    Clock(usize),
    Tend(usize),
    Ask(usize, u64),
    Deliver(usize, u64),
    /// Shards of an engine hear what they have put away.
    DeliverTogether(usize),
    /// A change of the shared store comes late.
    Late(u64),
    /// Rows of the shared store make no sense, or make sense again.
    Damage,
    Repair,
    /// An engine does not reach the shared store for a while.
    Cutoff(usize),
    Reach(usize),
    /// An engine's process stands still for a while.
    Freeze(usize),
    /// An engine is lost with its disk.
    Burn(usize),
    /// Some tills do not reach the engine for a while.
    Part,
    Heal,
    /// A till crashes and starts again.
    TillCrash(usize),
    TillStart(usize),
    /// An image is made of a till, and put back.
    Image(usize),
    Restore(usize),
    /// A till's outbox is copied, and another device goes on from it as well.
    Copy(usize),
    /// The next step of two tills that go on from one outbox which the engine does not know.
    Twins(usize, u8),
    /// The next step of a till that is put back while an engine is down with what it has sent.
    Rewind(usize, u8),
    /// A till is offline, and online again.
    Offline(usize),
    Online(usize),
    /// A till is lost for good.
    Lost(usize),
    /// Nothing goes wrong any more.
    Calm,
    /// Is everything settled?
    Look,
}

/// What a world came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    pub(crate) simulated_us: u64,
    /// Events at tills.
    pub(crate) happened: u64,
    /// Steps of the world.
    pub(crate) steps: u64,
    pub(crate) crashes: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) coverage: Coverage,
    pub(crate) hash: u64,
}

/// One world.
struct World {
    plan: Plan,
    rng: Rng,
    now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    tills: Vec<Till>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    nodes: Vec<Node>,
    /// What the engines of a cluster share.
    shared: Option<Shared>,
    /// Of this store alone rows made no sense to an engine that speaks now: devices of others must not suffer from it.
    spared_but: Option<u32>,
    /// The last epoch of each terminal under which a record was released.
    released: BTreeMap<u64, u32>,
    oracle: Oracle,
    coverage: Coverage,
    faults: BTreeMap<&'static str, u64>,
    is_calm: bool,
    is_over: bool,
    /// Times that events have.
    times: std::collections::BTreeSet<i64>,
    began: Instant,
    steps: u64,
    hash: u64,
}

/// Runs the world of a seed to its end.
pub(crate) fn run(seed: u64) -> Outcome {
    let mut world = World::new(seed);
    world.schedule();
    world.live();
    world.outcome()
}

impl World {
    fn new(seed: u64) -> Self {
        let plan = Plan::of(seed);
        let mut rng = Rng::new(seed);
        let nodes = plan.cluster.map_or(1, |cluster| cluster.nodes);
        let nodes = (0..nodes).map(|_| Node::new(&plan, &mut rng));
        let mut nodes: Vec<Node> = nodes.collect();
        let shared = plan.cluster.map(|cluster| Shared::new(&cluster, &mut rng));
        if let Some(shared) = &shared {
            for (number, node) in nodes.iter_mut().enumerate() {
                node.member = Some(Member::new(number, &shared.store, &mut rng));
            }
        }
        let tills = (0..plan.devices).filter_map(|number| Till::new(number, &plan, &mut rng));
        let tills = tills.collect();
        let mut oracle = Oracle::default();
        oracle.is_excused = plan.is_excused();
        oracle.is_clustered = plan.cluster.is_some();
        Self {
            rng,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            tills,
            conns: BTreeMap::new(),
            next_conn: 1,
            nodes,
            shared,
            spared_but: None,
            released: BTreeMap::new(),
            oracle,
            coverage: Coverage::default(),
            faults: BTreeMap::new(),
            is_calm: false,
            is_over: false,
            times: std::collections::BTreeSet::new(),
            began: Instant::now(),
            steps: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            plan,
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.queue.insert((time.max(self.now), self.order), event);
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    fn live(&mut self) {
        while let Some(((time, order), event)) = self.queue.pop_first() {
            self.now = time;
            self.steps += 1;
            self.note(&[time, order]);
            self.step(event);
            if self.is_over || self.oracle.error.is_some() {
                return;
            }
            if self.steps > EVENTS_MAX {
                let ahead: Vec<_> = self.queue.iter().take(6).collect();
                let what = format!("{EVENTS_MAX} steps, and no end at {time} us: {ahead:?}");
                return self.oracle.fail("LIV-1", what);
            }
        }
        self.oracle
            .fail("LIV-1", "nothing happens any more".to_owned());
    }

    // An event of an engine that stands still waits for it.
    fn step(&mut self, event: Event) {
        if let Some(n) = self.engine_of(event) {
            let until = self.nodes[n].frozen_until;
            if until > self.now {
                return self.at(until, event);
            }
            if self.shared.is_some() {
                self.advance_time(n);
            }
        }
        self.take_place(event);
    }

    fn engine_of(&self, event: Event) -> Option<usize> {
        match event {
            Event::Commit(n)
            | Event::Flush(n)
            | Event::Upkeep(n)
            | Event::ShardCrash(n)
            | Event::Retry(n)
            | Event::Clock(n)
            | Event::Tend(n)
            | Event::Deliver(n, _)
            | Event::DeliverTogether(n) => Some(n),
            Event::In(conn) | Event::GoneAtEngine(conn) => {
                self.conns.get(&conn).map(|conn| conn.node)
            }
            _ => None,
        }
    }

    fn take_place(&mut self, event: Event) {
        match event {
            Event::Happen(till) => self.happen(till),
            Event::Sync(till) => self.sync_till(till),
            Event::Connect(till) => self.connect(till),
            Event::Tick(till) => self.tick(till),
            Event::In(conn) => self.arrives_at_engine(conn),
            Event::Out(conn) => self.arrives_at_till(conn),
            Event::GoneAtEngine(conn) => self.gone_at_engine(conn),
            Event::GoneAtTill(conn) => self.gone_at_till(conn),
            Event::Cut(conn) => self.cut(conn),
            Event::Commit(n) => self.commit(n),
            Event::Flush(n) => self.flush(n),
            Event::Write(n) => self.write_rows(n),
            Event::Upkeep(n) => self.upkeep(n),
            Event::Crash(n) => self.crash(n),
            Event::Start(n) => self.start(n),
            Event::ShardCrash(n) => self.crash_shard(n),
            Event::Leap(n) => self.leap(n),
            Event::Fill(n) => self.fill(n),
            Event::Free(n) => self.free(n),
            Event::Retry(n) => self.retry(n),
            Event::Release => self.release(),
            Event::Blind(n) => self.blind(n),
            Event::Mend(n) => self.mend(n),
            Event::Clock(n) => self.clock(n),
            Event::Tend(n) => self.tend(n),
            Event::Ask(n, call) => self.ask(n, call),
            Event::Deliver(n, call) => self.read_store_news(n, call),
            Event::DeliverTogether(n) => self.deliver_together(n),
            Event::Late(write) => self.late(write),
            Event::Damage => self.damage(),
            Event::Repair => self.repair(),
            Event::Cutoff(n) => self.cut_off(n),
            Event::Reach(n) => self.reach(n),
            Event::Freeze(n) => self.freeze(n),
            Event::Burn(n) => self.burn(n),
            Event::Part => self.part(),
            Event::Heal => self.heal(),
            Event::TillCrash(till) => self.till_crash(till),
            Event::TillStart(till) => self.till_start(till),
            Event::Image(till) => self.image(till),
            Event::Copy(till) => self.copy(till),
            Event::Restore(till) => self.restore(till),
            Event::Twins(till, step) => self.twins(till, step),
            Event::Rewind(till, step) => self.rewind(till, step),
            Event::Offline(till) => self.offline(till),
            Event::Online(till) => self.online(till),
            Event::Lost(till) => self.lost(till),
            Event::Calm => self.calm(),
            Event::Look => self.look(),
        }
    }

    /// Something that belongs to the trace.
    fn note(&mut self, words: &[u64]) {
        for word in words {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(29);
        }
    }

    fn fault(&mut self, kind: &'static str) {
        self.faulted(kind, 1);
    }

    fn faulted(&mut self, kind: &'static str, times: u64) {
        if times > 0 {
            *self.faults.entry(kind).or_default() += times;
        }
    }

    fn saw(&mut self, sight: Sight) {
        self.coverage.saw(sight);
    }

    /// The moment, as a device's session wants it.
    fn instant(&self) -> Instant {
        self.began + Duration::from_micros(self.now)
    }

    /// The time of day, were all clocks right.
    fn wall(&self) -> i64 {
        self.plan.began_us.saturating_add_unsigned(self.now)
    }

    // From here on every device is to reach the engine, and every event its rows.
    fn calm(&mut self) {
        self.is_calm = true;
        for n in 0..self.nodes.len() {
            self.nodes[n].calm();
            self.nodes[n].frozen_until = 0;
            self.reach(n);
        }
        if let Some(shared) = &self.shared {
            shared.store.calm();
        }
        self.heal();
        let conns: Vec<u64> = self.conns.keys().copied().collect();
        for conn in conns {
            self.cut(conn);
        }
        for till in 0..self.tills.len() {
            self.tills[till].is_online = true;
            if !self.tills[till].is_on() {
                self.till_start(till);
            }
            self.after(2 * SECOND, Event::Connect(till));
        }
        // One last loss of power: what was acknowledged must outlive it.
        for n in 0..self.nodes.len() {
            let turn = u64::try_from(n).unwrap_or(0);
            self.after((1 + 3 * turn) * SECOND, Event::Crash(n));
        }
        if self.plan.release_every > 0 {
            self.after(RELEASED_AFTER, Event::Release);
        }
        self.after(10 * SECOND, Event::Look);
    }

    fn look(&mut self) {
        if self.is_quiet() && !self.has_retried() {
            self.finish();
            self.is_over = true;
            return;
        }
        if self.now > self.plan.calm_at + PATIENCE {
            let waiting: Vec<String> = self.tills.iter().filter_map(Till::waits_for).collect();
            let engines: Vec<String> = self.nodes.iter().map(Node::words).collect();
            let shared = self.shared.as_ref().map(Shared::words);
            let what =
                format!("not settled after {PATIENCE} us: {waiting:?}, {engines:?}, {shared:?}");
            self.oracle.fail("LIV-1", what);
            return;
        }
        self.after(5 * SECOND, Event::Look);
        for n in 0..self.nodes.len() {
            if self.nodes[n].engine.is_some() {
                self.want_flush(n, 10 * MS);
            }
        }
    }

    fn outcome(mut self) -> Outcome {
        self.count_faults();
        let released = self.oracle.released_that_count();
        self.coverage.saw_times(Sight::ReleasedCounts, released);
        let (log, read) = (self.oracle.log.len(), self.oracle.read_upto);
        self.note(&[u64::try_from(log).unwrap_or(0), read]);
        Outcome {
            simulated_us: self.now,
            happened: u64::try_from(self.oracle.truths.len()).unwrap_or(0),
            steps: self.steps,
            crashes: self.nodes.iter().map(|node| node.crashes).sum(),
            violation: self.oracle.error.take(),
            faults: self.faults,
            coverage: self.coverage,
            hash: self.hash,
        }
    }
}
