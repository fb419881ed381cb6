//! Which setting somebody meant who wrote another name.

use crate::config::key::KEYS;

/// The name that is nearest to one that is not known, where one is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let scored = KEYS.iter().map(|key| {
        let bare = key.name.split_once('.').map_or(key.name, |(_, bare)| bare);
        let asked = name.split_once('.').map_or(name, |(_, bare)| bare);
        let whole = distance(name, key.name);
        (whole.min(distance(asked, bare) + 1), key.name)
    });
    let best = scored.min()?;
    (best.0 <= 1 + name.len() / 3).then_some(best.1)
}

// Letters to add, remove or change between two names.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (number, letter) in one.chars().enumerate() {
        let mut diagonal = number;
        if let Some(first) = row.first_mut() {
            *first = number + 1;
        }
        for (at, against) in other.iter().enumerate() {
            let above = row.get(at + 1).copied().unwrap_or(usize::MAX);
            let left = row.get(at).copied().unwrap_or(usize::MAX);
            let changed = diagonal + usize::from(letter != *against);
            diagonal = above;
            if let Some(cell) = row.get_mut(at + 1) {
                *cell = changed.min(above + 1).min(left + 1);
            }
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}
