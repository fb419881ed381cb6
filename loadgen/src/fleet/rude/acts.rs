//! The single pieces of bad behaviour.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use till_protocol::header::HEADER_BYTES;

use super::{Device, Fate, RudeLine, Said};
use crate::bench::now_us;
use crate::fleet::Yard;
use crate::workload::Event;

/// Times that are wrong by up to so many days.
const LIE_DAYS: i64 = 3;
const DAY_US: i64 = 86_400_000_000;

impl Device {
    /// Does one rude thing. Gives the line back where it still stands.
    pub(super) async fn act(
        &mut self,
        mut line: RudeLine,
        yard: &Arc<Yard>,
    ) -> Result<Option<RudeLine>> {
        if !self.said.is_empty() {
            // After a cut: the rest of what was said comes first.
            for frame in self.frames(self.first)? {
                line.send.write_chunk(frame).await?;
            }
            self.quiesced(&mut line, yard).await?;
            return Ok(Some(line));
        }
        if yard.is_over() {
            return Ok(Some(line));
        }
        match self.dice.below(12) {
            0 => self.repeat(line, yard).await,
            1 => self.reorder(line, yard).await,
            2 => self.cut(line, yard).await,
            3 => self.lie(line, yard).await,
            4 => self.same_name(line, yard).await,
            5 => self.nonsense(line, yard).await,
            6..12 => self.broken(line, yard).await,
            _ => Ok(Some(line)),
        }
    }

    /// Says a few new events; they are in the books once they are acknowledged.
    fn say(&mut self, yard: &Yard, fate: Fate, mut change: impl FnMut(&mut Event)) {
        for _ in 0..self.dice.between(1, 12) {
            let mut event = self.workload.next_at(0, now_us());
            change(&mut event);
            self.say_one(yard, event, fate);
        }
    }

    fn say_one(&mut self, yard: &Yard, event: Event, fate: Fate) {
        yard.sent.fetch_add(1, Ordering::Relaxed);
        self.said.push_back(Said { event, fate });
    }

    /// Every frame twice, once before and once after the ack.
    async fn repeat(&mut self, mut line: RudeLine, yard: &Yard) -> Result<Option<RudeLine>> {
        self.say(yard, Fate::Applied, |_| {});
        let frames = self.frames(self.first)?;
        let events = u64::try_from(self.said.len())?;
        for frame in frames.iter().chain(&frames) {
            line.send.write_chunk(frame.clone()).await?;
        }
        self.quiesced(&mut line, yard).await?;
        for frame in frames {
            line.send.write_chunk(frame).await?;
        }
        yard.repeats.fetch_add(2 * events, Ordering::Relaxed);
        Ok(Some(line))
    }

    /// The last frame first: the engine names the gap.
    async fn reorder(&mut self, mut line: RudeLine, yard: &Yard) -> Result<Option<RudeLine>> {
        self.say(yard, Fate::Applied, |_| {});
        self.say(yard, Fate::Applied, |_| {});
        let mut frames = self.frames(self.first)?;
        frames.reverse();
        for frame in frames {
            line.send.write_chunk(frame).await?;
        }
        self.quiesced(&mut line, yard).await?;
        Ok(Some(line))
    }

    /// The stream ends in the middle of a frame.
    async fn cut(&mut self, mut line: RudeLine, yard: &Yard) -> Result<Option<RudeLine>> {
        self.say(yard, Fate::Applied, |_| {});
        for frame in self.frames(self.first)? {
            let half = frame.slice(..frame.len() / 2);
            line.send.write_chunk(half).await?;
        }
        if self.dice.in_1000(500) {
            line.send.reset(0_u32.into()).ok();
        } else {
            line.send.finish().ok();
        }
        line.connection.close(0_u32.into(), b"cut");
        Ok(None)
    }

