//! Frames made once and sent many times: per send only times, receipt numbers, sequence and checksum are new.
//!
//! The client must cost clearly less than the engine that it measures; a fresh archive per frame would not.

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use till_protocol::family::{Family, sale, stock};

use crate::oracle::Sums;
use crate::wire;
use crate::workload::{Catalogue, Dice, Event, SaleEvent};

const AT_MARK: i64 = 0x5eed_7e57_0000_0000;
const SALE_BYTES: usize = 34;
const MOVE_BYTES: usize = 32;
/// Lines of each sale of the reference mix.
const LINES: usize = 3;

/// A frame's payload with the places that change, and what its events come to.
#[derive(Debug)]
pub(crate) struct Template {
    family: Family,
    events: u32,
    payload: Vec<u8>,
    /// Where the first event's time stands.
    first: usize,
    stride: usize,
    /// What its sales add.
    pub sums: Sums,
    /// What it adds to the level of each SKU, in 1e-5 units.
    pub moved: HashMap<u64, i128>,
}

impl Template {
    /// A frame of so many three-line sales.
    ///
    /// # Errors
    /// Fails when the archive has another layout than SPEC.md says.
    pub(crate) fn sales(dice: &mut Dice, catalogue: &Catalogue, events: u32) -> Result<Self> {
        let mut batch = sale::v1::Batch::default();
        let mut sums = Sums::default();
        let mut moved: HashMap<u64, i128> = HashMap::new();
        for index in 0..i64::from(events) {
            let event = three_lines(dice, catalogue, AT_MARK + index);
            sums.add(&Sums::of(&event), 1);
            for line in &event.lines {
                *moved.entry(line.sku).or_default() -= i128::from(line.quantity);
            }
            event.push_to(&mut batch);
        }
        let payload = wire::sale_payload(&batch)?;
        Self::of(Family::Sale, events, payload, SALE_BYTES, (sums, moved))
    }

    /// A frame of so many stock movements.
    ///
    /// # Errors
    /// See [`Self::sales`].
    pub(crate) fn moves(dice: &mut Dice, catalogue: &Catalogue, events: u32) -> Result<Self> {
        let mut batch = stock::v1::Batch::default();
        let mut moved: HashMap<u64, i128> = HashMap::new();
        for index in 0..i64::from(events) {
            let item = catalogue.pick(dice);
            let (kind, pieces, sign) = match dice.below(10) {
                0..6 => (stock::v1::kind::RECEIVED, dice.between(1, 24), 1),
                6..8 => (stock::v1::kind::TRANSFER_IN, dice.between(1, 6), 1),
                8 => (stock::v1::kind::TRANSFER_OUT, dice.between(1, 6), -1),
                _ => (stock::v1::kind::WASTE, 1, -1),
            };
            let quantity = pieces * 100_000;
            *moved.entry(item.id).or_default() += i128::from(quantity * sign);
            batch.moves.push(stock::v1::Move {
                at: AT_MARK + index,
                sku: item.id,
                quantity,
                kind,
                unit: item.unit,
                ..stock::v1::Move::default()
            });
        }
        let payload = wire::stock_payload(&batch)?;
        Self::of(
            Family::Stock,
            events,
            payload,
            MOVE_BYTES,
            (Sums::default(), moved),
        )
    }

    fn of(
        family: Family,
        events: u32,
        payload: Vec<u8>,
        stride: usize,
        (sums, moved): (Sums, HashMap<u64, i128>),
    ) -> Result<Self> {
        let mark = AT_MARK.to_le_bytes();
        let first = payload.windows(8).position(|bytes| bytes == mark);
        let first = first.context("the archive holds no event times")?;
        for index in 0..usize::try_from(events)? {
            let at = first + index * stride;
            let wanted = (AT_MARK + i64::try_from(index)?).to_le_bytes();
            ensure!(
                payload.get(at..at + 8) == Some(&wanted[..]),
                "the archive's records do not lie {stride} bytes apart"
            );
        }
        Ok(Self {
            family,
            events,
            payload,
            first,
            stride,
            sums,
            moved,
        })
    }

    /// Bytes of its frame.
    pub(crate) const fn bytes(&self) -> usize {
        till_protocol::header::HEADER_BYTES + self.payload.len()
    }

