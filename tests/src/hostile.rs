//! What hostile devices say, byte by byte, and what they are told.

mod damage;
mod line;

pub use damage::{Damage, damaged};
pub use line::{Line, Said, archive, good, header, hello, terminal};
