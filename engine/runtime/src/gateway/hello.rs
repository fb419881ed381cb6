//! The start of a session: who speaks, and where it goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::rpc::CallResult;
use till_core::{Greeting, HelloError};
use till_protocol::code::Reason;
use till_protocol::family::Family;
use till_protocol::id::{Epoch, Seq};
use till_protocol::limits::{FRAME_BYTES_MAX, FRAME_EVENTS_MAX};
use till_protocol::reply::{Bye, Check, Checked, Hello, Welcome, welcome_flag};
use till_protocol::time::Timestamp;

use crate::engine::Shared;
use crate::pki::Speaks;
use crate::session::Session;
use crate::shard_actor::{Greet, Message, now_us};

/// Frames that a device may have in flight on one stream: enough to keep a group of commits busy, and few enough to be
/// sent again.
pub(super) const CREDIT_FRAMES: u32 = 64;

/// Greets a device, or says why not.
pub(super) async fn greet(
    shared: &Shared,
    speaks: &Speaks,
    hello: Hello,
) -> Result<(Arc<Session>, Welcome), Bye> {
    if shared.draining.load(Ordering::Acquire) {
        return Err(Bye::new(Reason::Draining));
    }
    if !speaks.may(hello.terminal) {
        return Err(Bye::new(Reason::ForeignTerminal));
    }
    let speaks_known =
        |(family, version): &(u8, u8)| Family::from_u8(*family).is_some() && *version == 1;
    if hello.versions.is_empty() || !hello.versions.iter().all(speaks_known) {
        return Err(Bye::new(Reason::Unsupported));
    }
    let terminal = hello.terminal;
    let now = Timestamp::from_us(now_us());
    let registry = &shared.config.registry;
    let register = registry.auto_register.then(|| {
        let currency = hello.currency.unwrap_or(registry.currency);
        let zone = if hello.zone.is_empty() {
            registry.zone.clone()
        } else {
            hello.zone.clone()
        };
        (currency.numeric(), zone)
    });
    let actor = shared
        .actor(shared.route(terminal.store()))
        .ok_or_else(|| Bye::new(Reason::Busy))?;
    let greet = Greet {
        hello,
        now,
        register,
    };
    let answer = actor
        .call(|port| Message::Greet(greet, port), None)
        .await
        .map_err(|_stopped| Bye::new(Reason::Busy))?;
    let CallResult::Success(answer) = answer else {
        return Err(Bye::new(Reason::Internal));
    };
    match answer {
        Ok((greeting, session)) => Ok((session, welcome(terminal, &greeting, now))),
        Err(HelloError::Refused(reason)) => Err(Bye::new(reason)),
        Err(error) => {
            tracing::error!(%terminal, %error, "a session could not be started");
            Err(Bye::new(Reason::Internal))
        }
    }
}

fn welcome(
    terminal: till_protocol::id::TerminalId,
    greeting: &Greeting,
    now: Timestamp,
) -> Welcome {
    let mut flags = 0;
    if greeting.is_closed {
        flags |= welcome_flag::CLOSED;
    }
    if greeting.clock_suspect {
        flags |= welcome_flag::CLOCK_SUSPECT;
    }
    Welcome {
        terminal,
        epoch: greeting.epoch,
        // A life that was granted and has no events yet is the latest one that a device can know of.
        latest_epoch: Epoch::new(greeting.latest_epoch).unwrap_or(greeting.epoch),
        next_seq: Seq::new(greeting.next_seq).unwrap_or(Seq::FIRST),
        mark: greeting.mark,
        credit_frames: CREDIT_FRAMES,
        frame_bytes_max: FRAME_BYTES_MAX,
        frame_events_max: FRAME_EVENTS_MAX,
        time: now,
        flags,
    }
}

/// Compares a device's marks with the events that the journal holds. Blocks: the facts are read from disk.
pub(super) fn compare(shared: &Shared, session: &Session, check: &Check) -> Checked {
    let mut checked = Checked {
        epoch: check.epoch,
        first_seq: check.first_seq,
        matched: 0,
        known: 0,
    };
    let terminal = session.key.terminal.to_u64();
    let count = u64::try_from(check.marks.len()).unwrap_or(0);
    let last = check.first_seq.plus(count.saturating_sub(1));
    let found = shared.facts.by_terminal(
        terminal,
        check.epoch.get(),
        check.first_seq.get(),
        last.get(),
    );
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(terminal, %error, "events could not be compared");
            return checked;
        }
    };
    let mut marks: Vec<Option<u64>> = vec![None; check.marks.len()];
    for fact in found {
        match fact {
            Ok(fact) => note(&fact, check.first_seq.get(), &mut marks),
            Err(error) => tracing::error!(terminal, %error, "a record could not be compared"),
        }
    }
    let known = marks.iter().take_while(|mark| mark.is_some()).count();
    let pairs = marks.iter().zip(&check.marks);
    let matched = pairs
        .take_while(|(ours, theirs)| **ours == Some(**theirs))
        .count();
    checked.known = u16::try_from(known).unwrap_or(u16::MAX);
    checked.matched = u16::try_from(matched).unwrap_or(u16::MAX);
    checked
}

/// Fills in the marks of a record's events. An event without a readable payload (a tombstone, a duplicate by event id) is
/// known, and like no other.
fn note(fact: &till_storage::facts::Fact, first: u64, marks: &mut [Option<u64>]) {
    let head = &fact.record.head;
    let batch = fact.verified().ok().flatten();
    for index in head.skip..head.count {
        let place = fact
            .seq(index)
            .checked_sub(first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(slot) = place.and_then(|at| marks.get_mut(at)) {
            *slot = Some(batch.as_ref().map_or(0, |batch| batch.mark(index)));
        }
    }
}
