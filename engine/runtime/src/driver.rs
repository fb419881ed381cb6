//! Who lets one part of an engine get on while another one waits for it.

use std::time::Duration;

use crossbeam::channel::Receiver;

/// What drives the parts of an engine. Where each has a thread of its own, waiting for a part is all that there is to do;
/// whoever drives all of them from one thread takes the turns that are waited for.
pub(crate) trait Driver: Send + Sync {
    /// Waits until the journal has done something, or has ended.
    fn await_journal(&self, done: &Receiver<()>);

    /// Waits until the flush has done something, or has ended.
    fn await_flush(&self, done: &Receiver<()>);

    /// Lets some time pass. False: nothing happens meanwhile.
    fn pause(&self, time: Duration) -> bool;
}

/// A thread for each part.
pub(crate) struct Threads;

impl Driver for Threads {
    fn await_journal(&self, done: &Receiver<()>) {
        // An error means that the journal has ended: there is nothing left to wait for.
        let _ended = done.recv();
    }

    fn await_flush(&self, done: &Receiver<()>) {
        // An error means that the flush has ended: it writes nothing any more.
        let _ended = done.recv();
    }

    fn pause(&self, time: Duration) -> bool {
        std::thread::sleep(time);
        true
    }
}
