//! A chain's trade as it plausibly happens: baskets of hot and rare goods, promotions, tips and change, returns, deliveries.
//!
//! Everything follows from a seed: the same seed and the same calls give the same events, byte for byte. No clock is read;
//! callers hand in the time.

mod basket;
mod catalogue;
mod dice;
mod event;
mod store;

pub use self::catalogue::{Catalogue, Item};
pub use self::dice::Dice;
pub use self::event::{Event, SaleEvent, push_move, push_reading, push_sign};
pub(crate) use self::store::LATE_MAX_US;
pub use self::store::{StoreWorkload, daily_curve};

#[cfg(test)]
mod tests;
