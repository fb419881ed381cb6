//! Card data in a batch: found, and patched in place before anything is hashed or written.

use std::ptr::from_ref;

use bytes::{Bytes, BytesMut};

use crate::card::{self, ScreenKey};
use crate::codec::Frame;
use crate::family::{ArchivedReference, text};
use crate::id::SkuId;
use crate::limits::RECEIPT_MAX;
use crate::view::{EventsView, Texts, View};

/// What has to change in a payload.
pub(super) struct Found {
    patches: Vec<(usize, Vec<u8>)>,
    pub(super) masked: Vec<u32>,
    pub(super) renamed: Vec<(SkuId, SkuId)>,
}

impl Found {
    /// The frame with the patches in place and its checksum made new. Copies the payload if anyone else holds it.
    pub(super) fn apply(&self, frame: Frame) -> Frame {
        let mut header = frame.header;
        let mut payload = frame
            .payload
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        for (at, bytes) in &self.patches {
            if let Some(place) = payload.get_mut(*at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        let payload = payload.freeze();
        header.crc = header.crc_of(&payload);
        Frame { header, payload }
    }
}

/// Looks at every text, reference and receipt number; `None` when nothing has to change, as nearly always.
///
/// `refused` says that some event is refused: only then may a receipt number be too long.
pub(super) fn screen(
    view: &View<'_>,
    refused: bool,
    payload: &Bytes,
    key: &ScreenKey,
) -> Option<Found> {
    if !refused && !has_sides(view) {
        return None;
    }
    let mut screen = Screen {
        base: payload.as_ptr().addr(),
        key,
        event: 0,
        found: Found {
            patches: Vec::new(),
            masked: Vec::new(),
            renamed: Vec::new(),
        },
    };
    match view {
        View::Sale(sales) => {
            for event in sales.events() {
                screen.event = event.index;
                // A receipt number that is too long refuses the event, but its bytes are journalled with the frame.
                if event.sale.receipt.to_native() > RECEIPT_MAX {
                    screen.patch(from_ref(&event.sale.receipt).addr(), vec![0xff; 8]);
                }
                screen.sides(event.refs, &event.texts);
            }
        }
        View::Stock(view) => screen.flat(view),
        View::Sensor(view) => screen.flat(view),
        View::Device(view) => screen.flat(view),
    }
    if screen.found.patches.is_empty() {
        return None;
    }
    screen.rename(view);
    Some(screen.found)
}

fn has_sides(view: &View<'_>) -> bool {
    match view {
        View::Sale(sales) => !sales.batch().texts.is_empty() || !sales.batch().refs.is_empty(),
        View::Stock(view) => view.sides.any(),
        View::Sensor(view) => view.sides.any(),
        View::Device(view) => view.sides.any(),
    }
}

struct Screen<'a> {
    base: usize,
    key: &'a ScreenKey,
    event: u32,
    found: Found,
}

impl Screen<'_> {
    fn flat<R>(&mut self, view: &EventsView<'_, R>) {
        for event in view.events() {
            self.event = event.index;
            self.sides(event.refs, &event.texts);
        }
    }

    fn sides(&mut self, refs: &[ArchivedReference], texts: &Texts<'_>) {
        for entry in refs {
            if let Some(token) = card::screen_reference(&entry.value, self.key) {
                self.patch(from_ref(&entry.value).addr(), token.to_vec());
            }
        }
        let mut rest = texts.bytes();
        for entry in texts.entries() {
            let Some((bytes, left)) = rest.split_at_checked(usize::from(entry.len)) else {
                return;
            };
            rest = left;
            if let Some(clean) = self.clean(entry.kind, bytes) {
                self.patch(bytes.as_ptr().addr(), clean);
            }
        }
    }

    fn clean(&mut self, kind: u8, bytes: &[u8]) -> Option<Vec<u8>> {
        let Ok(content) = str::from_utf8(bytes) else {
            // It refuses the event and must go on doing so when it is read back.
            return (bytes.len() >= card::DIGITS_MIN && bytes.iter().any(|&b| b != 0xff))
                .then(|| vec![0xff; bytes.len()]);
        };
        match kind {
            text::SKU_CODE => {
                let token = card::token_code(self.key, content)?;
                self.found
                    .renamed
                    .push((SkuId::of_code(content), SkuId::of_code(&token)));
                Some(token.into_bytes())
            }
            text::RECEIPT => card::token_code(self.key, content).map(String::into_bytes),
            text::DOCUMENT if card::is_gs1(content) => None,
            _ => card::mask_text(content).map(String::into_bytes),
        }
    }

    fn patch(&mut self, address: usize, bytes: Vec<u8>) {
        self.found.patches.push((address - self.base, bytes));
        if self.found.masked.last() != Some(&self.event) {
            self.found.masked.push(self.event);
        }
    }

    // An id is the plain hash of its code: it goes where the code goes.
    fn rename(&mut self, view: &View<'_>) {
        let renamed = std::mem::take(&mut self.found.renamed);
        let new_of = |sku: u64| {
            renamed
                .iter()
                .find(|(old, _)| old.get() == sku)
                .map(|(_, new)| new.get())
        };
        if renamed.is_empty() {
            return;
        }
        let mut replace = |place: usize, sku: u64| {
            if let Some(new) = new_of(sku) {
                self.found
                    .patches
                    .push((place - self.base, new.to_le_bytes().to_vec()));
            }
        };
        match view {
            View::Sale(sales) => {
                sales
                    .batch()
                    .lines
                    .iter()
                    .for_each(|l| replace(from_ref(&l.sku).addr(), l.sku.to_native()));
            }
            View::Stock(stock) => {
                stock
                    .records()
                    .iter()
                    .for_each(|m| replace(from_ref(&m.sku).addr(), m.sku.to_native()));
            }
            View::Sensor(sensor) => {
                sensor
                    .records()
                    .iter()
                    .for_each(|r| replace(from_ref(&r.sku).addr(), r.sku.to_native()));
            }
            View::Device(_) => {}
        }
        self.found.renamed = renamed;
    }
}
