//! A data folder, and the engine that is started on it again and again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use till_runtime::Config;

use crate::{Answers, Engine, Question, command, wait_until};

/// Size of a journal's file: the smallest, so that few events fill several.
const SEGMENT_BYTES: u64 = 1 << 20;

/// Free ports.
const PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// A data folder with small journal files, beside whatever else a test writes.
#[derive(Debug)]
pub struct Home {
    folder: tempfile::TempDir,
    /// The data folder.
    pub data: PathBuf,
    config: PathBuf,
}

impl Home {
    /// A fresh one.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("tillstream.toml");
        fs::write(
            &config,
            format!(
                "[journal]\nsegment_bytes = {SEGMENT_BYTES}\nreserve_bytes = \"1MiB\"\nretention_days = \"1\"\n"
            ),
        )?;
        Ok(Self {
            data: folder.path().join("data"),
            folder,
            config,
        })
    }

    /// A place beside the data folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts an engine on it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(&self) -> Result<Engine> {
        self.start_with(&[])
    }

    /// Starts an engine on it with further arguments.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_with(&self, arguments: &[&str]) -> Result<Engine> {
        let mut all = vec!["--dev", "--config", text(&self.config)?];
        all.extend(PORTS);
        all.extend(arguments);
        Engine::launch(&self.data, &all)
    }

    /// Starts an engine that takes in what a registry file lists and nobody else.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_listed(&self, registry: &str) -> Result<Engine> {
        let (file, config) = (self.beside("stores.toml"), self.beside("listed.toml"));
        fs::write(&file, registry)?;
        let lines = format!("[pki]\ndev = true\n[registry]\nfile = {:?}\n", text(&file)?);
        fs::write(&config, lines)?;
        let mut all = vec!["--config", text(&config)?];
        all.extend(PORTS);
        Engine::launch(&self.data, &all)
    }

    /// Makes every derived row again, as a person would.
    ///
    /// # Errors
    /// When the command fails.
    pub fn rebuild(&self) -> Result<String> {
        let output = self.run("tillstream", &["rebuild"])?;
        ensure!(output.status.success(), "rebuild: {}", complaint(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command with `--data` of this folder behind its words.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, name: &str, words: &[&str]) -> Result<Output> {
        Command::new(command(name)?)
            .args(words)
            .arg("--data")
            .arg(&self.data)
            .output()
            .with_context(|| format!("start {name}"))
    }

    /// Kills the engine and starts it again; then stops it, deletes every derived row and rebuilds them: each time every
    /// answer must be the one it gave before.
    ///
    /// # Errors
    /// Names the first question that is answered otherwise.
    pub fn prove(&self, engine: Engine, questions: &[Question]) -> Result<(Engine, Answers)> {
        let before = Answers::of_engine(&engine, questions)?;
        engine.kill()?;
        let engine = self.start()?;
        let after = Answers::of_engine(&engine, questions)?;
        before.must_equal(&after).context("after kill -9")?;
        engine.stop()?;
        self.delete_rows()?;
        self.rebuild()?;
        let engine = self.start()?;
        let rebuilt = Answers::of_engine(&engine, questions)?;
        before.must_equal(&rebuilt).context("after a rebuild")?;
        Ok((engine, before))
    }

    /// Deletes every derived row. No engine may run.
    ///
    /// # Errors
    /// When there are none.
    pub fn delete_rows(&self) -> Result<()> {
        fs::remove_dir_all(self.data.join("rows")).context("delete the rows")
    }

    /// Drops every sealed segment, as retention does when its days are over. No engine may run; the runtime is the
    /// engine's own, called from here because its clock cannot be set forward from outside.
    ///
    /// # Errors
    /// When nothing was dropped, or the folder does not open.
    pub fn forget(&self) -> Result<()> {
        let before = self.journal("till")?;
        let mut config = Config::dev(&self.data);
        config.segment_bytes = SEGMENT_BYTES;
        config.reserve_bytes = SEGMENT_BYTES;
        config.retention_days = Some(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let engine = runtime.block_on(till_gateway::start(config))?;
        let mut kept = None;
        // Only segments with an index go, and those are made beside.
        wait_until("a segment is dropped", || {
            kept = engine.retain_before(i64::MAX)?;
            Ok(kept.is_some())
        })?;
        runtime.block_on(engine.drain())?;
        let kept = kept.context("nothing was dropped")?;
        let after = self.journal("till")?;
        let gone = format!("{:020}.till", 0);
        ensure!(
            before != after && !after.contains(&gone),
            "files are still there: {after:?}"
        );
        // The base reaches to where the rows ended when it was made, at or behind the end of what was dropped.
        let base = after.iter().find_map(|name| name.strip_prefix("base-"));
        let upto = base.and_then(|name| name.strip_suffix(".till"));
        let upto: u64 = upto.context("no base stands in for them")?.parse()?;
        ensure!(kept <= upto, "the base does not reach to {kept}: {after:?}");
        Ok(())
    }

    /// Bytes that the journal's files take.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn journal_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(self.data.join("journal"))? {
            bytes += entry?.metadata()?.len();
        }
        Ok(bytes)
    }

    /// Names of the journal's files that end in `ending`, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn journal(&self, ending: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.data.join("journal"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(&format!(".{ending}")) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// What a command said to the person who called it.
pub fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A path as an argument.
///
/// # Errors
/// When it is not UTF-8.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().context("path is not UTF-8")
}
