//! What each answer leads to.

use std::sync::Arc;

use super::{
    Action, Answer, Change, Command, Commit, Conditional, End, Flush, LogKey, SlotRow, SlotWriter,
    State,
};

impl SlotWriter {
    /// One step: the state that was left, and the answer that came. Answers that do not belong to a command count as
    /// failed.
    pub(super) fn step(&mut self, state: State, answer: Answer) {
        match state {
            State::Acquiring { is_asking } => self.acquiring(is_asking, answer),
            State::Reading => self.reading(answer),
            State::Loading(key) => self.loading(key, answer),
            State::Restoring(commit) => match answer {
                Answer::Done => self.serve(),
                _ => self.again(State::Restoring(commit)),
            },
            State::WritingLog(flush) => match answer {
                Answer::Done => {
                    self.state = State::Deciding {
                        flush,
                        is_asking: false,
                    };
                    self.begin();
                }
                _ => self.again(State::WritingLog(flush)),
            },
            State::Deciding { flush, is_asking } => self.deciding(flush, is_asking, answer),
            State::Materialising(commit) => match answer {
                Answer::Done => self.rest(),
                _ => self.again(State::Materialising(commit)),
            },
            State::Renewing {
                is_asking,
                suspensions,
            } => self.renewing(is_asking, suspensions, answer),
            State::Releasing { is_asking } => self.releasing(is_asking, answer),
            State::Idle => self.state = State::Idle,
            State::Ended => {}
        }
    }

    fn acquiring(&mut self, is_asking: bool, answer: Answer) {
        match answer {
            Answer::Applied => self.acquired(),
            Answer::NotApplied(row) | Answer::Row(row) => {
                if self.has_taken(&row) {
                    self.acquired();
                } else if row.epoch == self.epoch {
                    self.again(State::Acquiring { is_asking: false });
                } else {
                    self.end(End::Lost(row));
                }
            }
            Answer::Unknown => self.again(State::Acquiring { is_asking: true }),
            Answer::Done | Answer::Failed | Answer::Log(_) => {
                self.again(State::Acquiring { is_asking });
            }
        }
    }

    // Whether a row shows that the change of epoch that was asked for happened. Nobody else writes this node's id.
    fn has_taken(&self, row: &SlotRow) -> bool {
        row.epoch == self.epoch.saturating_add(1) && row.owner == Some(self.me)
    }

    fn acquired(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.state = State::Reading;
        self.begin();
    }

    fn reading(&mut self, answer: Answer) {
        let Answer::Row(row) = answer else {
            return self.again(State::Reading);
        };
        if row.epoch != self.epoch {
            return self.end(End::Fenced(row));
        }
        self.flush = row.flush;
        if row.flush == 0 {
            return self.serve();
        }
        let key = LogKey {
            slot: row.slot,
            flush: row.flush,
            epoch: row.flush_epoch,
            parts: row.parts,
            digest: row.digest,
        };
        if let Some(error) = self.doubt.take() {
            self.tell(Action::Report(error));
            return self.again(State::Loading(key));
        }
        self.state = State::Loading(key);
        self.begin();
    }

    fn loading(&mut self, key: LogKey, answer: Answer) {
        let Answer::Log(parts) = answer else {
            return self.again(State::Loading(key));
        };
        match Commit::from_parts(&key, &parts) {
            #[cfg(feature = "planted")]
            Ok(_) if till_core::planted::is("serve-without-rows") => self.serve(),
            Ok(commit) => {
                self.state = State::Restoring(Arc::new(commit));
                self.begin();
            }
            Err(error) => {
                // Another may have taken the slot since the row was read, and deleted the log behind the next one: nothing is
                // wrong before the row has said that it is still this one's.
                self.doubt = Some(error);
                self.again(State::Reading);
            }
        }
    }

    fn serve(&mut self) {
        // The owner before may have gone between its commit and the deletion.
        if self.flush > 1 {
            let flush = self.flush.saturating_sub(1);
            self.tell(Action::DeleteLog { flush });
        }
        self.opened();
    }

    fn opened(&mut self) {
        if !self.is_suspended && !self.is_leaving {
            self.tell(Action::Serve {
                flush: self.flush,
                epoch: self.epoch,
            });
        }
        self.rest();
    }

    /// Nothing is on its way: what waited for that begins.
    pub(super) fn rest(&mut self) {
        self.state = State::Idle;
        // Whatever arrives under the old number is not for the next command.
        self.request = self.request.saturating_add(1);
        if self.is_leaving {
            self.state = State::Releasing { is_asking: false };
            self.begin();
        } else if self.is_suspended && self.wants_renewal {
            self.state = State::Renewing {
                is_asking: false,
                suspensions: self.suspensions,
            };
            self.begin();
        }
    }

    fn deciding(&mut self, flush: Flush, is_asking: bool, answer: Answer) {
        match answer {
            Answer::Applied => self.committed(flush),
            #[cfg(feature = "planted")]
            Answer::Unknown if till_core::planted::is("trust-unknown") => self.committed(flush),
            #[cfg(feature = "planted")]
            Answer::Row(row)
                if till_core::planted::is("commit-again") && row.flush > self.flush =>
            {
                self.flush = row.flush;
                let mut commit = Commit::clone(&flush.commit);
                commit.flush = row.flush + 1;
                self.state = State::Idle;
                drop(self.commit(commit));
            }
            Answer::NotApplied(row) | Answer::Row(row) => self.judge(flush, row),
            Answer::Unknown => self.again(State::Deciding {
                flush,
                is_asking: true,
            }),
            Answer::Done | Answer::Failed | Answer::Log(_) => {
                self.again(State::Deciding { flush, is_asking });
            }
        }
    }

