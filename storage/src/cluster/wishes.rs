//! What operators want: where a slot shall be, and which nodes shall have none.
//!
//! A wish names a node by the address where devices reach it, as a node that starts again has another id. Nodes read all
//! wishes; a wish is never a reason to leave a slot unserved.

use std::collections::{BTreeMap, BTreeSet};

/// All wishes that stand.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wishes {
    /// Slots, each with the address of the node that shall have it.
    pub slots: BTreeMap<u32, String>,
    /// Addresses of nodes that shall have no slot.
    pub drained: BTreeSet<String>,
}

/// A change of the wishes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wish {
    /// A slot shall be with the node at this address; with `None` it is like any other again.
    Place {
        /// The slot.
        slot: u32,
        /// Where devices reach the node.
        address: Option<String>,
    },
    /// A node shall have no slot, or its share again.
    Drain {
        /// Where devices reach the node.
        address: String,
        /// Whether it shall have none.
        is_drained: bool,
    },
}

impl Wishes {
    /// The wishes with one change.
    pub fn change(&mut self, wish: &Wish) {
        match wish {
            Wish::Place {
                slot,
                address: Some(address),
            } => {
                self.slots.insert(*slot, address.clone());
            }
            Wish::Place {
                slot,
                address: None,
            } => {
                self.slots.remove(slot);
            }
            Wish::Drain {
                address,
                is_drained: true,
            } => {
                self.drained.insert(address.clone());
            }
            Wish::Drain {
                address,
                is_drained: false,
            } => {
                self.drained.remove(address);
            }
        }
    }
}
