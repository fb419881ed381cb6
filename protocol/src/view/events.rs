//! Batches whose events are one record each, and the texts of any event.

use std::fmt;

use crate::family::{ArchivedReference, ArchivedText};
use crate::id::EventId;

/// One text of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TextView<'a> {
    /// Index of the line or tender, or [`WHOLE_EVENT`](crate::family::WHOLE_EVENT).
    pub item: u16,
    /// One of [`text`](crate::family::text).
    pub kind: u8,
    /// The text; empty where the event is refused for it not being UTF-8.
    pub text: &'a str,
}

/// The texts of one event, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    entries: &'a [ArchivedText],
    bytes: &'a [u8],
}

impl<'a> Texts<'a> {
    /// Number of texts that are left.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is left.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries as they stand in the archive.
    pub const fn entries(&self) -> &'a [ArchivedText] {
        self.entries
    }

    /// The bytes of all texts, one after another.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The first text of a kind.
    pub fn find(mut self, kind: u8) -> Option<&'a str> {
        self.find_map(|text| (text.kind == kind).then_some(text.text))
    }

    /// The first text of a kind that belongs to an item.
    pub fn find_of(mut self, kind: u8, item: u16) -> Option<&'a str> {
        self.find_map(|text| (text.kind == kind && text.item == item).then_some(text.text))
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = TextView<'a>;

    fn next(&mut self) -> Option<TextView<'a>> {
        let (entry, entries) = self.entries.split_first()?;
        let (text, bytes) = self.bytes.split_at_checked(usize::from(entry.len))?;
        self.entries = entries;
        self.bytes = bytes;
        let text = str::from_utf8(text).unwrap_or("");
        Some(TextView {
            item: entry.item.to_native(),
            kind: entry.kind,
            text,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.entries.len(), Some(self.entries.len()))
    }
}

/// Takes from a side vector the entries of one event: those at its front.
pub(crate) fn take_event<'a, T>(
    rest: &mut &'a [T],
    index: u16,
    event_of: impl Fn(&T) -> u16,
) -> &'a [T] {
    if rest.is_empty() {
        return &[];
    }
    let count = rest
        .iter()
        .position(|entry| event_of(entry) != index)
        .unwrap_or(rest.len());
    take(rest, count)
}

/// Takes so many entries from the front; none when there are fewer.
pub(crate) fn take<'a, T>(rest: &mut &'a [T], count: usize) -> &'a [T] {
    match rest.split_at_checked(count) {
        Some((taken, left)) => {
            *rest = left;
            taken
        }
        None => &[],
    }
}

/// What of a batch is left of references and texts, for every family.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sides<'a> {
    pub(crate) refs: &'a [ArchivedReference],
    pub(crate) texts: &'a [ArchivedText],
    pub(crate) text: &'a [u8],
}

impl<'a> Sides<'a> {
    pub(crate) const fn any(&self) -> bool {
        !self.refs.is_empty() || !self.texts.is_empty()
    }

    pub(crate) fn take(&mut self, index: u16) -> (&'a [ArchivedReference], Texts<'a>) {
        let refs = take_event(&mut self.refs, index, |entry| entry.event.to_native());
        let entries = take_event(&mut self.texts, index, |entry| entry.event.to_native());
        let length = entries.iter().map(|entry| usize::from(entry.len)).sum();
        let bytes = take(&mut self.text, length);
        (refs, Texts { entries, bytes })
    }
}

/// A batch whose events are one record each.
pub struct EventsView<'a, R> {
    pub(crate) records: &'a [R],
    pub(crate) sides: Sides<'a>,
}

// Derives would ask R for Copy, which a reference does not need.
impl<R> Clone for EventsView<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for EventsView<'_, R> {}

impl<R> fmt::Debug for EventsView<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsView")
            .field("events", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl<'a, R> EventsView<'a, R> {
    /// Number of events.
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no events; a frame always has one.
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The core records alone.
    pub const fn records(&self) -> &'a [R] {
        self.records
    }

    /// All events in order.
    pub const fn events(&self) -> Events<'a, R> {
        Events {
            view: *self,
            index: 0,
        }
    }
}

/// Events of an [`EventsView`], in order.
#[derive(Clone, Debug)]
pub struct Events<'a, R> {
    view: EventsView<'a, R>,
    index: u16,
}

impl<'a, R> Iterator for Events<'a, R> {
    type Item = Event<'a, R>;

    #[inline]
    fn next(&mut self) -> Option<Event<'a, R>> {
        let record = self.view.records.get(usize::from(self.index))?;
        let (refs, texts) = self.view.sides.take(self.index);
        let event = Event {
            index: u32::from(self.index),
            record,
            refs,
            texts,
        };
        self.index += 1;
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self
            .view
            .records
            .len()
            .saturating_sub(usize::from(self.index));
        (left, Some(left))
    }
}

/// One event that is one record.
pub struct Event<'a, R> {
    /// Place in the frame: its sequence number is the frame's first plus this.
    pub index: u32,
    /// The record.
    pub record: &'a R,
    /// Its references.
    pub refs: &'a [ArchivedReference],
    /// Its texts.
    pub texts: Texts<'a>,
}

impl<R> Clone for Event<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Event<'_, R> {}

impl<R> fmt::Debug for Event<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl<R> Event<'_, R> {
    /// The source's own id of the event.
    pub fn event_id(&self) -> Option<EventId> {
        super::event_id(self.refs)
    }
}
