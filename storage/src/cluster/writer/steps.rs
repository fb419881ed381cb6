//! What each answer leads to.

use std::sync::Arc;

use super::projector::Projector;
use super::{
    Action, Answer, BEHIND_MAX, Change, Command, Commit, Conditional, End, Flush, FlushLog,
    SlotRow, SlotWriter, WriterState,
};
use crate::cluster::LogError;

impl SlotWriter {
    /// One step: the state that was left, and the answer that came. Answers that do not belong to a command count as
    /// failed.
    pub(super) fn step(&mut self, state: WriterState, answer: Answer) {
        match state {
            WriterState::Acquiring { is_asking } => self.acquiring(is_asking, answer),
            WriterState::Reading => self.reading(answer),
            WriterState::Loading(row) => self.loading(row, answer),
            // Its projector is asked.
            WriterState::Restoring => self.state = WriterState::Restoring,
            WriterState::WritingLog(flush) => match answer {
                Answer::Done => {
                    self.state = WriterState::Deciding {
                        flush,
                        applied: self.projector.applied(),
                        is_asking: false,
                    };
                    self.begin();
                }
                _ => self.again(WriterState::WritingLog(flush)),
            },
            WriterState::Deciding {
                flush,
                applied,
                is_asking,
            } => self.deciding((flush, applied), is_asking, answer),
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
            Answer::Done | Answer::Failed | Answer::Logs(_) => {
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
        if row.applied == SlotRow::UNMADE {
            self.notify(Action::Report(LogError::Unmade));
            return self.again(WriterState::Reading);
        }
        self.flush = row.flush;
        self.seal = (row.flush > 0).then_some(row.seal);
        self.projector = Projector::new(row.applied);
        // The owner before may have gone before it deleted what it had noted with its last commits.
        let behind = u64::try_from(BEHIND_MAX).unwrap_or(0);
        self.noted = row.applied.saturating_sub(behind);
        self.forget_rows(row.applied);
        if row.flush == row.applied {
            return self.opened();
        }
        let state = WriterState::Loading(Box::new(row));
        if let Some(error) = self.doubt.take() {
            self.notify(Action::Report(error));
            return self.again(state);
        }
        self.state = state;
        self.begin();
    }

    fn loading(&mut self, row: Box<SlotRow>, answer: Answer) {
        let Answer::Logs(logs) = answer else {
            return self.again(WriterState::Loading(row));
        };
        match commits_of(&row, &logs) {
            Ok(commits) => {
                let commits = commits.into_iter().map(Arc::new);
                commits.for_each(|commit| self.projector.push(commit));
                self.state = WriterState::Restoring;
                self.project();
            }
            Err(error) => {
                // Another may have taken the slot since the row was read, and gone on: nothing is wrong before the row has
                // said that it is still this one's.
                self.doubt = Some(error);
                self.again(WriterState::Reading);
            }
        }
    }

    // Begins to write rows, if some wait and none are on their way.
    fn project(&mut self) {
        let request = self.numbers.saturating_add(1);
        if let Some(commits) = self.projector.begin(request) {
            self.numbers = request;
            self.out.push(Command {
                request,
                attempt: 0,
                action: Action::Project(commits),
            });
        }
    }

    /// Rows were written, or not.
    pub(super) fn projected(&mut self, answer: &Answer) {
        if !matches!(answer, Answer::Done) {
            self.numbers = self.numbers.saturating_add(1);
            let (commits, attempt) = self.projector.again(self.numbers);
            return self.out.push(Command {
                request: self.numbers,
                attempt,
                action: Action::Project(commits),
            });
        }
        if let Some(flush) = self.projector.done() {
            self.notify(Action::Applied { flush });
        }
        self.project();
        if matches!(self.state, WriterState::Restoring) {
            return self.opened();
        }
        self.look_up();
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
        self.look_up();
    }

    /// What waits for a writer that has nothing on its way begins, if it has nothing on its way.
    pub(super) fn look_up(&mut self) {
        if !matches!(self.state, WriterState::Idle) {
            return;
        }
        if self.is_leaving {
            // The next owner finds all rows.
            if self.projector.behind() == 0 {
                self.state = WriterState::Releasing { is_asking: false };
                self.begin();
            }
        } else if self.is_suspended && self.wants_renewal {
            self.state = WriterState::Renewing {
                is_asking: false,
                suspensions: self.suspensions,
            };
            self.begin();
        }
    }

    fn deciding(&mut self, sent: (Flush, u64), is_asking: bool, answer: Answer) {
        match answer {
            Answer::Applied => self.committed(sent),
            Answer::NotApplied(row) | Answer::Row(row) => self.judge(sent, row),
            Answer::Unknown => self.decide_again(sent, true),
            Answer::Done | Answer::Failed | Answer::Logs(_) => self.decide_again(sent, is_asking),
        }
    }

    fn decide_again(&mut self, (flush, applied): (Flush, u64), is_asking: bool) {
        self.again(WriterState::Deciding {
            flush,
            applied,
            is_asking,
        });
    }

    // What the row says about a commit that was sent.
    fn judge(&mut self, sent: (Flush, u64), row: SlotRow) {
        let flush = &sent.0;
        let is_mine = row.flush == flush.commit.flush && row.seal == flush.log.seal;
        match (is_mine, row.epoch == self.epoch) {
            (true, true) => self.committed(sent),
            // Committed, and then taken: the next owner writes the rows.
            (true, false) => {
                self.notify(Action::NotifyCommitted { flush: row.flush });
                self.end(End::Fenced(row));
            }
            (false, true) if row.flush == self.flush => self.decide_again(sent, false),
            (false, _) => self.end(End::Fenced(row)),
        }
    }

    fn committed(&mut self, (flush, applied): (Flush, u64)) {
        self.flush = flush.commit.flush;
        self.seal = Some(flush.log.seal);
        self.projector.push(flush.commit);
        self.notify(Action::NotifyCommitted { flush: self.flush });
        self.forget_rows(applied);
        self.project();
        self.rest();
    }

    // The slot's row says that all rows are written up to a flush: nobody reads them in its log again.
    fn forget_rows(&mut self, applied: u64) {
        let first = self.noted.saturating_add(1);
        if applied >= first && applied != SlotRow::UNMADE {
            self.noted = applied;
            let last = applied;
            self.notify(Action::ForgetRows { first, last });
        }
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
            Answer::Done | Answer::Failed | Answer::Logs(_) => self.again(WriterState::Renewing {
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
            Answer::Applied => {
                self.forget_rows(self.projector.applied());
                self.end(End::Released);
            }
            Answer::NotApplied(row) | Answer::Row(row) => {
                if row.epoch == self.epoch {
                    self.again(WriterState::Releasing { is_asking: false });
                } else {
                    self.forget_rows(row.applied);
                    self.end(End::Released);
                }
            }
            Answer::Unknown => self.again(WriterState::Releasing { is_asking: true }),
            Answer::Done | Answer::Failed | Answer::Logs(_) => {
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
            WriterState::Releasing { .. } => {
                let applied = self.projector.applied();
                return self.swap(Change::Release { applied });
            }
            WriterState::Deciding { flush, applied, .. } => {
                let change = Change::Commit {
                    after: self.flush,
                    applied: *applied,
                    seal: flush.log.seal,
                };
                return self.swap(change);
            }
            WriterState::Loading(row) => Action::ReadLogs(row.clone()),
            WriterState::WritingLog(flush) => Action::WriteLog {
                flush: flush.commit.flush,
                log: Arc::clone(&flush.log),
                before: self.seal,
            },
            WriterState::Idle | WriterState::Restoring | WriterState::Ended => return,
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
        self.numbers = self.numbers.saturating_add(1);
        self.request = self.numbers;
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

// The commits behind what is applied, in order.
fn commits_of(row: &SlotRow, logs: &[FlushLog]) -> Result<Vec<Commit>, LogError> {
    let mut commits = Vec::new();
    for flush in row.applied.saturating_add(1)..=row.flush {
        let found = logs.iter().find(|one| one.flush == flush);
        let found = found.ok_or(LogError::Unsealed { flush })?;
        let seal = if flush == row.flush {
            &row.seal
        } else {
            &found.seal
        };
        commits.push(Commit::from_log((row.slot, flush), seal, &found.log)?);
    }
    Ok(commits)
}
