//! What a flush gives its rounds to.

use std::time::Duration;

use crate::commit::Part;
use crate::publish::door::FlushError;

/// Puts the rows of rounds where they belong, in the order of the rounds.
pub(crate) trait Publisher: Send {
    /// Whether another round may begin.
    fn has_room(&self) -> bool;

    /// Takes over what shards gave in a round; `checkpoint`: where the rows move it to.
    fn begin(&mut self, parts: Vec<Part>, checkpoint: Option<u64>);

    /// Gets on, as far as that goes without waiting.
    fn turn(&mut self) -> Turned;

    /// Whether nothing that shards gave may still be taken for another time of their stores.
    fn is_dealt(&self) -> bool;

    /// Nothing comes any more: what is written is made to stay.
    fn end(&mut self);
}

/// What a turn has come to.
#[derive(Debug)]
pub(crate) struct Turned {
    /// Rounds whose rows are all written now, from the oldest on; or why none are any more.
    pub(crate) over: Result<usize, FlushError>,
    /// When it is to be called again, if nothing comes.
    pub(crate) look: Option<Duration>,
    /// The store has refused: it is not to be called again before.
    pub(crate) retry: Option<Duration>,
}

impl Turned {
    /// So many rounds are over.
    pub(crate) const fn over(rounds: usize) -> Self {
        Self {
            over: Ok(rounds),
            look: None,
            retry: None,
        }
    }

    /// The store has refused: it is tried again after a while.
    pub(crate) const fn refused(pause: Duration) -> Self {
        Self {
            over: Ok(0),
            look: None,
            retry: Some(pause),
        }
    }

    /// Nothing is written any more.
    pub(crate) const fn failed(error: FlushError) -> Self {
        Self {
            over: Err(error),
            look: None,
            retry: None,
        }
    }
}
