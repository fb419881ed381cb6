//! Many seeds, and what they came to.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::coverage::{Coverage, Sight};
use crate::mistake::{Mistake, plant};
use crate::world::{Outcome, run as run_world};

/// Seeds from which on every rare situation must have occurred.
const COVERED_FROM: u64 = 1_000;

/// Which worlds to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The first seed.
    pub first_seed: u64,
    /// How many.
    pub seeds: u64,
    /// Threads that share them.
    pub threads: usize,
    /// A mistake that they all make; the run then ends with the first seed that shows it.
    pub planted: Option<Mistake>,
}

/// What they came to.
#[derive(Debug, Default)]
pub struct Report {
    first_seed: u64,
    /// Worlds that were run.
    pub seeds: u64,
    simulated_us: u64,
    happened: u64,
    steps: u64,
    crashes: u64,
    faults: BTreeMap<&'static str, u64>,
    coverage: Coverage,
    /// Seed, invariant and how it was broken.
    pub violations: Vec<(u64, &'static str, String)>,
    hashes: BTreeMap<u64, u64>,
    seconds: f64,
    /// The mistake that all of them made.
    pub planted: Option<&'static str>,
    /// The build has no planted mistakes.
    pub is_bare: bool,
}

/// Runs the worlds.
pub fn run(options: Options) -> Report {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let is_found = AtomicBool::new(false);
    let report = Mutex::new(Report {
        first_seed: options.first_seed,
        planted: options.planted.map(|mistake| mistake.name),
        ..Report::default()
    });
    let work = || {
        let is_able = plant(options.planted);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let is_done = is_found.load(Ordering::Relaxed) && options.planted.is_some();
            if number >= options.seeds || is_done || !is_able {
                break;
            }
            let seed = options.first_seed + number;
            let outcome = run_world(seed);
            is_found.fetch_or(outcome.violation.is_some(), Ordering::Relaxed);
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.add(seed, outcome);
        }
        report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_bare |= !is_able;
        plant(None);
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads {
            scope.spawn(work);
        }
        work();
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.seconds = began.elapsed().as_secs_f64();
    report.violations.sort_unstable();
    report
}

impl Report {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.simulated_us += outcome.simulated_us;
        self.happened += outcome.happened;
        self.steps += outcome.steps;
        self.crashes += outcome.crashes;
        for (kind, times) in outcome.faults {
            *self.faults.entry(kind).or_default() += times;
        }
        self.coverage.add(&outcome.coverage);
        self.hashes.insert(seed, outcome.hash);
        if let Some(broken) = outcome.violation {
            self.violations.push((seed, broken.id, broken.what));
        }
    }

    /// Situations that no seed had, where there were enough seeds to have them all.
    pub fn uncovered(&self) -> Vec<&'static str> {
        if self.seeds < COVERED_FROM || self.planted.is_some() {
            return Vec::new();
        }
        self.coverage.missing()
    }

    /// Whether every world made a mistake on purpose and none showed it.
    pub const fn has_survivor(&self) -> bool {
        self.planted.is_some() && self.violations.is_empty()
    }

    /// A number that is the same whenever the same worlds are run.
    pub fn trace_hash(&self) -> u64 {
        let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
        for (seed, hash) in &self.hashes {
            sum = (sum ^ seed ^ hash)
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(31);
        }
        sum
    }

    /// Everything, for machines.
    pub fn to_json(&self) -> Value {
        let violations = self.violations.iter();
        let violations: Vec<Value> = violations
            .map(|(seed, id, what)| json!({ "seed": seed, "invariant": id, "what": what }))
            .collect();
        let covered = Sight::ALL.iter();
        let covered: BTreeMap<_, _> = covered
            .map(|sight| (sight.name(), self.coverage.times(*sight)))
            .collect();
        json!({
            "first_seed": self.first_seed,
            "seeds": self.seeds,
            "simulated_hours": hours(self.simulated_us),
            "events": self.happened,
            "steps": self.steps,
            "crashes": self.crashes,
            "faults": self.faults,
            "violations": violations,
            "coverage": covered,
            "uncovered": self.uncovered(),
            "planted": self.planted,
            "survived": self.planted.map(|_| self.has_survivor()),
            "trace_hash": format!("{:016x}", self.trace_hash()),
            "seconds": rounded(self.seconds),
            "seeds_per_s": per_second(self.seeds, self.seconds),
        })
    }
}

fn hours(us: u64) -> f64 {
    hundredths(us / 36_000_000)
}

fn per_second(count: u64, seconds: f64) -> f64 {
    rounded(hundredths(count) * 100.0 / seconds.max(0.001))
}

fn hundredths(figure: u64) -> f64 {
    f64::from(u32::try_from(figure).unwrap_or(u32::MAX)) / 100.0
}

fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}
