//! Payloads to session messages.

use super::{
    Ack, Bye, Check, Checked, Hello, Message, MessageError, Nack, PROTOCOL, Redirect, Slow,
    Welcome, kind,
};
use crate::code::Reason;
use crate::currency::Currency;
use crate::id::{Epoch, Seq, TerminalId};
use crate::limits::{
    ACK_REFUSALS_MAX, CHECK_DIGESTS_MAX, HELLO_BYTES_MAX, HELLO_VERSIONS_MAX, ZONE_BYTES_MAX,
};
use crate::time::{DeviceTime, Timestamp};

/// Name of the field whose error has a reason of its own.
pub(super) const CURRENCY: &str = "currency";

pub(super) fn message(kind: u8, payload: &[u8]) -> Result<Message, MessageError> {
    let mut from = Reader {
        kind,
        rest: payload,
    };
    let message = match kind {
        kind::HELLO => Message::Hello(read_hello(&mut from)?),
        kind::CHECK => Message::Check(read_check(&mut from)?),
        kind::GOODBYE => Message::Goodbye,
        kind::WELCOME => Message::Welcome(read_welcome(&mut from)?),
        kind::ACK => Message::Ack(read_ack(&mut from)?),
        kind::NACK => Message::Nack(Nack {
            expected: from.seq("expected")?,
        }),
        kind::SLOW => Message::Slow(Slow {
            wait_ms: from.u32()?,
        }),
        kind::REDIRECT => Message::Redirect(Redirect {
            address: from.text("address")?,
        }),
        kind::BYE => Message::Bye(Bye {
            reason: Reason::from_code(from.u16()?),
            text: from.text("text")?,
        }),
        kind::CHECKED => Message::Checked(Checked {
            epoch: from.epoch("epoch")?,
            first_seq: from.seq("first sequence number")?,
            matched: from.u16()?,
            known: from.u16()?,
        }),
        unknown => return Err(MessageError::UnknownKind(unknown)),
    };
    if from.rest.is_empty() {
        Ok(message)
    } else {
        Err(MessageError::Long {
            kind,
            extra: from.rest.len(),
        })
    }
}

fn read_hello(from: &mut Reader<'_>) -> Result<Hello, MessageError> {
    let max = usize::try_from(HELLO_BYTES_MAX).unwrap_or(usize::MAX);
    if from.rest.len() > max {
        return Err(MessageError::Long {
            kind: from.kind,
            extra: from.rest.len() - max,
        });
    }
    let protocol = from.u16()?;
    if protocol != PROTOCOL {
        return Err(MessageError::Protocol(protocol));
    }
    let count = usize::from(from.u8()?);
    within("versions", count, HELLO_VERSIONS_MAX)?;
    let versions = (0..count)
        .map(|_| Ok((from.u8()?, from.u8()?)))
        .collect::<Result<_, _>>()?;
    let terminal = from.terminal()?;
    let epoch = match from.u32()? {
        0 => None,
        number => Some(Epoch::new(number).map_err(|_| MessageError::Field { field: "epoch" })?),
    };
    let clock = DeviceTime::from_us(from.i64()?);
    let currency = match from.u16()? {
        0 => None,
        number => Some(
            Currency::from_numeric(number).map_err(|_| MessageError::Field { field: CURRENCY })?,
        ),
    };
    let zone = from.text("zone")?;
    within("zone", zone.len(), ZONE_BYTES_MAX)?;
    if !zone.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(MessageError::Field { field: "zone" });
    }
    Ok(Hello {
        versions,
        terminal,
        epoch,
        clock,
        currency,
        zone,
    })
}

fn read_welcome(from: &mut Reader<'_>) -> Result<Welcome, MessageError> {
    Ok(Welcome {
        terminal: from.terminal()?,
        epoch: from.epoch("epoch")?,
        latest_epoch: from.epoch("latest epoch")?,
        next_seq: from.seq("next sequence number")?,
        digest: from.u64()?,
        credit_frames: from.u32()?,
        frame_bytes_max: from.u32()?,
        frame_events_max: from.u32()?,
        time: Timestamp::from_us(from.i64()?),
        flags: from.u32()?,
    })
}

fn read_check(from: &mut Reader<'_>) -> Result<Check, MessageError> {
    let epoch = from.epoch("epoch")?;
    let first_seq = from.seq("first sequence number")?;
    let count = usize::from(from.u16()?);
    within("marks", count, CHECK_DIGESTS_MAX)?;
    let digests = (0..count).map(|_| from.u64()).collect::<Result<_, _>>()?;
    Ok(Check {
        epoch,
        first_seq,
        digests,
    })
}

fn read_ack(from: &mut Reader<'_>) -> Result<Ack, MessageError> {
    let journalled = from.seq_or_none("journalled")?;
    let committed = from.seq_or_none("committed")?;
    let count = usize::from(from.u16()?);
    within("refusals", count, ACK_REFUSALS_MAX)?;
    let refusals = (0..count)
        .map(|_| {
            let seq = from.seq("refused sequence number")?;
            let reason = Reason::from_code(from.u16()?);
            if from.u16()? == 0 {
                Ok((seq, reason))
            } else {
                Err(MessageError::Field { field: "padding" })
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(Ack {
        journalled,
        committed,
        refusals,
    })
}

const fn within(field: &'static str, count: usize, max: usize) -> Result<(), MessageError> {
    if count <= max {
        Ok(())
    } else {
        Err(MessageError::Field { field })
    }
}

struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(MessageError::Short { kind: self.kind })?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, MessageError> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, MessageError> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, MessageError> {
        self.take().map(i64::from_le_bytes)
    }

    fn epoch(&mut self, field: &'static str) -> Result<Epoch, MessageError> {
        Epoch::new(self.u32()?).map_err(|_| MessageError::Field { field })
    }

    fn seq(&mut self, field: &'static str) -> Result<Seq, MessageError> {
        Seq::new(self.u64()?).map_err(|_| MessageError::Field { field })
    }

    fn seq_or_none(&mut self, field: &'static str) -> Result<Option<Seq>, MessageError> {
        match self.u64()? {
            0 => Ok(None),
            number => Seq::new(number)
                .map(Some)
                .map_err(|_| MessageError::Field { field }),
        }
    }

    fn terminal(&mut self) -> Result<TerminalId, MessageError> {
        TerminalId::from_u64(self.u64()?).map_err(|_| MessageError::Field { field: "terminal" })
    }

    fn text(&mut self, field: &'static str) -> Result<String, MessageError> {
        let length = usize::from(self.u8()?);
        let (text, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(MessageError::Short { kind: self.kind })?;
        self.rest = rest;
        str::from_utf8(text)
            .map(str::to_owned)
            .map_err(|_| MessageError::Field { field })
    }
}
