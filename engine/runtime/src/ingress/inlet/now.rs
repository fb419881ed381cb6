//! A session's way into its shard, for whoever cannot wait: at once or not at all. Reads the disk.

use std::sync::Arc;
use std::time::Instant;

use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::reply::{Bye, Check};

use crate::admission::{Gate, Permit, Room};
use crate::ingress::check;
use crate::ingress::inlet::{End, FrameBatch, Inlet, Knocking, sent_again};
use crate::ingress::session::farewell::Farewell;

impl Knocking {
    /// Hands the Hello to its shard, if there is room now.
    pub(crate) fn try_enter(self) -> Result<Inlet, Bye> {
        let permit = try_enter(&self.inlet.slot.gate);
        let permit = permit.ok_or_else(|| Bye::new(Reason::Busy))?;
        self.send(permit)
    }
}

impl Inlet {
    /// Frames go to the shard, if there is room now and the handshake is out; they come back where not.
    pub(crate) fn try_submit(&self, batch: FrameBatch) -> Result<Result<(), End>, Vec<Frame>> {
        let FrameBatch { frames, room } = batch;
        let Some(established) = self.session.welcomed_now() else {
            return Err(frames);
        };
        let Some(permit) = self.slot.gate.try_admit(room) else {
            return Err(frames);
        };
        for frame in &frames {
            if let Some((first, last)) = sent_again(&established, &frame.header) {
                let facts = self.intake.look_ups.facts.as_ref();
                match check::refusals(facts, established.key, first, last) {
                    Ok(refusals) => self.session.refused(&refusals),
                    Err(_) => self.session.bye(Reason::Internal, None),
                }
            }
        }
        let verified = self.verified(frames, permit, Instant::now());
        Ok(self.hand_on(verified))
    }

    /// Answers a device that asks which of its events are here. `false`: the handshake is not out, or what is asked for is in no
    /// commit; ask again.
    pub(crate) fn try_check(&self, check: &Check) -> bool {
        let session = &self.session;
        if session.is_over() {
            return true;
        }
        if session.welcomed_now().is_none() {
            return false;
        }
        let facts = self.intake.look_ups.facts.as_ref();
        match check::answer(facts, session.terminal(), check) {
            Ok(None) => return false,
            Ok(Some((checked, refusals))) => {
                if !session.checked(checked, refusals) {
                    session.bye(Reason::Busy, None);
                }
            }
            Err(_) => session.bye(Reason::Internal, None),
        }
        true
    }

    /// The device says goodbye. `false`: there is no room now.
    pub(crate) fn try_goodbye(&self) -> bool {
        let Some(permit) = try_enter(&self.slot.gate) else {
            return false;
        };
        // A shard that does not run has ended its sessions.
        let _down = self.send_end(Farewell::Silent, permit);
        true
    }
}

fn try_enter(gate: &Arc<Gate>) -> Option<Permit> {
    gate.try_admit(Room {
        frames: 1,
        ..Room::default()
    })
}
