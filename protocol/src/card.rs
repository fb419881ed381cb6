//! Card numbers in texts: found, masked, or replaced by a token. None may reach a disk, a log line or a table.
//!
//! A suspect is a run of 13 to 19 digits, in any script, optionally parted by up to three spaces, dashes or points, that
//! starts like a card's issuer number and passes the Luhn check; what stands behind it like an expiry or security code; three
//! or four digits that are called a security code; and anything that looks like the data of a magnetic stripe.

mod digits;
mod find;

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Fewest digits of a card number.
pub const DIGITS_MIN: usize = 13;
/// Most digits of a card number.
pub const DIGITS_MAX: usize = 19;

/// The secret behind tokens: without it a token can't be traced back by trying card numbers.
///
/// One for a whole deployment, and kept: another key makes other tokens of the same codes.
#[derive(Clone)]
pub struct ScreenKey([u8; 32]);

impl fmt::Debug for ScreenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScreenKey(..)")
    }
}

impl ScreenKey {
    /// A key from 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn block(&self, purpose: u8, counter: u8, input: &[u8]) -> [u8; 32] {
        // HMAC takes a key of any length; this one has its own. The fallback is never reached.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            return [0; 32];
        };
        mac.update(&[purpose, counter]);
        mac.update(input);
        mac.finalize().into_bytes().into()
    }
}

/// Masks card data in a text; `None` when there is none.
///
/// Each digit of a card number but the last four becomes `*`, separators stay; security codes and data of a magnetic stripe
/// become `*` throughout. The length in bytes stays, and the same text always becomes the same.
pub fn mask_text(text: &str) -> Option<String> {
    let mut masked = mask_once(text)?;
    // The four digits that are left of one number may stand before digits that then look like another. Each round masks
    // digits, so the rounds come to an end.
    while let Some(again) = mask_once(&masked) {
        masked = again;
    }
    Some(masked)
}

fn mask_once(text: &str) -> Option<String> {
    let spans = find::spans(text);
    if spans.is_empty() {
        return None;
    }
    let mut bytes = text.as_bytes().to_vec();
    for range in spans {
        bytes[range].fill(b'*');
    }
    // Spans cover whole characters, so what is left is UTF-8.
    Some(String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len())))
}

/// Whether a text holds card data.
pub fn is_suspect(text: &str) -> bool {
    !find::spans(text).is_empty()
}

/// Whether a text is a GS1 number with a right check digit: GTIN-8, -12, -13, -14, GSIN or SSCC.
pub fn is_gs1(text: &str) -> bool {
    let digits = text.as_bytes();
    if !matches!(digits.len(), 8 | 12 | 13 | 14 | 17 | 18) || !digits.iter().all(u8::is_ascii_digit)
    {
        return false;
    }
    // Weights 3 and 1 from the right, the check digit itself with 1.
    let weights = [1_u32, 3].into_iter().cycle();
    let sum: u32 = digits
        .iter()
        .rev()
        .zip(weights)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    sum.is_multiple_of(10)
}

/// Whether a server replaces a code by a token: it holds card data and is no GS1 number.
///
/// The server knows such a code by its text alone. Who sends it names it in every event that uses it.
pub fn is_card_code(code: &str) -> bool {
    !is_gs1(code) && is_suspect(code)
}

/// A token for a code that holds card data; `None` when it holds none, or is a GS1 number.
///
/// The token has the code's length in bytes, consists of letters, depends on every character of the code and on the key,
/// and is itself no suspect. Two codes get the same token only if a hash of at least 74 bits collides.
pub fn token_code(key: &ScreenKey, code: &str) -> Option<String> {
    if !is_card_code(code) {
        return None;
    }
    let letters = (0..=u8::MAX).flat_map(|counter| key.block(1, counter, code.as_bytes()));
    Some(letters.take(code.len()).map(letter).collect())
}

/// A token for a 16-byte reference that spells a card number in ASCII; `None` for any other.
pub fn screen_reference(value: &[u8; 16], key: &ScreenKey) -> Option<[u8; 16]> {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    if digits < DIGITS_MIN {
        return None;
    }
    let text: String = value
        .iter()
        .map(|&b| if b.is_ascii() { char::from(b) } else { ' ' })
        .collect();
    if !is_suspect(text.trim_matches(|c: char| c == '\0' || c == ' ')) {
        return None;
    }
    let block = key.block(2, 0, value);
    let mut token = [0; 16];
    token
        .iter_mut()
        .zip(block)
        .for_each(|(place, byte)| *place = byte | 0x80);
    Some(token)
}

fn letter(byte: u8) -> char {
    let at = byte % 52;
    char::from(if at < 26 { b'A' + at } else { b'a' + at - 26 })
}

#[cfg(test)]
mod tests;