    /// A frame of it: events one microsecond apart from `at_us`, receipts from `receipt`.
    ///
    /// # Errors
    /// Fails when it is no valid frame, which its own making excludes.
    pub(crate) fn frame(&self, first_seq: u64, at_us: i64, receipt: u64) -> Result<Bytes> {
        let mut out = BytesMut::with_capacity(self.bytes());
        out.resize(till_protocol::header::HEADER_BYTES, 0);
        out.extend_from_slice(&self.payload);
        let (head, payload) = out.split_at_mut(till_protocol::header::HEADER_BYTES);
        let records = payload.get_mut(self.first..).unwrap_or_default();
        let is_sale = matches!(self.family, Family::Sale);
        let events = i64::from(self.events);
        for ((at, number), record) in (at_us..at_us + events)
            .zip(receipt..)
            .zip(records.chunks_mut(self.stride))
        {
            if let Some(place) = record.first_chunk_mut() {
                *place = at.to_le_bytes();
            }
            if is_sale && let Some(place) = record.get_mut(8..16) {
                place.copy_from_slice(&number.to_le_bytes());
            }
        }
        wire::write_header(head, self.family, (self.events, first_seq), payload)?;
        Ok(out.freeze())
    }
}

fn three_lines(dice: &mut Dice, catalogue: &Catalogue, at: i64) -> SaleEvent {
    use till_protocol::family::sale::v1::{Line, Sale, Tender, kind, line_kind, tender};
    let lines: Vec<Line> = (0..LINES)
        .map(|_| {
            let item = catalogue.pick(dice);
            let pieces = if dice.in_1000(150) {
                dice.between(2, 6)
            } else {
                1
            };
            Line {
                sku: item.id,
                quantity: pieces * 100_000,
                amount: item.price * pieces,
                category: item.category,
                kind: line_kind::SALE,
                unit: item.unit,
                flags: 0,
            }
        })
        .collect();
    let due = lines.iter().map(|line| line.amount).sum();
    let kind = if dice.in_1000(350) {
        tender::CASH
    } else {
        tender::CARD
    };
    SaleEvent {
        sale: Sale {
            at,
            receipt: 1,
            operator: 1,
            kind: kind::SALE,
            ..Sale::default()
        },
        lines,
        tenders: vec![Tender {
            amount: due,
            kind,
            flags: 0,
        }],
        ..SaleEvent::default()
    }
}

/// Events that give each of `skus` its name: an opening delivery of it.
pub(crate) fn naming(catalogue: &Catalogue, at_us: i64) -> Vec<Event> {
    let opening = |(index, item): (usize, &crate::workload::Item)| {
        let movement = stock::v1::Move {
            at: at_us + i64::try_from(index).unwrap_or(0),
            sku: item.id,
            quantity: 100_000_000,
            kind: stock::v1::kind::RECEIVED,
            unit: item.unit,
            ..stock::v1::Move::default()
        };
        Event::Move(movement, Some(item.code.clone()))
    };
    catalogue.items().iter().enumerate().map(opening).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times_of(bytes: Bytes) -> Vec<i64> {
        use till_protocol::card::ScreenKey;
        use till_protocol::codec::Frame;
        use till_protocol::verified::Verified;
        use till_protocol::view::View;
        let frame = Frame::decode(bytes).unwrap();
        let verified = Verified::check(frame, &ScreenKey::new([7; 32])).unwrap();
        assert!(verified.refusals().is_empty(), "{:?}", verified.refusals());
        match verified.view() {
            View::Sale(batch) => batch
                .events()
                .map(|event| event.sale.at.to_native())
                .collect(),
            View::Stock(batch) => batch
                .events()
                .map(|event| event.record.at.to_native())
                .collect(),
            View::Sensor(_) | View::Device(_) => Vec::new(),
        }
    }

    #[test]
    fn a_template_becomes_a_frame_that_a_checker_accepts() {
        let catalogue = Catalogue::new(1, 50);
        let mut dice = Dice::new(1);
        for template in [
            Template::sales(&mut dice, &catalogue, 16).unwrap(),
            Template::moves(&mut dice, &catalogue, 16).unwrap(),
        ] {
            let frame = template.frame(33, 1_700_000_000_000_000, 77).unwrap();
            assert_eq!(frame.len(), template.bytes());
            let times = times_of(frame);
            let wanted: Vec<i64> = (0..16).map(|i| 1_700_000_000_000_000 + i).collect();
            assert_eq!(times, wanted);
        }
    }
}
