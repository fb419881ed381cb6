//! Session messages to payloads.

use super::{Ack, Bye, Check, Checked, Hello, Message, PROTOCOL, Redirect, Welcome};
use crate::currency::Currency;
use crate::id::{Epoch, Seq};
use crate::limits::{
    ACK_REFUSALS_MAX, CHECK_DIGESTS_MAX, HELLO_VERSIONS_MAX, NOTICE_BYTES_MAX, ZONE_BYTES_MAX,
};

pub(super) fn payload(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    match message {
        Message::Hello(hello) => write_hello(&mut out, hello),
        Message::Check(check) => write_check(&mut out, check),
        Message::Goodbye => {}
        Message::Welcome(welcome) => write_welcome(&mut out, welcome),
        Message::Ack(ack) => write_ack(&mut out, ack),
        Message::Nack(nack) => out.extend(nack.expected.get().to_le_bytes()),
        Message::Slow(slow) => out.extend(slow.wait_ms.to_le_bytes()),
        Message::Redirect(Redirect { address }) => short_text(&mut out, address, NOTICE_BYTES_MAX),
        Message::Bye(Bye { reason, text }) => {
            out.extend(reason.code().to_le_bytes());
            short_text(&mut out, text, NOTICE_BYTES_MAX);
        }
        Message::Checked(checked) => write_checked(&mut out, checked),
    }
    out
}

fn write_hello(out: &mut Vec<u8>, hello: &Hello) {
    out.extend(PROTOCOL.to_le_bytes());
    let versions = hello.versions.iter().take(HELLO_VERSIONS_MAX);
    out.push(u8::try_from(versions.len()).unwrap_or(u8::MAX));
    for (family, version) in versions {
        out.extend([*family, *version]);
    }
    out.extend(hello.terminal.to_u64().to_le_bytes());
    out.extend(hello.epoch.map_or(0, Epoch::get).to_le_bytes());
    out.extend(hello.clock.us().to_le_bytes());
    out.extend(hello.currency.map_or(0, Currency::numeric).to_le_bytes());
    short_text(out, &hello.zone, ZONE_BYTES_MAX);
}

fn write_welcome(out: &mut Vec<u8>, welcome: &Welcome) {
    out.extend(welcome.terminal.to_u64().to_le_bytes());
    out.extend(welcome.epoch.get().to_le_bytes());
    out.extend(welcome.latest_epoch.get().to_le_bytes());
    out.extend(welcome.next_seq.get().to_le_bytes());
    out.extend(welcome.digest.to_le_bytes());
    out.extend(welcome.credit_frames.to_le_bytes());
    out.extend(welcome.frame_bytes_max.to_le_bytes());
    out.extend(welcome.frame_events_max.to_le_bytes());
    out.extend(welcome.time.us().to_le_bytes());
    out.extend(welcome.flags.to_le_bytes());
}

fn write_check(out: &mut Vec<u8>, check: &Check) {
    out.extend(check.epoch.get().to_le_bytes());
    out.extend(check.first_seq.get().to_le_bytes());
    let digests = check.digests.iter().take(CHECK_DIGESTS_MAX);
    out.extend(
        u16::try_from(digests.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    digests.for_each(|digest| out.extend(digest.to_le_bytes()));
}

fn write_checked(out: &mut Vec<u8>, checked: &Checked) {
    out.extend(checked.epoch.get().to_le_bytes());
    out.extend(checked.first_seq.get().to_le_bytes());
    out.extend(checked.matched.to_le_bytes());
    out.extend(checked.known.to_le_bytes());
}

fn write_ack(out: &mut Vec<u8>, ack: &Ack) {
    out.extend(ack.journalled.map_or(0, Seq::get).to_le_bytes());
    out.extend(ack.committed.map_or(0, Seq::get).to_le_bytes());
    let refusals = ack.refusals.iter().take(ACK_REFUSALS_MAX);
    out.extend(
        u16::try_from(refusals.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    for (seq, reason) in refusals {
        out.extend(seq.get().to_le_bytes());
        out.extend(reason.code().to_le_bytes());
        out.extend([0, 0]);
    }
}

// A length in one byte and the text, cut at a character when it is too long.
fn short_text(out: &mut Vec<u8>, text: &str, max: usize) {
    let end = (0..=text.len().min(max))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    out.push(u8::try_from(end).unwrap_or(0));
    out.extend_from_slice(&text.as_bytes()[..end]);
}
