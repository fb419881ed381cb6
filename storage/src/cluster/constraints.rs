//! What operators want: where a slot shall be, and which nodes shall have none.
//!
//! A placement constraint names a node by the address where devices reach it, as a node that starts again has another id. Nodes
//! read all wishes; a placement constraint is never a reason to leave a slot unserved.

use std::collections::{BTreeMap, BTreeSet};

/// All wishes that stand.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Constraints {
    /// Slots, each with the address of the node that shall have it.
    pub slots: BTreeMap<u32, String>,
    /// Addresses of nodes that shall have no slot.
    pub cordoned: BTreeSet<String>,
}

/// A change of the placement constraints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Constraint {
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
        is_cordoned: bool,
    },
}

impl Constraints {
    /// The placement constraints with one change.
    pub fn change(&mut self, constraint: &Constraint) {
        match constraint {
            Constraint::Place {
                slot,
                address: Some(address),
            } => {
                self.slots.insert(*slot, address.clone());
            }
            Constraint::Place {
                slot,
                address: None,
            } => {
                self.slots.remove(slot);
            }
            Constraint::Drain {
                address,
                is_cordoned: true,
            } => {
                self.cordoned.insert(address.clone());
            }
            Constraint::Drain {
                address,
                is_cordoned: false,
            } => {
                self.cordoned.remove(address);
            }
        }
    }
}
