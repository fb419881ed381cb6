//! Card data in texts: found, and masked before anything is hashed or written.
//!
//! A free text keeps its length and the last four digits of a card number; track data is blanked. A code (SKU, receipt)
//! that looks like a card number becomes a keyed token of the same length, so that two codes never merge. Barcodes are no
//! cards: a code with a valid GS1 check digit is left alone.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::family::text;

/// The chain's secret for tokens: made once, part of its data.
#[derive(Clone)]
pub struct ScreenKey([u8; 32]);

impl ScreenKey {
    /// A key from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for ScreenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScreenKey(secret)")
    }
}

/// What replaces the mask's digits.
const STAR: u8 = b'*';

/// The text to store in place of one of a kind, or `None` where there is nothing to hide. Same length in bytes.
pub fn screen(kind: u8, original: &str, key: &ScreenKey) -> Option<String> {
    if !may_hold_card(original) {
        return None;
    }
    match kind {
        text::SKU_CODE | text::RECEIPT => token_code(key, original),
        _ => mask_text(original),
    }
}

/// Cheap first look: fewer than 13 bytes or fewer than 13 digits hold no card number.
fn may_hold_card(text: &str) -> bool {
    text.len() >= 13 && text.chars().filter(|one| digit(*one).is_some()).nth(12).is_some()
}

/// Masks card numbers in a free text: all digits but the last four become stars, track data becomes stars altogether.
pub fn mask_text(original: &str) -> Option<String> {
    let mut bytes = original.as_bytes().to_vec();
    let mut found = blank_tracks(original, &mut bytes);
    for card in cards(original) {
        let keep = card.digits.len().saturating_sub(4);
        for (start, length) in card.digits.into_iter().take(keep) {
            star(&mut bytes, start, length);
        }
        found = true;
    }
    found.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The token that stands for a code which looks like a card number and is no barcode; `None` for all other codes.
///
/// `T` and as many base-32 letters of HMAC-SHA-256 as the code has room for: at least 60 bits.
pub fn token_code(key: &ScreenKey, code: &str) -> Option<String> {
    let suspicious =
        cards(code).iter().any(|card| !(card.plain && is_barcode(&card.values))) || has_track(code);
    if !suspicious {
        return None;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).ok()?;
    mac.update(code.as_bytes());
    let hash: [u8; 32] = mac.finalize().into_bytes().into();
    let mut letters = hash.iter().flat_map(|byte| [byte & 31, byte >> 3]).map(|five| {
        char::from(*b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".get(usize::from(five)).unwrap_or(&b'A'))
    });
    let mut token = String::with_capacity(code.len());
    token.push('T');
    while token.len() < code.len() {
        token.push(letters.next().unwrap_or('='));
    }
    Some(token)
}

/// Whether digits are a GS1 key with a right check digit (GTIN-8/12/13/14, GSIN, SSCC).
pub fn is_barcode(digits: &[u8]) -> bool {
    if !matches!(digits.len(), 8 | 12 | 13 | 14 | 17 | 18) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| u32::from(*digit) * if place % 2 == 1 { 3 } else { 1 })
        .sum();
    sum.is_multiple_of(10)
}

/// A run of digits that passes for a card number.
struct Card {
    /// Place and length in bytes of each digit.
    digits: Vec<(usize, usize)>,
    values: Vec<u8>,
    /// Without separators.
    plain: bool,
}

/// Digits with at most one separator between two of them, cut where a separator stands: every stretch of whole groups is
/// looked at.
fn cards(text: &str) -> Vec<Card> {
    let mut found = Vec::new();
    for run in runs(text) {
        let groups = run.len();
        let mut first = 0;
        while first < groups {
            let hit = (first..groups).rev().find_map(|last| card_of(run.get(first..=last)?));
            match hit {
                Some((card, used)) => {
                    found.push(card);
                    first += used;
                }
                None => first += 1,
            }
        }
    }
    found
}

type Digit = (usize, usize, u8);

fn card_of(groups: &[Vec<Digit>]) -> Option<(Card, usize)> {
    let all: Vec<Digit> = groups.iter().flatten().copied().collect();
    let values: Vec<u8> = all.iter().map(|digit| digit.2).collect();
    if !(13..=19).contains(&values.len()) || !has_issuer(&values) || !passes_luhn(&values) {
        return None;
    }
    let digits = all.iter().map(|digit| (digit.0, digit.1)).collect();
    Some((Card { digits, values, plain: groups.len() == 1 }, groups.len()))
}

/// Runs of groups of digits; one space, dash, dot or slash joins groups, anything else ends the run.
fn runs(text: &str) -> Vec<Vec<Vec<Digit>>> {
    let mut runs: Vec<Vec<Vec<Digit>>> = Vec::new();
    let mut after_digit = false;
    let mut join = false;
    for (place, one) in text.char_indices() {
        if let Some(value) = digit(one) {
            let entry = (place, one.len_utf8(), value);
            if after_digit {
                if let Some(group) = runs.last_mut().and_then(|run| run.last_mut()) {
                    group.push(entry);
                }
            } else if join && let Some(run) = runs.last_mut() {
                run.push(vec![entry]);
            } else {
                runs.push(vec![vec![entry]]);
            }
            after_digit = true;
            join = false;
        } else {
            join = after_digit && matches!(one, ' ' | '-' | '.' | '/' | '\u{a0}' | '\u{2010}'..='\u{2015}');
            after_digit = false;
        }
    }
    runs
}

/// The value of a decimal digit of any script that tills print.
fn digit(one: char) -> Option<u8> {
    const ZEROS: [u32; 12] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xe50, 0xed0, 0x1040, 0xff10,
    ];
    let code = u32::from(one);
    ZEROS.iter().find_map(|zero| u8::try_from(code.checked_sub(*zero)?).ok().filter(|v| *v < 10))
}

/// Whether the first digits are those of a card scheme (ISO/IEC 7812 ranges in use).
fn has_issuer(digits: &[u8]) -> bool {
    let prefix = digits.iter().take(4).fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    match prefix / 1000 {
        3 => matches!(prefix / 100, 30 | 34..=39),
        4 | 6 => true,
        5 => matches!(prefix / 100, 50..=58),
        2 => (2200..=2204).contains(&prefix) || (2221..=2720).contains(&prefix),
        8 => prefix / 100 == 81 || prefix / 100 == 82,
        _ => false,
    }
}

fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit) * if place % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Where track data stands: from its start sentinel to its end.
fn tracks(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for (start, byte) in bytes.iter().enumerate() {
        let rest = bytes.get(start + 1..).unwrap_or_default();
        let (body, separator) = match (byte, rest.first()) {
            (b';', _) => (rest, b'='),
            (b'%', Some(b'B' | b'b')) => (rest.get(1..).unwrap_or_default(), b'^'),
            _ => continue,
        };
        let digits = body.iter().take_while(|one| one.is_ascii_digit()).count();
        if (13..=19).contains(&digits) && body.get(digits) == Some(&separator) {
            let end = rest.iter().position(|one| *one == b'?').map_or(rest.len(), |at| at + 1);
            found.push((start, end + 1));
        }
    }
    found
}

fn has_track(text: &str) -> bool {
    !tracks(text).is_empty()
}

fn blank_tracks(text: &str, bytes: &mut [u8]) -> bool {
    let found = tracks(text);
    for (start, length) in &found {
        star(bytes, *start, *length);
    }
    !found.is_empty()
}

fn star(bytes: &mut [u8], start: usize, length: usize) {
    if let Some(place) = bytes.get_mut(start..start + length) {
        place.fill(STAR);
    }
}

#[cfg(test)]
mod tests;
