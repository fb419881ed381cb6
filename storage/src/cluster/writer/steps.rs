//! What each answer leads to.

use std::sync::Arc;

use super::{
    Action, Answer, Change, Command, Commit, Conditional, End, Flush, LogKey, SlotRow, SlotWriter,
    WriterState,
};

impl SlotWriter {
    /// One step: the state that was left, and the answer that came. Answers that do not belong to a command count as
    /// failed.
    pub(super) fn step(&mut self, state: WriterState, answer: Answer) {
        match state {
            WriterState::Acquiring { is_asking } => self.acquiring(is_asking, answer),
            WriterState::Reading => self.reading(answer),
            WriterState::Loading(key) => self.loading(key, answer),
            WriterState::Restoring(commit) => match answer {
                Answer::Done => self.serve(),
                _ => self.again(WriterState::Restoring(commit)),
            },
            WriterState::WritingLog(flush) => match answer {
                Answer::Done => {
                    self.state = WriterState::Deciding {
                        flush,
                        is_asking: false,
                    };
                    self.begin();
                }
                _ => self.again(WriterState::WritingLog(flush)),
            },
            WriterState::Deciding { flush, is_asking } => self.deciding(flush, is_asking, answer),
            WriterState::Materialising(commit) => match answer {
                Answer::Done => self.rest(),
                _ => self.again(WriterState::Materialising(commit)),
            },
            WriterState::Renewing {
                is_asking,
                suspensions,
            } => self.renewing(is_asking, suspensions, answer),
            WriterState::Releasing { is_asking } => self.releasing(is_asking, answer),
            WriterState::Idle => self.state = WriterState::Idle,
            WriterState::Ended => {}
        }
    }

    fn acquiring(&mut self, is_asking: bool, answer: Answer) {
        match answer {
            Answer::Applied => self.acquired(),
            Answer::NotApplied(row) | Answer::Row(row) => {
                if self.has_taken(&row) {
                    self.acquired();
                } else if row.epoch == self.epoch {
                    self.again(WriterState::Acquiring { is_asking: false });
                } else {
                    self.end(End::Lost(row));
                }
            }
            Answer::Unknown => self.again(WriterState::Acquiring { is_asking: true }),
            Answer::Done | Answer::Failed | Answer::Log(_) => {
                self.again(WriterState::Acquiring { is_asking });
            }
        }
    }

    // Whether a row shows that the change of epoch that was asked for happened. Nobody else writes this node's id.
    fn has_taken(&self, row: &SlotRow) -> bool {
        row.epoch == self.epoch.saturating_add(1) && row.owner == Some(self.me)
    }

    fn acquired(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.state = WriterState::Reading;
        self.begin();
    }

    fn reading(&mut self, answer: Answer) {
        let Answer::Row(row) = answer else {
            return self.again(WriterState::Reading);
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
            self.notify(Action::Report(error));
            return self.again(WriterState::Loading(key));
        }
        self.state = WriterState::Loading(key);
        self.begin();
    }

    fn loading(&mut self, key: LogKey, answer: Answer) {
        let Answer::Log(parts) = answer else {
            return self.again(WriterState::Loading(key));
        };
        match Commit::from_parts(&key, &parts) {
            Ok(_) if crate::planted::is("serve-without-rows") => self.serve(),
            Ok(commit) => {
                self.state = WriterState::Restoring(Arc::new(commit));
                self.begin();
            }
            Err(error) => {
                // Another may have taken the slot since the row was read, and deleted the log behind the next one: nothing is
                // wrong before the row has said that it is still this one's.
                self.doubt = Some(error);
                self.again(WriterState::Reading);
            }
        }
    }

    fn serve(&mut self) {
        // The owner before may have gone between its commit and the deletion.
        if self.flush > 1 {
            let flush = self.flush.saturating_sub(1);
            self.notify(Action::DeleteLog { flush });
        }
        self.opened();
    }

    fn opened(&mut self) {
        if !self.is_suspended && !self.is_leaving {
            self.notify(Action::Serve {
                flush: self.flush,
                epoch: self.epoch,
            });
        }
        self.rest();
    }

    /// Nothing is on its way: what waited for that begins.
    pub(super) fn rest(&mut self) {
        self.state = WriterState::Idle;
        // Whatever arrives under the old number is not for the next command.
        self.request = self.request.saturating_add(1);
        if self.is_leaving {
            self.state = WriterState::Releasing { is_asking: false };
            self.begin();
        } else if self.is_suspended && self.wants_renewal {
            self.state = WriterState::Renewing {
                is_asking: false,
                suspensions: self.suspensions,
            };
            self.begin();
        }
    }

