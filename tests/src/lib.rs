//! What the end-to-end tests share: the built commands and a running engine.
//!
//! Tests start real processes and talk to them as a device or a person would. What a test starts, it stops, by its id.

mod answers;
pub mod basket;
pub mod cards;
mod cql_proxy;
mod engine;
mod home;
pub mod hostile;
mod port;
mod till;
mod udp_proxy;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

pub use answers::{Answers, Question, questions};
pub use basket::Basket;
pub use cql_proxy::{CqlProxy, Faults, Tally};
pub use engine::Engine;
pub use home::{Home, complaint, text};
pub use port::ReservedPort;
pub use till::{Till, Wire, copy_folder};
pub use udp_proxy::{LineFaults, LineTally, UdpProxy};

/// How long an engine may take to accept, or to drain, before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What stands in for the built commands.
static STAND_IN: OnceLock<PathBuf> = OnceLock::new();

/// From now on one executable stands for every command: its first word says which it is asked to be.
pub fn commands_are(executable: PathBuf) {
    // The first one stays: a process has one.
    drop(STAND_IN.set(executable));
}

/// Path of a built command beside the running test.
///
/// `cargo test --workspace` builds the commands for the tests of their own package; a run of this package alone needs
/// `cargo build --bins` before it.
///
/// # Errors
/// Says what to run when the command has not been built.
pub fn command(name: &str) -> Result<PathBuf> {
    if let Some(executable) = STAND_IN.get() {
        return Ok(executable.clone());
    }
    let test = std::env::current_exe().context("path of the running test")?;
    let profile = test
        .parent()
        .and_then(Path::parent)
        .context("build folder of the running test")?;
    let path = profile.join(name);
    ensure!(
        path.exists(),
        "{} is not built: run `cargo build --bins` first",
        path.display()
    );
    Ok(path)
}

/// Runs a command to its end and gives its one line of JSON, whatever its exit code.
///
/// # Errors
/// When the command cannot be started or printed anything but one line of JSON.
pub fn json_of(name: &str, arguments: &[&str]) -> Result<(Value, Output)> {
    let output = Command::new(command(name)?)
        .args(arguments)
        .output()
        .with_context(|| format!("start {name}"))?;
    let text = String::from_utf8(output.stdout.clone()).context("standard output is not UTF-8")?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        text.lines().count() == 1,
        "{name} {arguments:?} printed {} lines, not one\nstdout: {text}\nstderr: {complaint}",
        text.lines().count()
    );
    let value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
    Ok((value, output))
}

/// Asks for a text over HTTP.
///
/// # Errors
/// When nobody answers with 200.
pub fn get_text(url: &str) -> Result<String> {
    let mut answer = ureq::get(url)
        .call()
        .with_context(|| format!("GET {url}"))?;
    let body = answer.body_mut();
    Ok(body.with_config().limit(1 << 30).read_to_string()?)
}

/// Waits until a condition holds.
///
/// # Errors
/// When it does not within two minutes; `what` says what was waited for.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if holds()? {
            return Ok(());
        }
        pause();
    }
    bail!("waited {PATIENCE:?} to no effect: {what}")
}

/// The step of waiting for another process, which has no way to wake us.
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
