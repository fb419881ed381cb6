//! `tillstream demo`: an engine and a simulated chain, to look at and to be sure of.
//!
//! The engine is a process of its own, started from this very program, and ends with this one however that ends. The
//! chain reaches it over QUIC like any device, and an oracle compares the engine's answers with what the chain sent.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use till_loadgen::engine::{AdminAt, Engine, EngineOptions, EngineStarter};
use till_loadgen::fleet::{self, FleetConfig, FleetReport, Live};

use crate::args::DemoArgs;
use crate::output::note;
use crate::stop::Stop;
use crate::{Found, output};

/// Runs the demo to its end.
///
/// # Errors
/// Returns [`Found`] when the engine's answers differ from what was sent, else what kept the demo from running.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let folder = DataFolder::choose(args.data.as_deref())?;
    let options = EngineOptions {
        data: folder.path.clone(),
        admin: args.admin.map_or(AdminAt::Usual, AdminAt::Chosen),
        ..EngineOptions::default()
    };
    let engine = Engine::start(&OwnGroup, &options)?;
    let ready = engine.ready().clone();
    let mut config = FleetConfig::new(ready.quic, ready.identity.clone());
    config.admin = Some(ready.admin.clone());
    config.stores = args.stores;
    config.terminals = args.terminals;
    config.rate = args.rate;
    config.seed = args.seed;
    config.duration = args.duration;
    stop_on_signal(Arc::clone(&config.stop));
    introduce(args, &ready.admin, &folder);

    let mut line = LiveLine::new();
    let report = fleet::run(&config, &mut |live| line.show(live));
    line.end();
    let cordoned = engine.drain();
    let report = report?;
    cordoned?;
    finish(args, &report)
}

fn introduce(args: &DemoArgs, admin: &str, folder: &DataFolder) {
    let DemoArgs {
        stores,
        terminals,
        rate,
        ..
    } = args;
    let dir = folder.path.display();
    let fate = if folder.is_ours {
        "removed at the end; keep one with --data DIR"
    } else {
        "stays"
    };
    let end = args.duration.map_or_else(
        || "Ctrl-C ends the demo.".to_owned(),
        |time| {
            format!(
                "The demo ends after {} s; Ctrl-C ends it earlier.",
                time.as_secs_f64()
            )
        },
    );
    note(format!(
        "A chain of {stores} stores x {terminals} terminals makes about {rate} events/s and sends them over QUIC.\n\
         \n  open     {admin}/  the live page: figures, stores, shards, where to look next\
         \n  metrics  {admin}/metrics\
         \n  ask      tillstream query sales --addr {admin} --by store\
         \n  data     {dir}  ({fate})\n\n{end}\n"
    ));
}

fn finish(args: &DemoArgs, report: &FleetReport) -> anyhow::Result<()> {
    for difference in report.differences.iter().take(20) {
        note(format!("difference: {difference}"));
    }
    if args.json {
        output::json(report)?;
    } else {
        output::line(report.to_string())?;
    }
    if report.reconciled {
        return Ok(());
    }
    Err(Found.into())
}

/// The line that shows how things go: in place on a terminal, one below the other elsewhere.
struct LiveLine {
    in_place: bool,
}

impl LiveLine {
    fn new() -> Self {
        Self {
            in_place: io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, live: &Live) {
        if self.in_place {
            let mut err = io::stderr().lock();
            let shown = write!(err, "\r\x1b[K{live}").and_then(|()| err.flush());
            self.in_place = shown.is_ok();
        } else {
            note(live.to_string());
        }
    }

    fn end(&self) {
        if self.in_place {
            note("");
        }
    }
}

/// Starts this program again, in a process group of its own: Ctrl-C ends the chain first, and then the engine.
struct OwnGroup;

impl EngineStarter for OwnGroup {
    fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.process_group(0);
        Ok(command)
    }
}

/// Where the engine keeps its data.
struct DataFolder {
    path: PathBuf,
    is_ours: bool,
}

impl DataFolder {
    fn choose(given: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = given {
            return Ok(Self {
                path: path.to_owned(),
                is_ours: false,
            });
        }
        // A demo that was killed leaves its folder, and its process number may come again.
        let mut turn = 0;
        loop {
            let name = format!("tillstream-demo-{}-{turn}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match fs::create_dir(&path) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        is_ours: true,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => turn += 1,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("could not make the folder {}", path.display()));
                }
            }
        }
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            note(format!("could not remove {}: {error}", self.path.display()));
        }
    }
}

/// Watches for signals on a thread of its own: the first ends the trade in good order, the second ends the program.
fn stop_on_signal(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else {
            return; // signals end the program at once, as they do without this
        };
        runtime.block_on(async {
            let Ok(mut signals) = Stop::listen(false) else {
                return;
            };
            signals.first().await;
            note("\nending: waiting until everything is acknowledged and compared; Ctrl-C again ends at once");
            stop.store(true, Ordering::Relaxed);
            signals.forced().await;
            leave();
        });
    });
}

#[expect(
    clippy::exit,
    reason = "the person asked twice; the engine drains by itself when its pipe closes"
)]
fn leave() -> ! {
    std::process::exit(130)
}