    /// Times that cannot be: they are taken, filed under what they say, and flagged.
    async fn lie(&mut self, mut line: RudeLine, yard: &Yard) -> Result<Option<RudeLine>> {
        let off = self.dice.between(-LIE_DAYS, LIE_DAYS) * DAY_US;
        self.say(yard, Fate::Applied, |event| match event {
            Event::Sale(sale) => sale.sale.at += off,
            Event::Move(movement, _) => movement.at += off,
            Event::Reading(reading) => reading.at += off,
            Event::Sign(sign) => sign.at += off,
        });
        for frame in self.frames(self.first)? {
            line.send.write_chunk(frame).await?;
        }
        self.quiesced(&mut line, yard).await?;
        Ok(Some(line))
    }

    /// One event id three times: the same content again, and other content under it.
    async fn same_name(&mut self, mut line: RudeLine, yard: &Yard) -> Result<Option<RudeLine>> {
        let mut id = [0; 16];
        for (to, from) in id
            .iter_mut()
            .zip(self.dice.roll().to_le_bytes().iter().cycle())
        {
            *to = *from;
        }
        let first = loop {
            if let Event::Sale(mut sale) = self.workload.next_at(0, now_us()) {
                sale.event_id = Some(id);
                break sale;
            }
        };
        let mut other = first.clone();
        other.sale.operator += 1;
        self.say_one(yard, Event::Sale(first.clone()), Fate::Applied);
        self.say_one(yard, Event::Sale(first), Fate::Duplicate);
        self.say_one(yard, Event::Sale(other), Fate::Quarantined);
        for frame in self.frames(self.first)? {
            line.send.write_chunk(frame).await?;
        }
        self.quiesced(&mut line, yard).await?;
        Ok(Some(line))
    }

    /// Events of kinds that do not exist among good ones: only they are refused.
    async fn nonsense(&mut self, mut line: RudeLine, yard: &Yard) -> Result<Option<RudeLine>> {
        self.say(yard, Fate::Applied, |_| {});
        self.say(yard, Fate::Refused, |event| match event {
            Event::Sale(sale) => sale.sale.kind = 99,
            Event::Move(movement, _) => movement.kind = 99,
            Event::Reading(reading) => reading.kind = 99,
            Event::Sign(sign) => sign.kind = 99,
        });
        self.say(yard, Fate::Applied, |_| {});
        for frame in self.frames(self.first)? {
            line.send.write_chunk(frame).await?;
        }
        self.quiesced(&mut line, yard).await?;
        Ok(Some(line))
    }

    /// Bytes that are no frame: the engine ends the stream, and nothing of them counts.
    async fn broken(&mut self, mut line: RudeLine, yard: &Yard) -> Result<Option<RudeLine>> {
        self.say(yard, Fate::Applied, |_| {});
        let good = self
            .frames(self.first)?
            .into_iter()
            .next()
            .unwrap_or_default();
        let mut bytes = BytesMut::from(&good[..]);
        let what = match self.dice.below(5) {
            0 => {
                self.spoil(&mut bytes, HEADER_BYTES);
                "a wrong checksum"
            }
            1 => {
                self.spoil(&mut bytes, 0);
                "a broken header"
            }
            2 => {
                set(&mut bytes, 8, &u32::MAX.to_le_bytes());
                "a frame of 4 GiB"
            }
            3 => {
                set(&mut bytes, 5, &[250]);
                "a version that does not exist"
            }
            _ => {
                bytes.clear();
                for _ in 0..self.dice.between(32, 4_096) {
                    let [byte, ..] = self.dice.roll().to_le_bytes();
                    bytes.extend_from_slice(&[byte]);
                }
                "noise"
            }
        };
        let bytes: Bytes = bytes.freeze();
        line.send.write_chunk(bytes).await?;
        // The end of the stream makes a header whose rest never comes complete as well.
        line.send.finish().ok();
        self.turned_away(line, what).await
    }

    /// Flips a bit at or behind a place.
    fn spoil(&mut self, bytes: &mut BytesMut, from: usize) {
        let len = bytes.len().saturating_sub(from).max(1);
        let place = from + self.dice.index(if from == 0 { HEADER_BYTES } else { len });
        let bit = self.dice.below(8);
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << bit;
        }
    }
}

fn set(bytes: &mut BytesMut, at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + new.len()) {
        place.copy_from_slice(new);
    }
}
