//! Where in a text card data lies.

use std::ops::Range;

use super::digits::{is_separator, value};
use super::{DIGITS_MAX, DIGITS_MIN};

/// Most separators between two digits of one number: ` - ` is written, wider gaps part columns.
const SEPARATORS_MAX: usize = 3;
/// Fewest and most digits of a card's security code.
const CODE_MIN: usize = 3;
const CODE_MAX: usize = 4;
/// What a security code is called.
const CODE_NAMES: [&str; 7] = ["cvv2", "cvc2", "cvn2", "cvv", "cvc", "cvn", "csc"];

#[derive(Clone, Copy)]
struct Digit {
    start: usize,
    end: usize,
    value: u8,
}

/// Ranges of bytes to blank, each of whole characters: most texts have none.
pub(super) fn spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    // Nearly all texts end here: too few digits, at one look per byte.
    let digits = text
        .bytes()
        .filter(|b| b.is_ascii_digit() || !b.is_ascii())
        .count();
    if digits < CODE_MIN {
        return spans;
    }
    codes(text, &mut spans);
    if digits < DIGITS_MIN {
        return spans;
    }
    for groups in runs(text) {
        suspects(&groups, &mut spans);
        stripe(text, &groups, &mut spans);
    }
    spans
}

// Runs of groups of digits: groups are parted by a few separators, runs by anything else.
fn runs(text: &str) -> Vec<Vec<Vec<Digit>>> {
    let mut runs: Vec<Vec<Vec<Digit>>> = Vec::new();
    // How many separators ago the last digit was: 0 = it was the last character.
    let mut gap = usize::MAX;
    for (start, c) in text.char_indices() {
        if let Some(value) = value(c) {
            let digit = Digit {
                start,
                end: start + c.len_utf8(),
                value,
            };
            match (gap, runs.last_mut()) {
                (0, Some(run)) => {
                    if let Some(group) = run.last_mut() {
                        group.push(digit);
                    }
                }
                (1..=SEPARATORS_MAX, Some(run)) => run.push(vec![digit]),
                _ => runs.push(vec![vec![digit]]),
            }
            gap = 0;
        } else if gap < SEPARATORS_MAX && is_separator(c) {
            gap += 1;
        } else {
            gap = usize::MAX;
        }
    }
    runs
}

// Every window that could be a number is masked, not the first or longest one alone: a number that is one by chance may
// begin before a card's and reach into it, and would leave most of the card to be read.
fn suspects(groups: &[Vec<Digit>], spans: &mut Vec<Range<usize>>) {
    for first in 0..groups.len() {
        windows(&groups[first..], spans);
        match groups[first].len() {
            len if len > DIGITS_MAX => inside(&groups[first], spans),
            len => glued(&groups[first], len, spans),
        }
    }
}

// Windows of whole groups from the first on.
fn windows(groups: &[Vec<Digit>], spans: &mut Vec<Range<usize>>) {
    let mut digits = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        digits.extend_from_slice(group);
        if digits.len() > DIGITS_MAX {
            break;
        }
        if is_number(&digits) {
            mask_number(&digits, spans);
            behind(&groups[index + 1..], spans);
        }
    }
}

// What people write behind a card's number are its expiry and its security code: short groups, masked whole.
fn behind(groups: &[Vec<Digit>], spans: &mut Vec<Range<usize>>) {
    let short = groups.iter().take_while(|group| group.len() <= CODE_MAX);
    spans.extend(short.flatten().map(|digit| digit.start..digit.end));
}

// A number with its security code written on without a gap.
fn glued(group: &[Digit], len: usize, spans: &mut Vec<Range<usize>>) {
    for code in CODE_MIN..=CODE_MAX {
        let Some((number, code)) = len.checked_sub(code).map(|at| group.split_at(at)) else {
            continue;
        };
        if is_number(number) {
            mask_number(number, spans);
            spans.extend(code.iter().map(|digit| digit.start..digit.end));
        }
    }
}

