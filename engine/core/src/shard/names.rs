//! Names: codes of SKUs and names of tenders travel with the events that use them first.
//!
//! Prefetch looks up what a name would come to, decide goes by that, and apply claims the names of the events that the record says
//! bring theirs. So a claim is never made without a record that holds its name.

use till_protocol::code::Reason;
use till_protocol::family::text;
use till_protocol::id::SkuId;
use till_protocol::view::{TextView, View, named_tender_key};

use super::Shard;
use super::prefetch::Arrival;
use super::touch::Collided;
use crate::event::{Event, for_each, visit};
use crate::flag;
use crate::hash::Map;
use crate::record::{Outcome, Record};
use crate::row::{Claim, Names, RowsError, Space};

/// Names that were seen lately, so that a name which every frame repeats is hashed and looked up once.
const RECENT_MAX: usize = 16_384;

/// What is known of a name.
#[derive(Clone, Copy, Debug)]
struct RecentName {
    id: u64,
    /// It is known that the id has this name.
    ours: bool,
    /// It is among the rows to flush, or was.
    written: bool,
}

/// The names that pass through a shard.
#[derive(Debug, Default)]
pub(crate) struct NameBook {
    skus: Map<String, RecentName>,
    tenders: Map<String, RecentName>,
    pub(crate) dirty: Vec<(Space, u64, String)>,
    /// How many of those the other shards have been told of.
    claimed: usize,
}

impl NameBook {
    fn recent(&mut self, space: Space, name: &str) -> &mut RecentName {
        let book = match space {
            Space::Sku => &mut self.skus,
            Space::Tender => &mut self.tenders,
        };
        if book.len() >= RECENT_MAX && !book.contains_key(name) {
            book.clear();
        }
        book.entry_ref(name).or_insert_with(|| RecentName {
            id: id_of(space, name),
            ours: false,
            written: false,
        })
    }

    /// The id of a name, and whether it is known that the id has this name.
    pub(super) fn look_up(&mut self, space: Space, name: &str) -> (u64, bool) {
        let recent = self.recent(space, name);
        (recent.id, recent.ours)
    }

    /// Gives each name out again with its next use: whether those that were given out are written is not known any more.
    pub(crate) fn write_again(&mut self) {
        for recent in self.skus.values_mut().chain(self.tenders.values_mut()) {
            recent.written = false;
        }
    }

    /// Puts a name among the rows to flush. Gives its id.
    fn write(&mut self, space: Space, name: &str) -> u64 {
        let recent = self.recent(space, name);
        let id = recent.id;
        if !std::mem::replace(&mut recent.written, true) {
            self.dirty.push((space, id, name.to_owned()));
        }
        id
    }

    /// Claims the names that were written since the last time, for all shards to see.
    pub(crate) fn claim(&mut self, names: &dyn Names) {
        let from = std::mem::replace(&mut self.claimed, self.dirty.len());
        let claimed = self.dirty.split_off(from);
        for (space, id, name) in &claimed {
            let ours = names.claim(*space, *id, name);
            self.recent(*space, name).ours = ours;
        }
        self.dirty.extend(claimed);
    }

