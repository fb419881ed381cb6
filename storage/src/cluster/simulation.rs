//! A simulated cluster: several nodes, a store that loses answers, devices. One seed is one world; a seed that fails is
//! printed, and `TILL_SEED` replays it alone; `TILL_SEEDS` sets how many are tried.

mod constraints;
mod driver;
mod node;
mod oracle;
mod rng;
mod store;
#[cfg(test)]
mod tests;
mod traffic;
mod world;

use rng::Rng;
use world::{Event, SlotWorld};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
const NODES_MAX: usize = 8;

/// Something done wrong on purpose: the simulation has to find each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mistake {
    /// A commit is not conditional on the epoch.
    CommitWithoutEpoch,
    /// Taking a slot is not conditional on the epoch.
    AcquireWithoutEpoch,
    /// An unknown outcome is taken for a success.
    UnknownIsSuccess,
    /// The rows are written along with the log.
    RowsBeforeCommit,
    /// Who takes a slot does not write the rows of its last flush again.
    NoRestore,
    /// Rows are stamped with the time of day.
    StampByClock,
    /// The next flush is committed while rows of the one before may be missing.
    CommitBeforeRows,
    /// The lease is measured with the time of day, which jumps.
    WallClockLease,
    /// A suspended node goes on serving.
    ServeSuspended,
    /// A log is deleted with its own commit, not with the next.
    DeleteLogEarly,
    /// Devices are told when the log is written.
    NotifyBeforeCommit,
    /// A node that returns keeps what it has journalled to itself.
    ForgetBacklog,
}

/// What a world is made of. Times in us.
#[derive(Clone, Copy)]
struct SimPlan {
    salt: u64,
    nodes: usize,
    slots: u32,
    devices: u32,
    lease: u64,
    /// How often a device sends.
    pace: u64,
    /// From when on nothing goes wrong any more and no event is made.
    calm_at: u64,
    end: u64,
    mistake: Option<Mistake>,
}

impl SimPlan {
    fn id(&self, node: usize, incarnation: u32) -> crate::cluster::NodeId {
        node::id_of(node, incarnation, self.salt)
    }
}

/// How often things go wrong, in a thousand.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// A message or plain write is lost, or comes late.
    lost: u64,
    /// A conditional write has an unknown outcome.
    unknown: u64,
    slow: u64,
    /// A plain read of a slot shows what was before.
    stale: u64,
}

/// A world with all kinds of trouble, each seed with its own share of it.
fn trouble(seed: u64, mistake: Option<Mistake>) -> SlotWorld {
    let mut rng = Rng::new(seed ^ 0x7161);
    let mut some = |most: u64| {
        if rng.chance(250) {
            0
        } else {
            rng.within(1, most)
        }
    };
    let faults = Faults {
        lost: some(120),
        unknown: some(250),
        slow: some(100),
        stale: some(200),
    };
    let plan = SimPlan {
        salt: rng.next(),
        nodes: rng.below(3) + 2,
        slots: u32::try_from(rng.within(2, 6)).unwrap(),
        devices: u32::try_from(rng.within(3, 9)).unwrap(),
        lease: 2 * SECOND,
        pace: 300 * MS,
        calm_at: 10 * SECOND,
        end: 26 * SECOND,
        mistake,
    };
    let mut world = SlotWorld::new(seed, plan, faults);
    let is_any_lost = rng.chance(250);
    for node in 0..plan.nodes {
        let start = if rng.chance(250) {
            rng.within(0, 8 * SECOND)
        } else {
            0
        };
        world.at(start, Event::Start(node));
        for _ in 0..rng.below(3) {
            let at = rng.within(0, plan.calm_at);
            let event = match rng.below(3) {
                0 if node == 1 && is_any_lost => Event::Crash(node, None),
                0 => Event::Crash(node, Some(rng.within(50 * MS, 8 * SECOND))),
                1 => Event::Pause(node, at + rng.within(100 * MS, 6 * SECOND)),
                _ => {
                    let by = i64::try_from(rng.within(0, 7_200)).unwrap() - 3_600;
                    Event::Jump(node, by * 1_000_000)
                }
            };
            world.at(at, event);
        }
    }
    for device in 0..plan.devices {
        if rng.chance(250) {
            world.device(device).gone_at = rng.within(SECOND, plan.calm_at);
        }
        world.at(rng.within(0, SECOND), Event::Device(device));
    }
    if rng.chance(500) {
        let count = 1 + rng.below(8);
        world.constraint(&mut rng, count, plan.calm_at);
    }
    world.at(plan.calm_at, Event::Calm);
    world
}

/// A world without trouble but the one that is asked for.
fn quiet(seed: u64, nodes: usize, slots: u32) -> SlotWorld {
    let plan = SimPlan {
        salt: Rng::new(seed).next(),
        nodes,
        slots,
        devices: slots,
        lease: 5 * SECOND,
        pace: 500 * MS,
        calm_at: 60 * SECOND,
        end: 70 * SECOND,
        mistake: None,
    };
    let mut world = SlotWorld::new(seed, plan, Faults::default());
    for device in 0..slots {
        world.at(u64::from(device) * MS, Event::Device(device));
    }
    world
}

/// Runs a world with trouble to its end. What was seen on the way, or what is wrong.
fn judge(seed: u64, mistake: Option<Mistake>) -> Result<SlotWorld, String> {
    let mut world = trouble(seed, mistake);
    world.run(world.plan.end);
    if world.oracle.error.is_none() {
        world.settled();
    }
    match world.oracle.error.take() {
        Some(error) => Err(format!("at {} us: {error}", world.now)),
        None => Ok(world),
    }
}

impl SlotWorld {
    /// Long after the last trouble everything is as if there had been none.
    fn settled(&mut self) {
        let slots = self.plan.slots;
        if let Some(error) = self.misdealt() {
            self.oracle.fail(error);
        }
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let mut hosts = processes.flat_map(|process| &process.hosts);
        if let Some((slot, _)) = hosts.find(|(_, host)| !host.pending.is_empty()) {
            self.oracle
                .fail(format!("slot {slot} has events that are not committed"));
        }
        for slot in 0..slots {
            self.oracle.compare(&self.store, slot, "at the end");
        }
        for (number, device) in (0..).zip(&self.devices) {
            let slot = number % slots;
            let is_whole = (1..=device.made).all(|seq| self.oracle.has(slot, number, seq));
            if device.gone_at == u64::MAX && (!is_whole || device.committed != device.made) {
                let at = &self.nodes[device.at];
                let what = format!(
                    "device {number} made {}, {} committed, last at node {} (gone: {})",
                    device.made, device.committed, at.number, at.is_lost
                );
                self.oracle.fail(what);
            }
        }
        let kept = self.nodes.iter().filter(|node| !node.is_lost);
        for (device, seq) in kept
            .flat_map(|node| &node.journal)
            .flat_map(|(d, seqs)| seqs.iter().map(move |s| (*d, *s)))
            .collect::<Vec<_>>()
        {
            if !self.oracle.has(device % slots, device, seq) {
                self.oracle.fail(format!(
                    "event {seq} of device {device} lies in a journal alone"
                ));
            }
        }
        if self.store.logs() > usize::try_from(slots).unwrap() * 4 {
            self.oracle.seen.insert("logs left over");
        }
    }
}