// All windows of a group that is longer than any card number.
fn inside(group: &[Digit], spans: &mut Vec<Range<usize>>) {
    for first in 0..=group.len() - DIGITS_MIN {
        for length in DIGITS_MIN..=DIGITS_MAX.min(group.len() - first) {
            let (number, rest) = group[first..].split_at(length);
            if !is_number(number) {
                continue;
            }
            mask_number(number, spans);
            if rest.len() <= CODE_MAX {
                spans.extend(rest.iter().map(|digit| digit.start..digit.end));
            }
        }
    }
}

// A security code that is called one, with or without a card's number beside it.
fn codes(text: &str, spans: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for name in CODE_NAMES {
        for (at, _) in lower.match_indices(name) {
            let rest = &text[at + name.len()..];
            let lead: usize = rest
                .chars()
                .take(SEPARATORS_MAX + 1)
                .take_while(|&c| !c.is_alphanumeric())
                .map(char::len_utf8)
                .sum();
            let digits = rest[lead..].chars().take_while(|&c| value(c).is_some());
            let (count, bytes) = digits.fold((0, 0), |(n, b), c| (n + 1, b + c.len_utf8()));
            if (CODE_MIN..=CODE_MAX).contains(&count) {
                let start = at + name.len() + lead;
                spans.push(start..start + bytes);
            }
        }
    }
}

// The last four digits stay, as on a receipt.
fn mask_number(digits: &[Digit], spans: &mut Vec<Range<usize>>) {
    let masked = digits.len().saturating_sub(4);
    spans.extend(
        digits
            .iter()
            .take(masked)
            .map(|digit| digit.start..digit.end),
    );
}

fn is_number(digits: &[Digit]) -> bool {
    (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) && is_issued(digits) && luhn(digits)
}

// Issuer numbers of ISO/IEC 7812 that payment cards have.
fn is_issued(digits: &[Digit]) -> bool {
    let head = digits
        .iter()
        .take(4)
        .fold(0_u16, |number, digit| number * 10 + u16::from(digit.value));
    match head / 1000 {
        4..=6 => true,
        3 => matches!(head / 100, 30 | 34..=39),
        2 => matches!(head, 2200..=2204 | 2221..=2720),
        8 => matches!(head / 100, 81 | 82),
        9 => head == 9792,
        1 => digits.len() == 15,
        _ => false,
    }
}

fn luhn(digits: &[Digit]) -> bool {
    let doubled = |value: u8| if value < 5 { value * 2 } else { value * 2 - 9 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            u32::from(if place % 2 == 1 {
                doubled(digit.value)
            } else {
                digit.value
            })
        })
        .sum();
    sum.is_multiple_of(10)
}

// Track 2 is `;number=yymm...?`, track 1 is `%Bnumber^name^yymm...?`: blanked to their end.
fn stripe(text: &str, groups: &[Vec<Digit>], spans: &mut Vec<Range<usize>>) {
    for (at, group) in groups.iter().enumerate() {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let before = text[..first.start].chars().next_back();
        let mut after = text[last.end..].chars();
        let next = after.next();
        // Track 1 may part the digits of the number by spaces.
        let start = if at == 0 {
            first.start
        } else {
            groups[0][0].start
        };
        let long = (12..=DIGITS_MAX).contains(&group.len());
        let dated = after.take_while(|&c| value(c).is_some()).count() >= 3;
        let sentinel = match before {
            Some(';') => Some(first.start - 1),
            Some('B' | 'b') => Some(first.start - 1),
            _ => None,
        };
        let track_2 =
            matches!(next, Some('=' | 'D' | 'd')) && (dated || before == Some(';')) && long;
        let track_1 = next == Some('^') && (long || groups.len() > 1);
        if track_2 || track_1 {
            let end = text[last.end..]
                .find('?')
                .map_or(text.len(), |at| last.end + at + 1);
            spans.push(sentinel.unwrap_or(start)..end);
        }
    }
}
