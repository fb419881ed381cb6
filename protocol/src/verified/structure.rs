//! The shape of a payload: one archive, vectors without gaps in the order of the root, the root last.
//!
//! Every payload has exactly one such shape for its records, so nothing can hide between the vectors.

use std::num::NonZeroUsize;

use rkyv::Portable;
use rkyv::api::access_with_context;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Strategy};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::vec::ArchivedVec;
use thiserror::Error;

use crate::family::{ArchivedReference, ArchivedText, Family, device, sale, sensor, stock};
use crate::view::{EventsView, SaleView, Sides, View};

/// How a payload contradicts its type, its header or itself.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum StructureError {
    /// rkyv's own check failed: too short, or a pointer leaves the payload.
    #[error("payload is no archive of a {family} batch")]
    Archive {
        /// Name of the family.
        family: &'static str,
    },
    /// The vectors don't lie one after another from the first byte to the root.
    #[error(
        "vectors do not lie gap-free, in the order of the root, from the first byte to the root"
    )]
    Placement,
    /// The number of core records is not the count of the header.
    #[error("header announces {stated} events, the batch has {found}")]
    Count {
        /// In the header.
        stated: u32,
        /// In the batch.
        found: usize,
    },
    /// The counts of all sales don't add up to the length of a vector.
    #[error("counts of the sales add up to {stated} {vector}, there are {found}")]
    Sum {
        /// The vector.
        vector: &'static str,
        /// Sum over the sales.
        stated: u64,
        /// Length of the vector.
        found: usize,
    },
    /// A side vector is not in the order of events, or names an event that is not there.
    #[error("{vector} are not in the order of events, or name one that is not there")]
    Order {
        /// The vector.
        vector: &'static str,
    },
    /// The lengths of the texts don't add up to the bytes of text.
    #[error("texts add up to {stated} bytes, there are {found}")]
    Text {
        /// Sum of the lengths.
        stated: u64,
        /// Bytes of text.
        found: usize,
    },
}

/// Root, vectors, entries: an archive is no deeper.
const DEPTH_MAX: Option<NonZeroUsize> = NonZeroUsize::new(4);

type Checker<'a> = Strategy<Validator<ArchiveValidator<'a>, ()>, Failure>;

/// Checks a payload once; after that [`view`] may read it.
pub(super) fn check(family: Family, count: u32, payload: &[u8]) -> Result<(), StructureError> {
    match family {
        Family::Sale => check_sales(count, payload),
        Family::Stock => {
            let batch: &stock::v1::ArchivedBatch = access(family, payload)?;
            flat(
                count,
                payload,
                &batch.moves,
                &Tail::of(&batch.refs, &batch.texts, &batch.text),
            )
        }
        Family::Sensor => {
            let batch: &sensor::v1::ArchivedBatch = access(family, payload)?;
            flat(
                count,
                payload,
                &batch.readings,
                &Tail::of(&batch.refs, &batch.texts, &batch.text),
            )
        }
        Family::Device => {
            let batch: &device::v1::ArchivedBatch = access(family, payload)?;
            flat(
                count,
                payload,
                &batch.signs,
                &Tail::of(&batch.refs, &batch.texts, &batch.text),
            )
        }
    }
}

/// The batch in a payload that [`check`] has accepted for the same family.
pub(super) fn view(family: Family, payload: &[u8]) -> View<'_> {
    match family {
        Family::Sale => View::Sale(SaleView {
            batch: access_checked(payload),
        }),
        Family::Stock => {
            let batch: &stock::v1::ArchivedBatch = access_checked(payload);
            View::Stock(EventsView {
                records: &batch.moves,
                sides: sides(&batch.refs, &batch.texts, &batch.text),
            })
        }
        Family::Sensor => {
            let batch: &sensor::v1::ArchivedBatch = access_checked(payload);
            View::Sensor(EventsView {
                records: &batch.readings,
                sides: sides(&batch.refs, &batch.texts, &batch.text),
            })
        }
        Family::Device => {
            let batch: &device::v1::ArchivedBatch = access_checked(payload);
            View::Device(EventsView {
                records: &batch.signs,
                sides: sides(&batch.refs, &batch.texts, &batch.text),
            })
        }
    }
}

fn sides<'a>(
    refs: &'a [ArchivedReference],
    texts: &'a [ArchivedText],
    text: &'a [u8],
) -> Sides<'a> {
    Sides { refs, texts, text }
}

// Without a shared-pointer context, so that a type with shared pointers would not compile here.
fn access<T>(family: Family, payload: &[u8]) -> Result<&T, StructureError>
where
    T: Portable + for<'a> CheckBytes<Checker<'a>>,
{
    let mut context = Validator::new(ArchiveValidator::with_max_depth(payload, DEPTH_MAX), ());
    access_with_context::<T, _, Failure>(payload, &mut context).map_err(|_| {
        StructureError::Archive {
            family: family.name(),
        }
    })
}

