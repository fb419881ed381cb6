//! The only door to archived bytes.
//!
//! [`Verified::check`] looks at a frame once: its shape (`structure`), the rules of each event (`rules`),
//! and card numbers ([`card`](crate::card)). What it returns may be read without checking again. A broken shape makes the
//! whole frame [`Unreadable`]; a broken rule refuses that event alone.

pub(crate) mod rules;
mod screen;
mod structure;

use thiserror::Error;

use crate::card::ScreenKey;
use crate::code::Reason;
use crate::codec::Frame;
use crate::digest;
use crate::family::Family;
use crate::header::WireError;
use crate::id::SkuId;
use crate::view::View;

pub use self::structure::StructureError;

/// A frame whose payload can't be understood: all its events are refused, each consumes its sequence number.
#[derive(Clone, Debug, Error)]
#[error("frame from sequence number {} can't be read: {error}", frame.header.first_seq)]
pub struct Unreadable {
    /// The frame, for its sequence numbers.
    pub frame: Frame,
    /// What is wrong.
    pub error: UnreadableError,
}

impl Unreadable {
    /// The reason that each event is refused for.
    pub const fn reason(&self) -> Reason {
        Reason::Unreadable
    }
}

/// Why a payload can't be understood.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum UnreadableError {
    /// The header is not one of a frame of events that this software knows, or doesn't fit the payload.
    #[error(transparent)]
    Header(#[from] WireError),
    /// The header does not announce the payload's length.
    #[error("header announces {stated} bytes of payload, there are {found}")]
    Length {
        /// In the header.
        stated: u32,
        /// There.
        found: usize,
    },
    /// A session message is not a batch.
    #[error("frame is a session message, not a batch of events")]
    Session,
    /// The archive is malformed or contradicts itself.
    #[error(transparent)]
    Structure(#[from] StructureError),
}

/// A frame of events whose shape, rules and texts have been checked.
#[derive(Clone, Debug)]
pub struct Verified {
    // Never changed after the check: `view` reads its payload without checking.
    frame: Frame,
    family: Family,
    refusals: Vec<(u32, Reason)>,
    masked: Vec<u32>,
    renamed: Vec<(SkuId, SkuId)>,
}

impl Verified {
    /// Checks a frame that came from outside, and masks card data in it.
    ///
    /// Nothing is copied unless something has to be masked.
    ///
    /// # Errors
    /// [`Unreadable`] when the payload is no archive of the family, or its vectors contradict each other or the header.
    pub fn check(frame: Frame, key: &ScreenKey) -> Result<Self, Unreadable> {
        let mut verified = Self::from_journal(frame)?;
        let found = screen::screen(
            &verified.view(),
            !verified.refusals.is_empty(),
            &verified.frame.payload,
            key,
        );
        if let Some(found) = found {
            verified.frame = found.apply(verified.frame);
            verified.masked = found.masked;
            verified.renamed = found.renamed;
        }
        Ok(verified)
    }

    /// Checks a frame that was masked before it was written: bytes read back from disk, or made by this process.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn from_journal(frame: Frame) -> Result<Self, Unreadable> {
        match Self::family_of(&frame) {
            Ok(family) => {
                let mut verified = Self {
                    frame,
                    family,
                    refusals: Vec::new(),
                    masked: Vec::new(),
                    renamed: Vec::new(),
                };
                verified.refusals = rules::refusals(&verified.view());
                Ok(verified)
            }
            Err(error) => Err(Unreadable { frame, error }),
        }
    }

    fn family_of(frame: &Frame) -> Result<Family, UnreadableError> {
        frame.header.check()?;
        let family = frame.header.family().ok_or(UnreadableError::Session)?;
        let found = frame.payload.len();
        if usize::try_from(frame.header.length) != Ok(found) {
            return Err(UnreadableError::Length {
                stated: frame.header.length,
                found,
            });
        }
        structure::check(family, frame.header.count, &frame.payload)?;
        Ok(family)
    }

    /// The batch, to be read in place. Costs nothing: the bytes are not checked again.
    pub fn view(&self) -> View<'_> {
        structure::view(self.family, &self.frame.payload)
    }

    /// The frame, after masking: what is journalled.
    pub const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Gives the frame back.
    pub fn into_frame(self) -> Frame {
        self.frame
    }

    /// The family of the events.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Number of events.
    pub const fn count(&self) -> u32 {
        self.frame.header.count
    }

    /// Sequence number of the first event.
    pub const fn first_seq(&self) -> u64 {
        self.frame.header.first_seq
    }

    /// Events that break a rule, by rising index, with the first rule that each breaks.
    pub fn refusals(&self) -> &[(u32, Reason)] {
        &self.refusals
    }

    /// The reason that an event is refused for, if it is.
    pub fn refusal(&self, index: u32) -> Option<Reason> {
        let at = self
            .refusals
            .binary_search_by_key(&index, |(event, _)| *event)
            .ok()?;
        self.refusals.get(at).map(|(_, reason)| *reason)
    }

    /// Events in which card data was masked, by rising index.
    pub fn masked(&self) -> &[u32] {
        &self.masked
    }

    /// SKU ids that were replaced because their code looked like a card number: the old and the new id. They are replaced
    /// in this frame; later frames of the session may still carry the old id.
    pub fn renamed(&self) -> &[(SkuId, SkuId)] {
        &self.renamed
    }

    /// The digest of an event, refused or not; 0 when it is not there.
    pub fn digest(&self, index: u32) -> u64 {
        digest::digest(&self.view(), index).unwrap_or(0)
    }
}
