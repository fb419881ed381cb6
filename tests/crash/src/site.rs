//! A folder with an engine's data, and the engine's process.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use till_loadgen::engine::Ready;

use crate::shim::Shim;

/// Longest wait for an engine to accept, to drain, or to acknowledge something.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often the engine is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of the engine's last words that are told.
const WORDS_MAX: usize = 4_000;
/// Files of the journal are small, so that many of them are made and sealed.
const SETTINGS: [(&str, &str); 3] = [
    ("TILLSTREAM_JOURNAL__SEGMENT_BYTES", "4MiB"),
    ("TILLSTREAM_JOURNAL__RESERVE_BYTES", "4MiB"),
    ("RUST_LOG", "warn"),
];

/// A folder with an engine's data.
#[derive(Debug)]
pub struct Site {
    program: PathBuf,
    folder: PathBuf,
    /// Between the engine and its disk.
    pub shim: Option<Shim>,
    settings: Vec<(String, String)>,
    /// Where the engine was at its first start, and is ever after: QUIC, admin.
    at: Option<(SocketAddr, String)>,
}

impl Site {
    /// A site in an empty folder for engines of this program.
    pub fn new(program: &Path, folder: &Path) -> Self {
        Self {
            program: program.to_path_buf(),
            folder: folder.to_path_buf(),
            shim: None,
            settings: Vec::new(),
            at: None,
        }
    }

    /// Starts its engines with this, as an environment variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Puts a shim below its engines.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn put_shim(&mut self, seed: u64) -> Result<()> {
        fs::create_dir_all(self.data())?;
        self.shim = Some(Shim::new(&self.data(), &self.folder.join("shim"), seed)?);
        Ok(())
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A file or folder beside the data.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts an engine; it accepts some time later.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&self) -> Result<Engine> {
        let ready = self.beside("ready.json");
        match fs::remove_file(&ready) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.beside("engine.log"))?;
        let (quic, admin) = match &self.at {
            Some((quic, admin)) => (quic.to_string(), admin.clone()),
            None => ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()),
        };
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--dev", "--until-stdin-closes", "--data"])
            .arg(self.data())
            .arg("--ready-file")
            .arg(&ready)
            .args(["--listen", &quic, "--admin", &admin])
            .envs(SETTINGS)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(shim) = &self.shim {
            shim.below(&mut command);
        }
        let child = command
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        Ok(Engine {
            child,
            ready,
            since: Instant::now(),
        })
    }

    /// Starts an engine and waits until it accepts; says how long that took. The first one chooses the ports for all.
    ///
    /// # Errors
    /// When it does not come up; the message holds its last words.
    pub fn start_up(&mut self) -> Result<(Engine, Duration)> {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut engine = self.start()?;
            match engine.wait() {
                Ok((ready, took)) => {
                    let admin = ready.admin.trim_start_matches("http://");
                    let admin = admin.trim_end_matches('/').to_owned();
                    self.at.get_or_insert((ready.quic, admin));
                    return Ok((engine, took));
                }
                // Somebody else of this machine was given the port meanwhile; they give it back.
                Err(_) if self.last_words().contains("in use") && Instant::now() < until => {
                    thread::sleep(Duration::from_millis(200));
                }
                Err(error) => {
                    let words = self.last_words();
                    return Err(error.context(format!("the engine's last words:\n{words}")));
                }
            }
        }
    }

    /// Where its engines take devices, and people.
    ///
    /// # Errors
    /// When none has come up yet.
    pub fn at(&self) -> Result<(SocketAddr, String)> {
        let (quic, admin) = self.at.as_ref().context("no engine has come up yet")?;
        Ok((*quic, format!("http://{admin}")))
    }

    /// What its engines said last.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.beside("engine.log")).unwrap_or_default();
        let from = log.len().saturating_sub(WORDS_MAX);
        let from = (from..=log.len()).find(|at| log.is_char_boundary(*at));
        log.get(from.unwrap_or(0)..).unwrap_or_default().to_owned()
    }

    /// Events that the running engine has acknowledged since its start; `None` when it does not answer.
    pub fn acked(&self) -> Option<u64> {
        let status = self.ask("/api/v1/status")?;
        status.pointer("/figures/events/acked")?.as_u64()
    }

    /// Why the running engine is not ready; `None` when it is, or does not say.
    pub fn unready(&self) -> Option<String> {
        let readiness = self.ask("/readyz")?;
        let reason = readiness.pointer("/reasons/0/reason")?;
        reason.as_str().map(ToOwned::to_owned)
    }

    fn ask(&self, path: &str) -> Option<Value> {
        let (_, admin) = self.at.as_ref()?;
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            // Readiness is red with a body.
            .http_status_as_error(false)
            .build()
            .into();
        let answer = agent.get(format!("http://{admin}{path}")).call();
        answer.ok()?.body_mut().read_json().ok()
    }
}

/// A process that is an engine, or becomes one. It is killed when dropped.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    ready: PathBuf,
    since: Instant,
}

impl Engine {
    /// How the process ended, if it has.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it accepts, and says how long that took.
    ///
    /// # Errors
    /// When it ends before, or takes longer than a minute.
    pub fn wait(&mut self) -> Result<(Ready, Duration)> {
        while self.since.elapsed() < PATIENCE {
            if let Ok(text) = fs::read_to_string(&self.ready) {
                let ready = serde_json::from_str(&text).context("the ready file")?;
                return Ok((ready, self.since.elapsed()));
            }
            if let Some(status) = self.ended()? {
                bail!("the engine ended with {status} before it accepted");
            }
            thread::sleep(LOOK);
        }
        bail!("the engine did not accept within {PATIENCE:?}")
    }

    /// Waits until it has ended by itself; `None` when it has not within some time.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn wait_end(&mut self, longest: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + longest;
        while Instant::now() < until {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            thread::sleep(LOOK);
        }
        Ok(None)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Ends it where it is, whatever it does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("kill -9")?;
        self.child.wait().context("wait for the killed engine")?;
        Ok(())
    }

    /// Asks it to drain, and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time, or with an error.
    pub fn drain(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        match self.wait_end(PATIENCE)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the engine drained and ended with {status}"),
            None => bail!("the engine did not drain in {PATIENCE:?}"),
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Files below a folder that its memory shows: nobody sees what is written to those.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn mapped(&self, folder: &Path) -> Result<Vec<String>> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.child.id()))?;
        let folder = folder.display().to_string();
        Ok(maps
            .lines()
            .filter(|line| line.contains(&folder))
            .map(str::to_owned)
            .collect())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Best effort on the way out: one that is gone already is what was wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
