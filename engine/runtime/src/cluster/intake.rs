//! Whether frames are taken in: while the shared store does not say what they need to know, they are not. Their devices keep
//! them, and come again.

use std::time::Duration;

use parking_lot::Mutex;

/// Time without a frame that could not be taken after which intake is said to go on.
const QUIET: Duration = Duration::from_secs(1);

/// A pause of the intake: since when, the last frame that was not taken, and why.
#[derive(Debug)]
struct Pause {
    since: Duration,
    last: Duration,
    cause: String,
}

/// What is known of pauses.
#[derive(Debug, Default)]
pub(crate) struct IntakePause(Mutex<Option<Pause>>);

impl IntakePause {
    /// Frames could not be taken.
    pub(super) fn pause(&self, now: Duration, cause: &str) {
        let mut pause = self.0.lock();
        match &mut *pause {
            Some(pause) => pause.last = now,
            None => {
                tracing::warn!(
                    cause,
                    "the shared store does not say what frames need to know: devices keep them until it does"
                );
                *pause = Some(Pause {
                    since: now,
                    last: now,
                    cause: cause.to_owned(),
                });
            }
        }
    }

    /// The shared store answers.
    pub(super) fn answered(&self, now: Duration) {
        let mut pause = self.0.lock();
        let is_over = |pause: &mut Pause| now.saturating_sub(pause.last) >= QUIET;
        if let Some(pause) = pause.take_if(is_over) {
            let seconds = now.saturating_sub(pause.since).as_secs();
            tracing::info!(seconds, "frames are replayed again");
        }
    }

    /// Why frames are not taken in; `None` where they are.
    pub(crate) fn words(&self) -> Option<String> {
        self.0.lock().as_ref().map(|pause| pause.cause.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_with_an_answer_once_no_frame_is_sent_away_any_more() {
        let intake = IntakePause::default();
        let second = Duration::from_secs;
        intake.answered(second(1));
        assert_eq!(intake.words(), None);
        intake.pause(second(5), "no answer");
        intake.pause(second(7), "still none");
        intake.answered(second(7));
        assert_eq!(intake.words().as_deref(), Some("no answer"));
        intake.answered(second(9));
        assert_eq!(intake.words(), None);
    }
}