    // What the row says about a commit that was sent.
    fn judge(&mut self, flush: Flush, row: SlotRow) {
        let is_mine = row.flush == flush.commit.flush
            && row.flush_epoch == self.epoch
            && row.digest == flush.log.digest;
        match (is_mine, row.epoch == self.epoch) {
            (true, true) => self.committed(flush),
            // Committed, and then taken: the next owner writes the rows.
            (true, false) => {
                self.tell(Action::TellCommitted { flush: row.flush });
                self.end(End::Fenced(row));
            }
            (false, true) if row.flush == self.flush => self.again(State::Deciding {
                flush,
                is_asking: false,
            }),
            #[cfg(feature = "planted")]
            (false, _) if till_core::planted::is("ignore-fence") => self.committed(flush),
            (false, _) => self.end(End::Fenced(row)),
        }
    }

    fn committed(&mut self, flush: Flush) {
        let before = self.flush;
        self.flush = flush.commit.flush;
        self.tell(Action::TellCommitted { flush: self.flush });
        if before > 0 {
            self.tell(Action::DeleteLog { flush: before });
        }
        self.state = State::Materialising(flush.commit);
        self.begin();
    }

    fn renewing(&mut self, is_asking: bool, suspensions: u64, answer: Answer) {
        match answer {
            Answer::Applied => self.renewed(suspensions),
            Answer::NotApplied(row) | Answer::Row(row) => {
                if self.has_taken(&row) {
                    self.renewed(suspensions);
                } else if row.epoch == self.epoch {
                    self.again(State::Renewing {
                        is_asking: false,
                        suspensions,
                    });
                } else {
                    self.end(End::Fenced(row));
                }
            }
            Answer::Unknown => self.again(State::Renewing {
                is_asking: true,
                suspensions,
            }),
            Answer::Done | Answer::Failed | Answer::Log(_) => self.again(State::Renewing {
                is_asking,
                suspensions,
            }),
        }
    }

    fn renewed(&mut self, suspensions: u64) {
        self.epoch = self.epoch.saturating_add(1);
        if suspensions == self.suspensions {
            self.is_suspended = false;
            self.wants_renewal = false;
        }
        self.opened();
    }

    fn releasing(&mut self, is_asking: bool, answer: Answer) {
        match answer {
            Answer::Applied => self.end(End::Released),
            Answer::NotApplied(row) | Answer::Row(row) => {
                if row.epoch == self.epoch {
                    self.again(State::Releasing { is_asking: false });
                } else {
                    self.end(End::Released);
                }
            }
            Answer::Unknown => self.again(State::Releasing { is_asking: true }),
            Answer::Done | Answer::Failed | Answer::Log(_) => {
                self.again(State::Releasing { is_asking });
            }
        }
    }

    pub(super) fn end(&mut self, end: End) {
        self.state = State::Ended;
        self.tell(Action::Stop(end));
    }

    pub(super) fn acquire(&self) -> Change {
        Change::Acquire {
            owner: self.me,
            address: self.address.clone(),
        }
    }

    /// The command of a state that was just entered.
    pub(super) fn begin(&mut self) {
        self.attempt = 0;
        self.ask();
    }

    fn again(&mut self, state: State) {
        self.state = state;
        self.attempt = self.attempt.saturating_add(1);
        self.ask();
    }

    fn ask(&mut self) {
        let action = match &self.state {
            State::Acquiring { is_asking: true }
            | State::Deciding {
                is_asking: true, ..
            }
            | State::Renewing {
                is_asking: true, ..
            }
            | State::Releasing { is_asking: true }
            | State::Reading => Action::ReadSlot,
            State::Acquiring { .. } | State::Renewing { .. } => return self.swap(self.acquire()),
            State::Releasing { .. } => return self.swap(Change::Release),
            State::Deciding { flush, .. } => {
                let change = Change::Commit {
                    after: self.flush,
                    parts: crate::num::narrow(flush.log.parts.len()),
                    digest: flush.log.digest,
                };
                return self.swap(change);
            }
            State::Loading(key) => Action::ReadLog(*key),
            State::Restoring(commit) | State::Materialising(commit) => {
                Action::Materialise(Arc::clone(commit))
            }
            State::WritingLog(flush) => Action::WriteLog {
                flush: flush.commit.flush,
                epoch: self.epoch,
                parts: flush.log.parts.clone(),
            },
            State::Idle | State::Ended => return,
        };
        self.push(action);
    }

    pub(super) fn swap(&mut self, change: Change) {
        self.push(Action::Swap(Conditional {
            slot: self.slot,
            epoch: self.epoch,
            change,
        }));
    }

    fn push(&mut self, action: Action) {
        self.request = self.request.saturating_add(1);
        self.out.push(Command {
            request: self.request,
            attempt: self.attempt,
            action,
        });
    }

    fn tell(&mut self, action: Action) {
        self.out.push(Command {
            request: 0,
            attempt: 0,
            action,
        });
    }
}