#[expect(
    unsafe_code,
    reason = "the payload was validated once; validating it on each read would cost more than applying it"
)]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the door that the rule points to"
)]
fn access_checked<T: Portable>(payload: &[u8]) -> &T {
    // SAFETY: only `Verified` calls this, with the payload and family for which `check` returned `Ok`. Its frame is private
    // and its bytes are immutable; masking goes through a new frame whose patched bytes lie inside records and texts, for
    // which every bit pattern is valid, so that pointers and lengths stay those that were validated.
    unsafe { rkyv::access_unchecked::<T>(payload) }
}

// The vectors that every family ends with.
struct Tail<'a> {
    refs: &'a ArchivedVec<ArchivedReference>,
    texts: &'a ArchivedVec<ArchivedText>,
    text: &'a ArchivedVec<u8>,
}

impl<'a> Tail<'a> {
    const fn of(
        refs: &'a ArchivedVec<ArchivedReference>,
        texts: &'a ArchivedVec<ArchivedText>,
        text: &'a ArchivedVec<u8>,
    ) -> Self {
        Self { refs, texts, text }
    }

    fn check(&self, count: u32) -> Result<(), StructureError> {
        in_order("references", count, self.refs, |entry| {
            entry.event.to_native()
        })?;
        in_order("texts", count, self.texts, |entry| entry.event.to_native())?;
        let stated = self.texts.iter().map(|entry| u64::from(entry.len)).sum();
        let found = self.text.len();
        if u64::try_from(found) != Ok(stated) {
            return Err(StructureError::Text { stated, found });
        }
        Ok(())
    }
}

// Walks along the payload, vector by vector. rkyv's own validator happens to force this order too; that is its affair, and
// this check is ours: no byte may lie where no one looks.
struct Placement {
    at: usize,
    right: bool,
}

impl Placement {
    fn new(payload: &[u8]) -> Self {
        Self {
            at: payload.as_ptr().addr(),
            right: true,
        }
    }

    fn then<T>(mut self, vector: &[T]) -> Self {
        self.right &= vector.as_ptr().addr() == self.at;
        self.at = self.at.saturating_add(size_of_val(vector));
        self
    }

    fn ends_at_root(self, payload: &[u8], root_bytes: usize) -> Result<(), StructureError> {
        let end = payload.as_ptr().addr() + payload.len();
        if self.right && self.at.saturating_add(root_bytes) == end {
            Ok(())
        } else {
            Err(StructureError::Placement)
        }
    }
}

fn flat<R>(
    count: u32,
    payload: &[u8],
    records: &ArchivedVec<R>,
    tail: &Tail<'_>,
) -> Result<(), StructureError> {
    Placement::new(payload)
        .then(records)
        .then(tail.refs)
        .then(tail.texts)
        .then(tail.text)
        .ends_at_root(payload, size_of::<stock::v1::ArchivedBatch>())?;
    has_count(count, records.len())?;
    tail.check(count)
}

fn check_sales(count: u32, payload: &[u8]) -> Result<(), StructureError> {
    let batch: &sale::v1::ArchivedBatch = access(Family::Sale, payload)?;
    Placement::new(payload)
        .then(&batch.sales)
        .then(&batch.lines)
        .then(&batch.tenders)
        .then(&batch.taxes)
        .then(&batch.adjustments)
        .then(&batch.extras)
        .then(&batch.prices)
        .then(&batch.refs)
        .then(&batch.texts)
        .then(&batch.text)
        .ends_at_root(payload, size_of::<sale::v1::ArchivedBatch>())?;
    has_count(count, batch.sales.len())?;
    let (mut lines, mut tenders, mut taxes, mut adjustments) = (0, 0, 0, 0);
    for sale in batch.sales.iter() {
        lines += u64::from(sale.lines.to_native());
        tenders += u64::from(sale.tenders);
        taxes += u64::from(sale.taxes.to_native());
        adjustments += u64::from(sale.adjustments.to_native());
    }
    adds_up("lines", lines, batch.lines.len())?;
    adds_up("tenders", tenders, batch.tenders.len())?;
    adds_up("taxes", taxes, batch.taxes.len())?;
    adds_up("adjustments", adjustments, batch.adjustments.len())?;
    in_order("extras", count, &batch.extras, |entry| {
        entry.event.to_native()
    })?;
    in_order("prices", count, &batch.prices, |entry| {
        entry.event.to_native()
    })?;
    Tail::of(&batch.refs, &batch.texts, &batch.text).check(count)
}

fn has_count(stated: u32, found: usize) -> Result<(), StructureError> {
    if u32::try_from(found) == Ok(stated) {
        Ok(())
    } else {
        Err(StructureError::Count { stated, found })
    }
}

fn adds_up(vector: &'static str, stated: u64, found: usize) -> Result<(), StructureError> {
    if u64::try_from(found) == Ok(stated) {
        Ok(())
    } else {
        Err(StructureError::Sum {
            vector,
            stated,
            found,
        })
    }
}

fn in_order<T>(
    vector: &'static str,
    count: u32,
    entries: &[T],
    event_of: impl Fn(&T) -> u16,
) -> Result<(), StructureError> {
    let mut least = 0;
    for entry in entries {
        let event = event_of(entry);
        if event < least || u32::from(event) >= count {
            return Err(StructureError::Order { vector });
        }
        least = event;
    }
    Ok(())
}
