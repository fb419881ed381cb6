//! What hostile devices have to be told, and what nobody may be told.

use till_protocol::code::Reason;

use crate::doors::ANSWERED;
use crate::floods::bye;
use crate::report::Attack;

/// Tenths of a byte that are answered at most for each byte of somebody who has not shown that its address is its own
/// (RFC 9000, 8.1).
const AMPLIFIED_MAX: u64 = 30;

/// What each kind of flood is told, however little of it comes through.
fn due(name: &str) -> Vec<String> {
    match name {
        "broken-frames" => [Reason::BadMagic, Reason::BadCrc, Reason::TooLarge]
            .map(bye)
            .to_vec(),
        "unreadable-frames" => vec!["refused events".to_owned()],
        "valid-frames" => vec!["ack".to_owned()],
        "gaps-and-duplicates" => vec!["nack".to_owned()],
        "stale-epochs" => vec![bye(Reason::StaleEpoch)],
        "slowloris" | "silent-streams" => vec![bye(Reason::Idle)],
        "promises" | "small-promises" => vec![bye(Reason::Busy)],
        "half-open" => vec!["retry packet".to_owned()],
        "churn" => vec!["connected".to_owned()],
        _ => Vec::new(),
    }
}

impl Attack {
    /// Looks at what was answered. `is_full`: the flood had time and room to come through.
    pub(crate) fn must_be_told(&mut self, is_full: bool) {
        let of = |attack: &Self, what: &str| attack.answers.get(what).copied().unwrap_or(0);
        for what in due(&self.name) {
            let times = of(self, &what);
            self.must(times > 0 || !is_full, || format!("nobody was told: {what}"));
        }
        let internal = of(self, &bye(Reason::Internal));
        self.must(internal == 0, || {
            format!("the engine failed over {internal} streams")
        });
        if self.name == "stale-epochs" {
            let acks = of(self, "ack");
            self.must(acks == 0, || {
                format!("{acks} frames of a closed epoch were taken")
            });
        }
        let answered = of(self, ANSWERED);
        self.must(answered <= AMPLIFIED_MAX, || {
            format!("{answered} tenths of a byte were answered for each byte of strangers")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, answers: &[(String, u64)], is_full: bool) -> bool {
        let mut attack = Attack::named(name);
        attack.answers = answers.iter().cloned().collect();
        attack.must_be_told(is_full);
        attack.judged().passed
    }

    #[test]
    fn silence_failures_and_floods_of_answers_are_complained_of() {
        let stale = (bye(Reason::StaleEpoch), 5);
        assert!(told("stale-epochs", std::slice::from_ref(&stale), true));
        assert!(!told("stale-epochs", &[], true));
        assert!(told("stale-epochs", &[], false), "too short to tell");
        assert!(!told("stale-epochs", &[stale, ("ack".to_owned(), 1)], true));
        assert!(!told("resets", &[(bye(Reason::Internal), 1)], false));
        let answered = |tenths| {
            [
                ("retry packet".to_owned(), 1),
                (ANSWERED.to_owned(), tenths),
            ]
        };
        assert!(told("half-open", &answered(30), true));
        assert!(!told("half-open", &answered(31), true));
    }
}
