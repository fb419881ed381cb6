//! Events taken out of an archived batch.

use std::ops::Range;

use rkyv::rancor;
use rkyv::util::AlignedVec;
use till_protocol::family::{Family, Reference, Text, device, sale, sensor, stock};
use till_protocol::header::FrameHeader;

use super::FrameError;

/// The owned form of any batch.
enum Batch {
    Sale(Box<sale::v1::Batch>),
    Stock(stock::v1::Batch),
    Sensor(sensor::v1::Batch),
    Device(device::v1::Batch),
}

fn open(head: &FrameHeader, payload: &[u8]) -> Result<Batch, FrameError> {
    let read = match (Family::from_u8(head.family), head.version) {
        (Some(Family::Sale), 1) => rkyv::from_bytes::<sale::v1::Batch, rancor::Error>(payload)
            .map(|batch| Batch::Sale(Box::new(batch))),
        (Some(Family::Stock), 1) => rkyv::from_bytes(payload).map(Batch::Stock),
        (Some(Family::Sensor), 1) => rkyv::from_bytes(payload).map(Batch::Sensor),
        (Some(Family::Device), 1) => rkyv::from_bytes(payload).map(Batch::Device),
        _ => {
            return Err(FrameError::Header(
                "its family or version is not known here".into(),
            ));
        }
    };
    let batch = read.map_err(|error| unreadable(head, error.to_string()))?;
    let events = match &batch {
        Batch::Sale(batch) => batch.sales.len(),
        Batch::Stock(batch) => batch.moves.len(),
        Batch::Sensor(batch) => batch.readings.len(),
        Batch::Device(batch) => batch.signs.len(),
    };
    if u32::try_from(events) != Ok(head.count) {
        return Err(unreadable(head, format!("it holds {events}")));
    }
    Ok(batch)
}

fn unreadable(head: &FrameHeader, what: String) -> FrameError {
    FrameError::Payload {
        family: Family::from_u8(head.family).map_or("unknown", Family::name),
        what,
    }
}

/// The payload of a frame with events `skip` to `skip + take` alone.
pub(super) fn part(
    head: &FrameHeader,
    payload: &[u8],
    skip: u32,
    take: u32,
) -> Result<AlignedVec, FrameError> {
    let cut = Cut {
        skip: index(skip),
        take: index(take),
    };
    match open(head, payload)? {
        Batch::Sale(batch) => rkyv::to_bytes(&cut.sales(&batch)),
        Batch::Stock(batch) => {
            let (refs, texts, text) = cut.sides(&batch.refs, &batch.texts, &batch.text);
            rkyv::to_bytes(&stock::v1::Batch {
                moves: cut.of(&batch.moves),
                refs,
                texts,
                text,
            })
        }
        Batch::Sensor(batch) => {
            let (refs, texts, text) = cut.sides(&batch.refs, &batch.texts, &batch.text);
            rkyv::to_bytes(&sensor::v1::Batch {
                readings: cut.of(&batch.readings),
                refs,
                texts,
                text,
            })
        }
        Batch::Device(batch) => {
            let (refs, texts, text) = cut.sides(&batch.refs, &batch.texts, &batch.text);
            rkyv::to_bytes(&device::v1::Batch {
                signs: cut.of(&batch.signs),
                refs,
                texts,
                text,
            })
        }
    }
    .map_err(|error: rancor::Error| unreadable(head, error.to_string()))
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Which events are kept.
#[derive(Clone, Copy)]
struct Cut {
    skip: usize,
    take: usize,
}

impl Cut {
    fn of<T: Clone>(self, all: &[T]) -> Vec<T> {
        all.iter()
            .skip(self.skip)
            .take(self.take)
            .cloned()
            .collect()
    }

    /// The new index of an event that is kept.
    fn moved(self, event: u16) -> Option<u16> {
        let at = usize::from(event).checked_sub(self.skip)?;
        (at < self.take).then(|| u16::try_from(at).ok()).flatten()
    }

    fn sides(
        self,
        refs: &[Reference],
        texts: &[Text],
        text: &[u8],
    ) -> (Vec<Reference>, Vec<Text>, Vec<u8>) {
        let refs = refs
            .iter()
            .filter_map(|found| {
                self.moved(found.event)
                    .map(|event| Reference { event, ..*found })
            })
            .collect();
        let (mut kept, mut bytes, mut at) = (Vec::new(), Vec::new(), 0);
        for found in texts {
            let end = at + usize::from(found.len);
            if let Some(event) = self.moved(found.event) {
                kept.push(Text { event, ..*found });
                bytes.extend_from_slice(text.get(at..end).unwrap_or_default());
            }
            at = end;
        }
        (refs, kept, bytes)
    }

    fn sales(self, batch: &sale::v1::Batch) -> sale::v1::Batch {
        let (refs, texts, text) = self.sides(&batch.refs, &batch.texts, &batch.text);
        let owned = |count: fn(&sale::v1::Sale) -> usize| -> Range<usize> {
            let start: usize = batch.sales.iter().take(self.skip).map(count).sum();
            let kept = batch.sales.iter().skip(self.skip).take(self.take);
            start..start + kept.map(count).sum::<usize>()
        };
        let lines = owned(|sale| usize::from(sale.lines));
        let tenders = owned(|sale| usize::from(sale.tenders));
        let taxes = owned(|sale| usize::from(sale.taxes));
        let adjustments = owned(|sale| usize::from(sale.adjustments));
        sale::v1::Batch {
            sales: self.of(&batch.sales),
            lines: batch.lines.get(lines).unwrap_or_default().to_vec(),
            tenders: batch.tenders.get(tenders).unwrap_or_default().to_vec(),
            taxes: batch.taxes.get(taxes).unwrap_or_default().to_vec(),
            adjustments: batch
                .adjustments
                .get(adjustments)
                .unwrap_or_default()
                .to_vec(),
            extras: batch
                .extras
                .iter()
                .filter_map(|found| {
                    self.moved(found.event)
                        .map(|event| sale::v1::TenderExtra { event, ..*found })
                })
                .collect(),
            prices: batch
                .prices
                .iter()
                .filter_map(|found| {
                    self.moved(found.event)
                        .map(|event| sale::v1::UnitPrice { event, ..*found })
                })
                .collect(),
            refs,
            texts,
            text,
        }
    }
}
