//! What the admin port needs of an engine.

use thiserror::Error;

use crate::ask::{Answer, Question};
use crate::figures::Figures;
use crate::health::Health;

/// An engine as the admin port sees it.
///
/// [`Self::health`] is called from async code and must not wait; the others may block and are called from threads that
/// may.
pub trait Engine: Send + Sync + 'static {
    /// The live figures.
    fn figures(&self) -> Figures;

    /// Whether events may be sent, and why not.
    fn health(&self) -> Health;

    /// Answers a question with everything that was durable when it was asked.
    ///
    /// # Errors
    /// Returns [`EngineError`] when rows or facts cannot be read.
    fn answer(&self, question: &Question) -> Result<Answer, EngineError>;

    /// Waits until queries see everything that is durable now; gives the journal position.
    ///
    /// # Errors
    /// Returns [`EngineError`] when the flush cannot go on, for instance on a full disk.
    fn flush(&self) -> Result<u64, EngineError>;

    /// Decides the quarantined events again; gives (applied, still quarantined).
    ///
    /// # Errors
    /// Returns [`EngineError`] when rows or facts cannot be read.
    fn retry_quarantine(&self) -> Result<(u64, u64), EngineError>;

    /// Shows the records that other engines handed off and that have no place: one JSON object each.
    ///
    /// # Errors
    /// Returns [`EngineError`] when the shared store does not answer.
    fn stranded(&self) -> Result<Vec<serde_json::Value>, EngineError>;

    /// Releases one of them under an epoch that no device is granted; gives that epoch.
    ///
    /// # Errors
    /// Returns [`EngineError`] when it is not there, its slot is served elsewhere, or the shared store does not answer.
    fn release(&self, record: &str) -> Result<u32, EngineError>;
}

/// The engine could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// It stops, or has not started.
    #[error("the engine is not running: {0}")]
    NotRunning(String),
    /// The question is about something that nobody has told it of.
    #[error("{0}")]
    Unknown(String),
    /// Rows or facts could not be read or written.
    #[error("{0}")]
    Failed(String),
}
