//! A second decoder of every family: plain offsets, no rkyv, no unsafe code.
//!
//! It takes exactly the payloads that [`Verified`](crate::verified::Verified) takes and finds the same records in them;
//! tests hold the two together on right and on broken bytes. It copies, so it is for comparison and for tools, not for the
//! way of an event.

use thiserror::Error;

use crate::family::{Family, Reference, Text, device, sale, sensor, stock};
use crate::header::FrameHeader;
use crate::layout::{Layout, VECTOR_BYTES};

/// A decoded batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SafeBatch {
    /// Completed transactions.
    Sale(sale::v1::Batch),
    /// Movements, counts and reservations.
    Stock(stock::v1::Batch),
    /// Readings.
    Sensor(sensor::v1::Batch),
    /// Heartbeats.
    Device(device::v1::Batch),
}

/// A payload that is no batch of its header's family.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("payload is no batch of its family: {0}")]
pub struct SafeError(&'static str);

/// Decodes a payload by plain offsets.
///
/// # Errors
/// [`SafeError`] where [`Verified`](crate::verified::Verified) finds the frame unreadable.
pub fn decode(header: &FrameHeader, payload: &[u8]) -> Result<SafeBatch, SafeError> {
    header.check().map_err(|_| SafeError("header"))?;
    let family = header.family().ok_or(SafeError("family"))?;
    if usize::try_from(header.length) != Ok(payload.len()) {
        return Err(SafeError("length"));
    }
    let count = usize::try_from(header.count).map_err(|_| SafeError("count"))?;
    match family {
        Family::Sale => decode_sales(count, payload).map(SafeBatch::Sale),
        Family::Stock => {
            let (moves, refs, texts, text) = flat(count, payload)?;
            Ok(SafeBatch::Stock(stock::v1::Batch {
                moves,
                refs,
                texts,
                text,
            }))
        }
        Family::Sensor => {
            let (readings, refs, texts, text) = flat(count, payload)?;
            Ok(SafeBatch::Sensor(sensor::v1::Batch {
                readings,
                refs,
                texts,
                text,
            }))
        }
        Family::Device => {
            let (signs, refs, texts, text) = flat(count, payload)?;
            Ok(SafeBatch::Device(device::v1::Batch {
                signs,
                refs,
                texts,
                text,
            }))
        }
    }
}

type BatchTail = (Vec<Reference>, Vec<Text>, Vec<u8>);
type Flat<R> = (Vec<R>, Vec<Reference>, Vec<Text>, Vec<u8>);

fn flat<R: Layout>(count: usize, payload: &[u8]) -> Result<Flat<R>, SafeError> {
    let mut root = Root::of(payload, 4)?;
    let records: Vec<R> = root.vector()?;
    let (refs, texts, text) = root.tail(count)?;
    require(records.len() == count, "count")?;
    Ok((records, refs, texts, text))
}

fn decode_sales(count: usize, payload: &[u8]) -> Result<sale::v1::Batch, SafeError> {
    let mut root = Root::of(payload, 10)?;
    let sales: Vec<sale::v1::Sale> = root.vector()?;
    let lines: Vec<sale::v1::Line> = root.vector()?;
    let tenders: Vec<sale::v1::Tender> = root.vector()?;
    let taxes: Vec<sale::v1::Tax> = root.vector()?;
    let adjustments: Vec<sale::v1::Adjustment> = root.vector()?;
    let extras: Vec<sale::v1::TenderExtra> = root.vector()?;
    let prices: Vec<sale::v1::UnitPrice> = root.vector()?;
    let (refs, texts, text) = root.tail(count)?;
    require(sales.len() == count, "count")?;
    let sum = |of: fn(&sale::v1::Sale) -> usize| sales.iter().map(of).sum::<usize>();
    require(sum(|s| usize::from(s.lines)) == lines.len(), "lines")?;
    require(sum(|s| usize::from(s.tenders)) == tenders.len(), "tenders")?;
    require(sum(|s| usize::from(s.taxes)) == taxes.len(), "taxes")?;
    require(
        sum(|s| usize::from(s.adjustments)) == adjustments.len(),
        "adjustments",
    )?;
    rising(count, extras.iter().map(|entry| entry.event))?;
    rising(count, prices.iter().map(|entry| entry.event))?;
    Ok(sale::v1::Batch {
        sales,
        lines,
        tenders,
        taxes,
        adjustments,
        extras,
        prices,
        refs,
        texts,
        text,
    })
}

fn require(right: bool, what: &'static str) -> Result<(), SafeError> {
    if right { Ok(()) } else { Err(SafeError(what)) }
}

fn rising(count: usize, events: impl Iterator<Item = u16>) -> Result<(), SafeError> {
    let events: Vec<usize> = events.map(usize::from).collect();
    require(
        events.is_sorted() && events.last().is_none_or(|&last| last < count),
        "order",
    )
}

// The root is the last thing in a payload; its vectors lie before it, gap-free and in order.
struct Root<'a> {
    payload: &'a [u8],
    // Where the root begins, where its next entry is, and where that entry's vector must begin.
    root: usize,
    entry: usize,
    at: usize,
}

impl<'a> Root<'a> {
    fn of(payload: &'a [u8], vectors: usize) -> Result<Self, SafeError> {
        let root = payload
            .len()
            .checked_sub(vectors * VECTOR_BYTES)
            .ok_or(SafeError("short"))?;
        Ok(Self {
            payload,
            root,
            entry: root,
            at: 0,
        })
    }

    fn slice(&mut self, record_bytes: usize) -> Result<&'a [u8], SafeError> {
        let entry = self.payload.get(self.entry..).ok_or(SafeError("short"))?;
        let offset = entry
            .first_chunk()
            .map(|b| i32::from_le_bytes(*b))
            .ok_or(SafeError("short"))?;
        let length = entry
            .get(4..)
            .and_then(|b| b.first_chunk())
            .map(|b| u32::from_le_bytes(*b));
        let length = length
            .and_then(|n| usize::try_from(n).ok())
            .ok_or(SafeError("short"))?;
        let stated = i64::try_from(self.entry)
            .ok()
            .map(|at| at + i64::from(offset));
        require(stated == i64::try_from(self.at).ok(), "placement")?;
        let end = length
            .checked_mul(record_bytes)
            .and_then(|bytes| bytes.checked_add(self.at));
        let end = end
            .filter(|&end| end <= self.root)
            .ok_or(SafeError("length"))?;
        let bytes = self.payload.get(self.at..end).ok_or(SafeError("length"))?;
        self.at = end;
        self.entry += VECTOR_BYTES;
        Ok(bytes)
    }

    fn vector<R: Layout>(&mut self) -> Result<Vec<R>, SafeError> {
        Ok(self
            .slice(R::BYTES)?
            .chunks_exact(R::BYTES)
            .filter_map(R::get)
            .collect())
    }

    fn tail(&mut self, count: usize) -> Result<BatchTail, SafeError> {
        let refs: Vec<Reference> = self.vector()?;
        let texts: Vec<Text> = self.vector()?;
        let text = self.slice(1)?.to_vec();
        require(self.at == self.root, "gap before the root")?;
        rising(count, refs.iter().map(|entry| entry.event))?;
        rising(count, texts.iter().map(|entry| entry.event))?;
        let bytes: usize = texts.iter().map(|entry| usize::from(entry.len)).sum();
        require(bytes == text.len(), "text")?;
        Ok((refs, texts, text))
    }
}