    fn deciding(&mut self, flush: Flush, is_asking: bool, answer: Answer) {
        match answer {
            Answer::Applied => self.committed(flush),
            Answer::Unknown if crate::planted::is("trust-unknown") => self.committed(flush),
            Answer::Row(row) if crate::planted::is("commit-again") && row.flush > self.flush => {
                self.flush = row.flush;
                let mut commit = Commit::clone(&flush.commit);
                commit.flush = row.flush + 1;
                self.state = WriterState::Idle;
                drop(self.commit(commit));
            }
            Answer::NotApplied(row) | Answer::Row(row) => self.judge(flush, row),
            Answer::Unknown => self.again(WriterState::Deciding {
                flush,
                is_asking: true,
            }),
            Answer::Done | Answer::Failed | Answer::Log(_) => {
                self.again(WriterState::Deciding { flush, is_asking });
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
                self.notify(Action::NotifyCommitted { flush: row.flush });
                self.end(End::Fenced(row));
            }
            (false, true) if row.flush == self.flush => self.again(WriterState::Deciding {
                flush,
                is_asking: false,
            }),
            (false, _) if crate::planted::is("ignore-fence") => self.committed(flush),
            (false, _) => self.end(End::Fenced(row)),
        }
    }

    fn committed(&mut self, flush: Flush) {
        let before = self.flush;
        self.flush = flush.commit.flush;
        self.notify(Action::NotifyCommitted { flush: self.flush });
        if before > 0 {
            self.notify(Action::DeleteLog { flush: before });
        }
        self.state = WriterState::Materialising(flush.commit);
        self.begin();
    }

    fn renewing(&mut self, is_asking: bool, suspensions: u64, answer: Answer) {
        match answer {
            Answer::Applied => self.renewed(suspensions),
            Answer::NotApplied(row) | Answer::Row(row) => {
                if self.has_taken(&row) {
                    self.renewed(suspensions);
                } else if row.epoch == self.epoch {
                    self.again(WriterState::Renewing {
                        is_asking: false,
                        suspensions,
                    });
                } else {
                    self.end(End::Fenced(row));
                }
            }
            Answer::Unknown => self.again(WriterState::Renewing {
                is_asking: true,
                suspensions,
            }),
            Answer::Done | Answer::Failed | Answer::Log(_) => self.again(WriterState::Renewing {
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
                    self.again(WriterState::Releasing { is_asking: false });
                } else {
                    self.end(End::Released);
                }
            }
            Answer::Unknown => self.again(WriterState::Releasing { is_asking: true }),
            Answer::Done | Answer::Failed | Answer::Log(_) => {
                self.again(WriterState::Releasing { is_asking });
            }
        }
    }

    pub(super) fn end(&mut self, end: End) {
        self.state = WriterState::Ended;
        self.notify(Action::Stop(end));
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

    fn again(&mut self, state: WriterState) {
        self.state = state;
        self.attempt = self.attempt.saturating_add(1);
        self.ask();
    }

    fn ask(&mut self) {
        let action = match &self.state {
            WriterState::Acquiring { is_asking: true }
            | WriterState::Deciding {
                is_asking: true, ..
            }
            | WriterState::Renewing {
                is_asking: true, ..
            }
            | WriterState::Releasing { is_asking: true }
            | WriterState::Reading => Action::ReadSlot,
            WriterState::Acquiring { .. } | WriterState::Renewing { .. } => {
                return self.swap(self.acquire());
            }
            WriterState::Releasing { .. } => return self.swap(Change::Release),
            WriterState::Deciding { flush, .. } => {
                let change = Change::Commit {
                    after: self.flush,
                    parts: crate::num::narrow(flush.log.parts.len()),
                    digest: flush.log.digest,
                };
                return self.swap(change);
            }
            WriterState::Loading(key) => Action::ReadLog(*key),
            WriterState::Restoring(commit) | WriterState::Materialising(commit) => {
                Action::Materialise(Arc::clone(commit))
            }
            WriterState::WritingLog(flush) => Action::WriteLog {
                flush: flush.commit.flush,
                epoch: self.epoch,
                parts: flush.log.parts.clone(),
            },
            WriterState::Idle | WriterState::Ended => return,
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

    fn notify(&mut self, action: Action) {
        self.out.push(Command {
            request: 0,
            attempt: 0,
            action,
        });
    }
}
