//! `tillstream serve`: the engine, from its arguments to the end of its drain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use till_gateway::Door;
use till_ops::{Engine, Port};
use till_runtime::{Config, Handle, LeftOver};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::info;

use crate::args::ServeArgs;
use crate::check::Chosen;
use crate::live::Live;
use crate::output;
use crate::ports;
use crate::ready::Ready;
use crate::shared;
use crate::source;
use crate::stop::Stop;

/// Runs an engine until it is told to stop.
///
/// # Errors
/// Returns what kept it from starting, or what it could not finish while it drained.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = crate::check::config(&args)?;
    if let Some(file) = &args.ready_file {
        clear(file, &config.config.data_dir)?;
    }
    tokio()?.block_on(Box::pin(serve(config, args)))
}

/// The one runtime of a process: a worker for each core, timers and sockets.
///
/// # Errors
/// Returns what the system says when threads cannot be started.
pub(crate) fn tokio() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("till-io")
        .enable_all()
        .build()
        .context("could not start threads")
}

async fn serve(chosen: Chosen, args: ServeArgs) -> anyhow::Result<()> {
    let Chosen {
        mut config,
        listen,
        admin,
    } = chosen;
    let mut stop = Stop::listen(args.until_stdin_closes).context("could not watch signals")?;
    let port = ports::admin(admin).await?;
    let door = ports::quic(listen)?;
    config.listen = door.address();
    config.admin = port.address();
    let dir = config.data_dir.clone();
    let url = port.url();
    let live = Arc::new(Live::starting());
    let admin = Admin::open(port, Arc::<Live>::clone(&live));

    let started = tokio::select! {
        started = Box::pin(start(door, config)) => started.context("the engine could not start")?,
        () = stop.first() => return admin.close().await,
    };
    let engine = Arc::new(started);
    live.started(Arc::<Handle>::clone(&engine));
    let notes = announce(&engine, &dir, &url, &args)?;

    stop.first().await;
    live.draining();
    let cordoned = tokio::select! {
        cordoned = Box::pin(engine.drain()) => cordoned.context("the engine did not drain"),
        () = stop.forced() => Err(anyhow!("stopped by a second signal before the drain was over")),
    };
    for file in notes {
        // A folder that was taken away meanwhile needs no tidying.
        drop(std::fs::remove_file(file));
    }
    cordoned?;
    admin.close().await?;
    info!("drained; {}", last_words(engine.left_over()));
    Ok(())
}

/// Where everything is that was acknowledged.
fn last_words(left: LeftOver) -> String {
    if left == LeftOver::default() {
        return "everything acknowledged is durable and in the rows".to_owned();
    }
    let mut words =
        "everything acknowledged is durable, and not all of it is in the rows yet".to_owned();
    if left.handed_off > 0 {
        let records = output::counted(left.handed_off, "record");
        words += &format!(
            "; handed off to the shared store: {records}, to count once the engines that take these stores have taken them in"
        );
    }
    if left.in_journal {
        words += "; the journal has records that the shared store does not: start this engine again, or use `tillstream submit`";
    }
    words
}

async fn start(door: Door, config: Config) -> anyhow::Result<Handle> {
    let Some(shared) = &config.shared else {
        return Ok(till_gateway::start_at(door, config).await?);
    };
    let cql = shared.cql.clone();
    let store = tokio::task::spawn_blocking(move || shared::of_config(&cql)).await??;
    Ok(till_gateway::start_shared(door, config, store).await?)
}

/// Takes away the ready file of an engine that was killed: whoever waits for the file waits for this engine. That of an
/// engine that has the folder open stays; this one is about to be refused.
fn clear(file: &Path, dir: &Path) -> anyhow::Result<()> {
    if source::running(dir).is_some() {
        return Ok(());
    }
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove an old {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Tells where the engine is: in its folder, in the ready file, and in the log. Gives the files.
fn announce(
    engine: &Handle,
    dir: &Path,
    url: &str,
    args: &ServeArgs,
) -> anyhow::Result<Vec<PathBuf>> {
    // Whoever reads the file may stand in another folder than the engine.
    let identity = engine.identity().map(std::path::absolute).transpose();
    let identity = identity
        .context("could not tell where the identity is")?
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let ready = Ready {
        quic: engine.quic_addr().to_string(),
        admin: url.to_owned(),
        identity,
        pid: std::process::id(),
    };
    let files: Vec<PathBuf> = args.ready_file.iter().cloned().collect();
    for file in &files {
        ready.write(file)?;
    }
    info!(quic = ready.quic, admin = url, data = %dir.display(), "devices may connect");
    Ok(files)
}

/// The admin port, answering in the background.
struct Admin {
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Admin {
    fn open(port: Port, engine: Arc<dyn Engine>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let until = async {
            // A sender that is gone means the same.
            drop(stopped.await);
        };
        Self {
            stop,
            task: tokio::spawn(till_ops::serve(port, engine, until)),
        }
    }

    async fn close(self) -> anyhow::Result<()> {
        // The task may have ended by itself; its result tells.
        let _ended = self.stop.send(());
        self.task.await.context("admin port")?.context("admin port")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_promise_rows_only_for_what_is_in_them() {
        let none = last_words(LeftOver::default());
        assert_eq!(none, "everything acknowledged is durable and in the rows");
        let handed = LeftOver {
            handed_off: 41,
            ..LeftOver::default()
        };
        let handed = last_words(handed);
        assert!(handed.contains("not all of it is in the rows"), "{handed}");
        assert!(
            handed.contains("handed off to the shared store: 41 records"),
            "{handed}"
        );
        let kept = LeftOver {
            in_journal: true,
            ..LeftOver::default()
        };
        let kept = last_words(kept);
        assert!(kept.contains("not all of it is in the rows"), "{kept}");
        assert!(kept.contains("tillstream submit"), "{kept}");
    }
}
