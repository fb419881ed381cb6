//! Which chain a shared store, or the folder of an engine, belongs to.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Tells chains apart and gives nothing of their key away: the beginning of its SHA-256, behind a word of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChainId(u128);

impl ChainId {
    /// The chain whose engines replace codes with this key.
    pub fn of(key: &[u8; 32]) -> Self {
        let digest = Sha256::new()
            .chain_update(b"tillstream chain\n")
            .chain_update(key)
            .finalize();
        let first = digest.iter().take(16);
        Self(first.fold(0, |number, byte| (number << 8) | u128::from(*byte)))
    }
}

impl fmt::Display for ChainId {
    /// 32 hexadecimal digits.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

impl FromStr for ChainId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).map_err(|_| ())?;
        is_whole.then_some(Self(number)).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_written_and_read_and_differs_from_others() {
        let (one, other) = (ChainId::of(&[1; 32]), ChainId::of(&[2; 32]));
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse(), Ok(one));
        for text in ["", "12", &"g".repeat(32), &"1".repeat(33)] {
            assert_eq!(text.parse::<ChainId>(), Err(()), "{text}");
        }
        // Folders on disks say it so.
        assert_eq!(ChainId::of(&[0; 32]).to_string(), FROZEN);
    }

    const FROZEN: &str = "ae22a8343b1afb6973ffa15cf895bfa5";
}
