//! Names: codes of SKUs and names of tenders travel with the events that use them first.

use till_protocol::code::Reason;
use till_protocol::family::text;
use till_protocol::id::SkuId;
use till_protocol::view::{TextView, View, named_tender_key};

use super::Shard;
use crate::event::{Event, for_each};
use crate::flag;
use crate::hash::Map;
use crate::record::{Outcome, Record};
use crate::row::{Claim, Names, RowsError, Space};

/// Names that were seen lately, so that a name which every frame repeats is hashed and claimed once.
const RECENT_MAX: usize = 16_384;

/// What is known of a text.
#[derive(Clone, Copy, Debug)]
struct RecentNames {
    id: u64,
    /// It was claimed here, and is ours.
    ours: bool,
    /// It is among the rows to flush, or was.
    written: bool,
}

/// The names that pass through a shard.
#[derive(Debug, Default)]
pub(crate) struct NameBook {
    skus: Map<String, RecentNames>,
    tenders: Map<String, RecentNames>,
    pub(crate) dirty: Vec<(Space, u64, String)>,
    /// A name was claimed that nobody had claimed before.
    pub(crate) has_new: bool,
}

impl NameBook {
    fn recent(&mut self, space: Space, name: &str) -> &mut RecentNames {
        let book = match space {
            Space::Sku => &mut self.skus,
            Space::Tender => &mut self.tenders,
        };
        if book.len() >= RECENT_MAX && !book.contains_key(name) {
            book.clear();
        }
        book.entry_ref(name).or_insert_with(|| RecentNames {
            id: id_of(space, name),
            ours: false,
            written: false,
        })
    }

    /// The id of a name.
    fn id(&mut self, space: Space, name: &str) -> u64 {
        self.recent(space, name).id
    }

    /// The id that a text names, if it names something, and whether it was claimed here and is ours.
    pub(super) fn look_up(&mut self, text: &TextView<'_>) -> Option<(Space, u64, bool)> {
        let space = space_of(text)?;
        let recent = self.recent(space, text.text);
        Some((space, recent.id, recent.ours))
    }

    /// Claims a name for its id. `false`: the id has another name.
    fn claim(&mut self, space: Space, name: &str, names: &dyn Names) -> Result<bool, RowsError> {
        let recent = self.recent(space, name);
        if !recent.ours {
            let claim = names.claim(space, recent.id, name)?;
            recent.ours = claim != Claim::Collision;
            self.has_new |= claim == Claim::New;
            return Ok(claim != Claim::Collision);
        }
        Ok(true)
    }

    /// Gives each name out again with its next use: whether those that were given out are written is not known any more.
    pub(crate) fn write_again(&mut self) {
        for recent in self.skus.values_mut().chain(self.tenders.values_mut()) {
            recent.written = false;
        }
    }

    /// Puts a name among the rows to flush.
    fn write(&mut self, space: Space, name: &str) {
        let recent = self.recent(space, name);
        if !std::mem::replace(&mut recent.written, true) {
            let id = recent.id;
            self.dirty.push((space, id, name.to_owned()));
        }
    }
}

fn id_of(space: Space, name: &str) -> u64 {
    match space {
        Space::Sku => SkuId::of_code(name).get(),
        Space::Tender => named_tender_key(name),
    }
}

/// What a text names, if it names something.
fn space_of(text: &TextView<'_>) -> Option<Space> {
    match text.kind {
        text::SKU_CODE if !text.text.is_empty() => Some(Space::Sku),
        text::TENDER_NAME if !text.text.is_empty() => Some(Space::Tender),
        _ => None,
    }
}

/// The id that a text names, if it names something.
fn named_id(text: &TextView<'_>) -> Option<u64> {
    space_of(text).map(|space| id_of(space, text.text))
}

/// Whether an event brings a name of one of these ids, which are sorted.
pub(super) fn names_any(event: &Event<'_>, ids: &[u64]) -> bool {
    let mut brought = event.texts().filter_map(|text| named_id(&text));
    !ids.is_empty() && brought.any(|id| ids.binary_search(&id).is_ok())
}

/// Whether an event brings the code of each SKU that it uses.
pub(super) fn names_all_skus(event: &Event<'_>) -> bool {
    let codes = event
        .texts()
        .filter(|text| space_of(text) == Some(Space::Sku));
    let mut brought: Vec<u64> = codes.filter_map(|code| named_id(&code)).collect();
    brought.sort_unstable();
    let brings = |sku: u64| brought.binary_search(&sku).is_ok();
    match event {
        Event::Sale(sale) => sale.lines.iter().all(|line| brings(line.sku.to_native())),
        Event::Stock(_) | Event::Sensor(_) => event.sku_of_item(0).is_none_or(brings),
        Event::Device(_) => true,
    }
}

// Whether the names that an event brings are taken. They were claimed unless it was refused, and a name that is claimed is
// written: all leave out what they have named. Where an id had another name nothing is written.
fn names_count(record: &Record, index: u32) -> bool {
    let Some((outcome, flags)) = record.outcome(index) else {
        return false;
    };
    let is_conflict = || {
        let verdict = record.verdict(index);
        verdict.is_some_and(|verdict| verdict.reason == Reason::Conflict.code())
    };
    let has_collided = flags & flag::UNNAMED_SKU != 0;
    match outcome {
        Outcome::Applied => true,
        Outcome::Duplicate => !has_collided,
        Outcome::Quarantined => !has_collided && is_conflict(),
        Outcome::Refused => false,
    }
}

impl Shard {
    /// Claims what the events of a batch name; leaves the ids whose names collide in `collided`, sorted, and those that
    /// have a name in `plan.named`.
    pub(super) fn claim_names(
        &mut self,
        view: &View<'_>,
        counts: impl Fn(u32) -> bool,
        names: &dyn Names,
        collided: &mut Vec<u64>,
    ) -> Result<(), RowsError> {
        self.plan.named.clear();
        let (book, named) = (&mut self.names, &mut self.plan.named);
        for_each(view, |index, event| {
            if event.texts().is_empty() || !counts(index) {
                return Ok(());
            }
            for text in event.texts() {
                let Some(space) = space_of(&text) else {
                    continue;
                };
                let ours = book.claim(space, text.text, names)?;
                let id = book.id(space, text.text);
                if !ours {
                    collided.push(id);
                } else if space == Space::Sku {
                    named.push(id);
                }
            }
            Ok(())
        })?;
        self.plan.named.sort_unstable();
        collided.sort_unstable();
        collided.dedup();
        Ok(())
    }

    /// Takes the names that a record brings. The same in a live run and in recovery.
    pub(super) fn take_names(&mut self, view: &View<'_>, record: &Record) {
        self.plan.named.clear();
        let (book, named) = (&mut self.names, &mut self.plan.named);
        let done: Result<(), std::convert::Infallible> =
            for_each(view, |index, event: Event<'_>| {
                if event.texts().is_empty() {
                    return Ok(());
                }
                if !names_count(record, index) {
                    return Ok(());
                }
                for text in event.texts() {
                    let Some(space) = space_of(&text) else {
                        continue;
                    };
                    book.write(space, text.text);
                    if space == Space::Sku {
                        named.push(book.id(space, text.text));
                    }
                }
                Ok(())
            });
        if let Err(never) = done {
            match never {}
        }
        self.plan.named.sort_unstable();
    }
}
