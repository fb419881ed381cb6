//! What the threads of a node are given to do.

use std::time::Duration;

use till_storage::cluster::{Command, End};

use crate::cluster::owners::Tenure;

/// What a thread is to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// For the writer of a slot.
    Command(Tenure, Command),
    /// End.
    Stop,
}

/// What is to be done again, and when.
pub(crate) type Later = (Duration, Job);

/// A slot that leaves.
#[derive(Debug)]
pub(crate) enum Leave {
    /// It is to be given up.
    Give(u32),
    /// Its writer has ended.
    Ended(Tenure, End),
    /// None leaves any more: the thread ends.
    Stop,
}
