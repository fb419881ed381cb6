//! An engine as a process of its own: started, watched, drained.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Longest wait for an engine to accept: a long journal is replayed first.
const START_MAX: Duration = Duration::from_secs(300);
/// Longest wait for an engine to commit what it holds and stop.
const DRAIN_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);
/// The kernel reports CPU time in ticks of this many per second on every Linux platform.
const TICKS_PER_S: u32 = 100;

/// Gives the command that an engine is started with.
pub trait EngineStarter: Send + Sync {
    /// A command that becomes an engine once the arguments of `serve` are appended to it.
    ///
    /// # Errors
    /// Returns the error of looking the program up.
    fn command(&self) -> io::Result<Command>;
}

/// Starts the running program again as `PROGRAM serve ...`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SelfStarter;

impl EngineStarter for SelfStarter {
    fn command(&self) -> io::Result<Command> {
        Ok(Command::new(std::env::current_exe()?))
    }
}

/// Where people reach an engine that is started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AdminAt {
    /// At a free port of the loopback.
    #[default]
    Free,
    /// Where engines usually are, or at a free port when that is busy: the engine itself chooses, as it binds.
    Usual,
    /// Here.
    Chosen(SocketAddr),
}

/// What an engine is started with.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Its data folder, made if it is not there.
    pub data: PathBuf,
    /// Address of the QUIC port; a free port of the loopback when `None`.
    pub listen: Option<SocketAddr>,
    /// Address of the admin port.
    pub admin: AdminAt,
    /// Further arguments of `serve`.
    pub extra: Vec<String>,
}

/// Where an engine is reached, as it wrote it itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Ready {
    /// QUIC address.
    pub quic: SocketAddr,
    /// Base URL of the admin port.
    pub admin: String,
    /// PEM file that is authorised for every terminal.
    #[serde(default)]
    pub identity: PathBuf,
    /// Process id.
    pub pid: u32,
}

/// What a process used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time, in seconds.
    pub cpu_s: f64,
    /// Largest resident memory so far, in MiB.
    pub rss_mb: f64,
    /// Resident memory now, in MiB.
    pub rss_now_mb: f64,
    /// Bytes that it caused to be written to a disk.
    pub written_bytes: u64,
}

/// A running engine. It stops when this is dropped, and dies with this process however that ends.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    ready: Ready,
}

impl Engine {
    /// Starts an engine on a data folder and waits until it accepts.
    ///
    /// # Errors
    /// Fails when the process cannot be started, ends before it accepts, or takes longer than five minutes.
    pub fn start(starter: &dyn EngineStarter, options: &EngineOptions) -> Result<Self> {
        fs::create_dir_all(&options.data).with_context(|| {
            format!("could not make the data folder {}", options.data.display())
        })?;
        let ready_file = options.data.join("ready.json");
        if ready_file.exists() {
            fs::remove_file(&ready_file).context("could not remove an old ready file")?;
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut command = starter
            .command()
            .context("could not find the engine's program")?;
        command
            .args(["serve", "--dev", "--until-stdin-closes"])
            .arg("--data")
            .arg(&options.data)
            .arg("--ready-file")
            .arg(&ready_file)
            .arg("--listen")
            .arg(options.listen.unwrap_or(any).to_string())
            .args(&options.extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let admin = match options.admin {
            AdminAt::Free => Some(any),
            AdminAt::Usual => None,
            AdminAt::Chosen(address) => Some(address),
        };
        if let Some(address) = admin {
            command.arg("--admin").arg(address.to_string());
        }
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let mut child = command.spawn().context("could not start the engine")?;
        let ready = wait_ready(&mut child, &ready_file);
        if ready.is_err() {
            // Reaped here, so that a failed start leaves no process behind.
            child.kill().ok();
            child.wait().ok();
        }
        Ok(Self {
            child,
            ready: ready?,
        })
    }

    /// Where it is reached.
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it used so far.
    ///
    /// # Errors
    /// Fails when the process has ended.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.child.id())
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it at once, as a power cut would.
    ///
    /// # Errors
    /// Fails when it cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("could not kill the engine")?;
        self.child.wait().context("could not wait for the engine")?;
        Ok(())
    }

    /// Asks it to stop and waits until it has committed everything and ended.
    ///
    /// # Errors
    /// Fails when it ends with an error or does not end within two minutes.
    pub fn drain(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        match wait_end(&mut self.child, DRAIN_MAX)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the engine ended with {status}"),
            None => bail!("the engine did not stop within {} s", DRAIN_MAX.as_secs()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if matches!(wait_end(&mut self.child, DRAIN_MAX), Ok(Some(_))) {
            return;
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn wait_ready(child: &mut Child, file: &Path) -> Result<Ready> {
    let until = Instant::now() + START_MAX;
    loop {
        if let Ok(text) = fs::read_to_string(file) {
            return serde_json::from_str(&text)
                .with_context(|| format!("{} is not a ready file", file.display()));
        }
        if let Some(status) = child.try_wait().context("could not watch the engine")? {
            bail!("the engine ended with {status} before it accepted; its last words stand above");
        }
        if Instant::now() > until {
            bail!("the engine did not accept within {} s", START_MAX.as_secs());
        }
        thread::sleep(POLL);
    }
}

fn wait_end(child: &mut Child, longest: Duration) -> Result<Option<std::process::ExitStatus>> {
    let until = Instant::now() + longest;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().context("could not wait for the engine")? {
            return Ok(Some(status));
        }
        thread::sleep(POLL);
    }
    Ok(None)
}

/// Finds the engine behind an identity file made by `serve --dev`: it writes its addresses beside its keys.
///
/// Gives `None` where no such file lies near the identity.
pub fn beside(identity: &Path) -> Option<Ready> {
    identity.ancestors().skip(1).take(3).find_map(|folder| {
        let text = fs::read_to_string(folder.join("engine.json")).ok()?;
        serde_json::from_str(&text).ok()
    })
}

/// What a process used so far, from `/proc`.
///
/// # Errors
/// Fails when there is no such process, or the system has no `/proc`.
pub fn usage(pid: u32) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| format!("could not read {path}"))
    };
    // Another user's counters, or a kernel without them, cost one figure, not the run.
    let io = read("io").unwrap_or_default();
    let status = read("status")?;
    let mb = |name: &str| field(&status, name).map_or(0.0, |kib| to_f64(kib) / 1_024.0);
    Ok(Usage {
        cpu_s: cpu_s(&read("stat")?).context("/proc/PID/stat has another form than expected")?,
        rss_mb: mb("VmHWM:"),
        rss_now_mb: mb("VmRSS:"),
        written_bytes: field(&io, "write_bytes:").unwrap_or(0),
    })
}

fn cpu_s(stat: &str) -> Option<f64> {
    // The name of the program stands in brackets and may hold anything; user and system time are fields 14 and 15.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(to_f64(user + system) / f64::from(TICKS_PER_S))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
}

/// A count as a float, for figures that people read.
#[expect(clippy::as_conversions, reason = "figures for people may be rounded")]
pub(crate) const fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
