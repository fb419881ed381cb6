//! What goes to standard output: results, and nothing else.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

/// Prints one line.
pub(crate) fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let result = out
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match result {
        // The reader has seen enough: `tillstream query sales ... | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output"),
    }
}

/// Prints one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value).context("result as JSON")?)
}

/// A number of things: "1 segment", "2 segments".
pub(crate) fn counted(count: impl TryInto<u64>, thing: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {thing}"),
        many => format!("{many} {thing}s"),
    }
}

/// Says something to the person at the terminal, apart from results and from the log.
#[expect(
    clippy::print_stderr,
    reason = "the one place where people are told things"
)]
pub(crate) fn note(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// Tells how far something is, at every tenth of it.
#[derive(Debug, Default)]
pub(crate) struct Tenths(Option<(&'static str, u64)>);

impl Tenths {
    /// So much of all is done of `what`.
    pub(crate) fn note(&mut self, what: &'static str, done: u64, of: u64) {
        let tenth = done.saturating_mul(10).checked_div(of).unwrap_or(10);
        if tenth > 0 && self.0 != Some((what, tenth)) {
            self.0 = Some((what, tenth));
            note(format!("{} % {what}", tenth * 10));
        }
    }
}
