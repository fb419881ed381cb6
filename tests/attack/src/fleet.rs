//! Honest devices: the load generator's fleet, as a process of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use till_tests::{command, text, wait_until};

use crate::Options;
use crate::ground::Ground;

/// What the fleet says once a second: when, and how many events were acknowledged in it.
type Seconds = Arc<Mutex<Vec<(Instant, f64)>>>;

/// A fleet that trades.
pub(crate) struct Fleet {
    child: Child,
    seconds: Seconds,
    complaints: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// What it came to.
pub(crate) struct FleetReport {
    /// Everything in the engine equals what was acknowledged.
    pub(crate) is_reconciled: bool,
    /// Its own words.
    pub(crate) told: String,
}

impl Fleet {
    pub(crate) fn start(ground: &Ground, options: &Options, duration: Duration) -> Result<Self> {
        let engine = &ground.engine;
        let mut child = Command::new(command("tillload")?)
            .args(["fleet", "--addr", &engine.quic.to_string()])
            .args(["--identity", text(&engine.identity)?])
            .args(["--admin", &engine.admin])
            .args(["--stores", "8", "--terminals", "5"])
            .args(["--rate", &options.rate.to_string()])
            .args(["--duration", &format!("{}s", duration.as_secs()), "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the honest fleet")?;
        let lines = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        let (seconds, complaints) = (Seconds::default(), Arc::<Mutex<String>>::default());
        let (told, said) = (Arc::clone(&seconds), Arc::clone(&complaints));
        let read = move || {
            for line in lines.map_while(Result::ok) {
                match per_s(&line) {
                    Some(per_s) => locked(&told).push((Instant::now(), per_s)),
                    None => locked(&said).push_str(&(line + "\n")),
                }
            }
        };
        let reader = std::thread::Builder::new().spawn(read)?;
        Ok(Self {
            child,
            seconds,
            complaints,
            reader: Some(reader),
        })
    }

    /// Waits until events flow.
    pub(crate) fn selling(&self) -> Result<()> {
        let has_begun = || Ok(!locked(&self.seconds).is_empty());
        wait_until("honest devices trade", has_begun)
            .with_context(|| locked(&self.complaints).clone())
    }

    /// Events a second that are acknowledged while something goes on.
    pub(crate) fn per_s_while(&self, duration: Duration, begin: impl FnOnce()) -> Result<f64> {
        self.selling()?;
        begin();
        let since = Instant::now();
        std::thread::sleep(duration);
        let seconds = locked(&self.seconds);
        let within: Vec<f64> = seconds
            .iter()
            .filter(|(at, _)| *at > since)
            .map(|(_, per_s)| *per_s)
            .collect();
        let count = u32::try_from(within.len())?;
        Ok(within.iter().sum::<f64>() / f64::from(count.max(1)))
    }

    /// Waits until the oracle has compared everything.
    pub(crate) fn report(mut self) -> Result<FleetReport> {
        let mut told = String::new();
        let mut out = self.child.stdout.take().context("no standard output")?;
        out.read_to_string(&mut told)?;
        self.child.wait()?;
        // A thread that failed has told what it read.
        drop(self.reader.take().map(JoinHandle::join));
        let said = locked(&self.complaints).clone();
        let value: Value = serde_json::from_str(&told)
            .with_context(|| format!("the honest fleet says {told:?}\n{said}"))?;
        Ok(FleetReport {
            is_reconciled: value.get("reconciled") == Some(&Value::Bool(true)),
            told: told + &said,
        })
    }
}

impl Drop for Fleet {
    /// Best effort on the way out: one that has ended is what was wanted.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

// `    3 s       4012 events/s  p99 ...`
fn per_s(line: &str) -> Option<f64> {
    let mut words = line.split_whitespace();
    let (_, seconds, number) = (words.next()?, words.next()?, words.next()?);
    (seconds == "s" && words.next()? == "events/s").then(|| number.parse().ok())?
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
