//! Where in a text card data lies.

use std::ops::Range;

use super::digits::{is_separator, value};
use super::{DIGITS_MAX, DIGITS_MIN};

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
    if digits < DIGITS_MIN {
        return spans;
    }
    for groups in runs(text) {
        suspects(&groups, &mut spans);
        stripe(text, &groups, &mut spans);
    }
    spans
}

// Runs of groups of digits: groups are parted by one separator, runs by anything else.
fn runs(text: &str) -> Vec<Vec<Vec<Digit>>> {
    let mut runs: Vec<Vec<Vec<Digit>>> = Vec::new();
    // How many characters ago the last digit was: 0 = it was the last one.
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
                (1, Some(run)) => run.push(vec![digit]),
                _ => runs.push(vec![vec![digit]]),
            }
            gap = 0;
        } else if gap == 0 && is_separator(c) {
            gap = 1;
        } else {
            gap = usize::MAX;
        }
    }
    runs
}

// Windows of whole groups; inside a group that is longer than any card number, windows of digits.
fn suspects(groups: &[Vec<Digit>], spans: &mut Vec<Range<usize>>) {
    let mut first = 0;
    while first < groups.len() {
        let taken = longest_window(&groups[first..]);
        if let Some((count, digits)) = taken {
            mask_number(&digits, spans);
            first += count;
            continue;
        }
        if groups[first].len() > DIGITS_MAX {
            inside(&groups[first], spans);
        }
        first += 1;
    }
}

fn longest_window(groups: &[Vec<Digit>]) -> Option<(usize, Vec<Digit>)> {
    let mut digits = Vec::new();
    let mut best = None;
    for (index, group) in groups.iter().enumerate() {
        digits.extend_from_slice(group);
        if digits.len() > DIGITS_MAX {
            break;
        }
        if is_number(&digits) {
            best = Some((index + 1, digits.clone()));
        }
    }
    best
}

fn inside(group: &[Digit], spans: &mut Vec<Range<usize>>) {
    let mut first = 0;
    while first + DIGITS_MIN <= group.len() {
        let longest = (DIGITS_MIN..=DIGITS_MAX.min(group.len() - first))
            .rev()
            .find(|&length| is_number(&group[first..first + length]));
        match longest {
            Some(length) => {
                mask_number(&group[first..first + length], spans);
                first += length;
            }
            None => first += 1,
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
