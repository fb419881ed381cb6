//! Questions to a store that engines share, which may be silent: its driver waits long, for there are long answers. Whoever
//! asks is told soon, and which store it is.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long a store may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    /// After this time without an answer it is asked whether it is there.
    look: Duration,
    /// It has so long to say so.
    say: Duration,
}

impl Default for Silence {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(5),
            say: Duration::from_secs(3),
        }
    }
}

impl Silence {
    /// Asks the store at an address. A long answer is waited for as long as the store says that it `is_there`. Whoever gives
    /// up leaves a thread behind, which ends when the driver gives up.
    ///
    /// # Errors
    /// What the store said, or that it says nothing, with its address.
    pub(crate) fn ask<T: Send + 'static>(
        self,
        address: &str,
        ask: impl FnOnce() -> Result<T, String> + Send + 'static,
        is_there: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<T, String> {
        let failed = |cause: &str| Err(format!("the shared store at {address}: {cause}"));
        let is_there = Arc::new(is_there);
        let answer = match started(ask) {
            Ok(answer) => answer,
            Err(cause) => return failed(&cause),
        };
        loop {
            match answer.recv_timeout(self.look) {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(cause)) => return failed(&cause),
                Err(RecvTimeoutError::Disconnected) => return failed("the question failed"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let probe = Arc::clone(&is_there);
            match started(move || probe()).map(|answer_text| answer_text.recv_timeout(self.say)) {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(cause))) | Err(cause) => return failed(&cause),
                Ok(Err(_)) => {
                    let silent = self.look.saturating_add(self.say).as_secs();
                    return failed(&format!(
                        "no answer for {silent} s; look at it and at the way to it"
                    ));
                }
            }
        }
    }
}

fn started<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<mpsc::Receiver<T>, String> {
    let (reply, answer) = mpsc::channel();
    let thread = thread::Builder::new().name("question".to_owned());
    let begun = thread.spawn(move || {
        // Whoever asked may have given up.
        let _gone = reply.send(work());
    });
    begun.map_err(|error| format!("no thread for the question: {error}"))?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Silence = Silence {
        look: Duration::from_millis(20),
        say: Duration::from_millis(20),
    };

    #[test]
    fn a_store_that_says_nothing_is_named_before_its_driver_gives_up() {
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(parking_lot::Mutex::new(held));
        let silent = move || {
            // Nothing is ever sent: this is the driver, which waits on.
            let _ended = held.lock().recv();
            Ok::<(), String>(())
        };
        let answer_text = SHORT.ask("10.0.0.1:9042", silent.clone(), silent);
        let words = answer_text.unwrap_err();
        assert!(
            words.contains("the shared store at 10.0.0.1:9042: no answer"),
            "{words}"
        );
        drop(hold);
    }

    #[test]
    fn a_long_answer_of_a_store_that_is_there_is_waited_for() {
        let patient = Silence {
            say: Duration::from_secs(60),
            ..SHORT
        };
        let (looked, looks) = mpsc::channel();
        // It answers after it was looked for twice.
        let slow = move || {
            let twice = looks.recv().and_then(|()| looks.recv());
            twice.map(|()| 7).map_err(|error| error.to_string())
        };
        let is_there = move || {
            // Nobody listens any more once there is an answer.
            let _heard = looked.send(());
            Ok(())
        };
        assert_eq!(patient.ask("10.0.0.1:9042", slow, is_there), Ok(7));
    }

    #[test]
    fn what_a_store_says_goes_with_its_address() {
        let refused = || Err::<(), _>("sales: no quorum".to_owned());
        let answer_text = SHORT.ask("10.0.0.1:9042,10.0.0.2:9042", refused, || Ok(()));
        let wanted = "the shared store at 10.0.0.1:9042,10.0.0.2:9042: sales: no quorum";
        assert_eq!(answer_text, Err(wanted.to_owned()));
    }
}
