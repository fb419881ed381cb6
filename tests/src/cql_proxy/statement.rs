//! Which statement a request carries out: learnt from how statements were prepared.

use std::collections::HashMap;

use super::frame::{BATCH, EXECUTE, Frame, PREPARE, RESULT, long_text, short_bytes};

/// The kind of an answer that tells the id of a prepared statement.
const PREPARED: [u8; 4] = [0, 0, 0, 4];

/// What a statement does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Read,
    Write,
    Batch,
    Conditional,
}

impl Kind {
    fn of(text: &str) -> Self {
        if text.contains(" IF ") {
            Self::Conditional
        } else if text.trim_start().starts_with("SELECT") {
            Self::Read
        } else {
            Self::Write
        }
    }
}

/// Prepared statements by their ids, which are the same on every connection. Those of the server's own keyspaces are left out.
#[derive(Debug, Default)]
pub(super) struct Statements(HashMap<Vec<u8>, Kind>);

impl Statements {
    /// What a request does to tables; `None` for everything that is no business of a chain.
    pub(super) fn kind(&self, request: &Frame) -> Option<Kind> {
        match request.opcode {
            EXECUTE => self.0.get(short_bytes(request.body())?).copied(),
            BATCH => Some(Kind::Batch),
            _ => None,
        }
    }

    /// An answer to the preparation of a statement.
    pub(super) fn learn(&mut self, kind: Kind, answer: &Frame) {
        let id = answer.body().strip_prefix(&PREPARED).and_then(short_bytes);
        if let Some(id) = id.filter(|_| answer.opcode == RESULT) {
            self.0.insert(id.to_vec(), kind);
        }
    }
}

/// What a statement does that a request prepares.
pub(super) fn prepares(request: &Frame) -> Option<Kind> {
    if request.opcode != PREPARE {
        return None;
    }
    let text = long_text(request.body())?;
    (!text.contains("system")).then(|| Kind::of(text))
}
