//! The quarantine of a stepped engine.

use super::{Halt, Stepped};
use crate::retry::{Retried, RetryAllError, keys, question};

impl Stepped {
    /// Decides again everything that the rows have in quarantine. What has taken effect is durable with the next group.
    ///
    /// # Errors
    /// [`Halt`]; and [`RetryAllError`], after which what was decided before stays decided.
    pub fn retry_quarantine(&mut self) -> Result<Result<Retried, RetryAllError>, Halt> {
        let mut retried = Retried::default();
        let keys = match keys(self.engine.views.as_ref()) {
            Ok(keys) => keys,
            Err(error) => return Ok(Err(error.into())),
        };
        for key in keys {
            let mut asked = match question(&self.engine, key) {
                Ok(Some(asked)) => asked,
                Ok(None) => {
                    retried.quarantined += 1;
                    continue;
                }
                Err(error) => return Ok(Err(error)),
            };
            self.deliver(asked.shard, asked.message)?;
            let answer = asked.answer.try_recv();
            let taken = answer.map_err(|_| RetryAllError::Down);
            if let Err(error) = taken.and_then(|answer| retried.take(answer)) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(retried))
    }
}