    /// Takes the names that are to be flushed.
    pub(crate) fn take(&mut self) -> Vec<(Space, u64, String)> {
        self.claimed = 0;
        std::mem::take(&mut self.dirty)
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

/// Gives each name that events bring to `each`, with the event's index, of those events that `may_name`.
///
/// # Errors
/// Passes on what `each` returns, at once.
pub(super) fn each_name<'v, E>(
    view: &View<'v>,
    may_name: impl Fn(u32) -> bool,
    mut each: impl FnMut(u32, Space, &'v str) -> Result<(), E>,
) -> Result<(), E> {
    for_each(view, |index, event| {
        let texts = event.texts();
        if texts.is_empty() || !may_name(index) {
            return Ok(());
        }
        texts
            .filter_map(|text| Some((space_of(&text)?, text.text)))
            .try_for_each(|(space, name)| each(index, space, name))
    })
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

// Whether the names that an event brings are taken: not where it was refused, or quarantined for what it says. A name that is
// looked up and free is taken: all leave out what they have named. Where an id had another name nothing is taken.
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

// The collision that an event has part in: it brings a name of one of these ids, which are sorted, or uses such an id.
fn collision_of(event: &Event<'_>, index: u32, ids: &[u64]) -> Option<Collided> {
    let has = |id: u64| ids.binary_search(&id).is_ok();
    let mut names = event
        .texts()
        .filter_map(|text| Some((space_of(&text)?, text.text)));
    let brought = names.find(|(space, name)| has(id_of(*space, name)));
    let used = match event {
        Event::Sale(sale) => {
            let tenders = u16::try_from(sale.tenders.len()).unwrap_or(u16::MAX);
            if sale.lines.iter().any(|line| has(line.sku.to_native())) {
                Some(Space::Sku)
            } else if (0..tenders).any(|tender| has(sale.tender_key(tender))) {
                Some(Space::Tender)
            } else {
                None
            }
        }
        Event::Stock(_) | Event::Sensor(_) => event
            .sku_of_item(0)
            .filter(|sku| has(*sku))
            .map(|_| Space::Sku),
        Event::Device(_) => None,
    };
    let space = used.or_else(|| brought.map(|(space, _)| space))?;
    Some(Collided {
        index,
        space,
        brings: brought.is_some(),
    })
}

impl Shard {
    /// Looks up what the events name: leaves the SKUs that have a name by that, the ids whose names collide in this session, and
    /// the events that have part in a collision.
    pub(super) fn look_up_names(
        &mut self,
        arrival: &Arrival<'_>,
        view: &View<'_>,
        names: &dyn Names,
    ) -> Result<(), RowsError> {
        let (book, touched) = (&mut self.names, &mut self.touched);
        if arrival.is_in_session()
            && let Some(terminal) = self.actors.terminals.get(&arrival.head.terminal)
        {
            touched.collided_ids.extend_from_slice(&terminal.collided);
        }
        let mut skus: Vec<(u32, u64)> = Vec::new();
        if touched.sides.texts {
            let mut free: Map<(bool, u64), &str> = Map::default();
            let may_name = |index| arrival.may_name(index);
            each_name(view, may_name, |index, space, name| {
                let recent = book.recent(space, name);
                if !recent.ours {
                    match names.look_up(space, recent.id, name)? {
                        Claim::Known => recent.ours = true,
                        Claim::Collision => touched.collided_ids.push(recent.id),
                        Claim::New => {
                            touched.has_new_name = true;
                            // Two names of one id may come together.
                            let key = (space == Space::Tender, recent.id);
                            if *free.entry(key).or_insert(name) != name {
                                touched.collided_ids.push(recent.id);
                            }
                        }
                    }
                }
                if space == Space::Sku {
                    skus.push((index, recent.id));
                }
                Ok(())
            })?;
        }
        let ids = &mut touched.collided_ids;
        ids.sort_unstable();
        ids.dedup();
        if !ids.is_empty() {
            let (ids, collided) = (&*ids, &mut touched.collided);
            visit(view, |index, event| {
                collided.extend(collision_of(&event, index, ids));
            });
        }
        let clear = |index| touched.collided_at(index).is_none();
        let clear = skus.iter().filter(|(index, _)| clear(*index));
        let named: Vec<u64> = clear.map(|(_, sku)| *sku).collect();
        touched.named = named;
        touched.named.sort_unstable();
        Ok(())
    }

    /// Takes the names that a record brings. Leaves the SKUs among them in `named`, sorted.
    pub(super) fn take_names(&mut self, view: &View<'_>, record: &Record, named: &mut Vec<u64>) {
        named.clear();
        let book = &mut self.names;
        let Ok(()) = each_name(
            view,
            |index| names_count(record, index),
            |_, space, name| {
                let id = book.write(space, name);
                if space == Space::Sku {
                    named.push(id);
                }
                Ok::<(), std::convert::Infallible>(())
            },
        );
        named.sort_unstable();
    }
}
