//! Programs that tests start and stop.

use std::fs;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything; only failures take that long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The `tillstream` program, silent unless something is wrong.
pub(crate) fn tillstream(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillstream"));
    command
        .args(args)
        .env_remove("TILLSTREAM_CONFIG")
        .env_remove("TILLSTREAM_LOG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    tillstream(args).output().unwrap()
}

/// What a program printed to standard output: exactly one line of JSON.
pub(crate) fn one_line(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(
        text.matches('\n').count(),
        1,
        "{text:?}\n{}",
        errors(output)
    );
    assert!(text.ends_with('\n'));
    serde_json::from_str(&text).unwrap()
}

/// What it printed to standard error.
pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Its exit code.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// An engine that runs beside the test, and dies with it.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    ready: Value,
}

impl Running {
    /// Starts an engine on free ports.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
    }

    /// Starts an engine with these arguments and waits until it accepts.
    pub(crate) fn start_with(dir: &Path, more: &[&str]) -> Self {
        let file = dir.join("ready.json");
        drop(fs::remove_file(&file));
        let mut child = tillstream(&["serve", "--dev", "--until-stdin-closes"])
            .arg("--data")
            .arg(dir)
            .arg("--ready-file")
            .arg(&file)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        until("the engine is ready", || {
            assert!(child.try_wait().unwrap().is_none(), "the engine ended");
            file.exists()
        });
        let ready = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        Self {
            child,
            stdin,
            ready,
        }
    }

    /// A text of its ready file.
    pub(crate) fn ready(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The whole ready file.
    pub(crate) const fn ready_file(&self) -> &Value {
        &self.ready
    }

    /// Asks its admin port; gives status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut answer = agent
            .get(format!("{}{path}", self.ready("admin")))
            .call()
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), text)
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Closes its standard input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        let mut status = None;
        until("the engine has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "to no effect: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
