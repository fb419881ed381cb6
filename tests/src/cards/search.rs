//! The search for what is left of card numbers: in files, and in the rows as they read.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use till_core::Dim;
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_protocol::id::SkuId;
use till_storage::views::Views as _;

use super::{CARDS, dressed};

/// Bytes that must not be found, and what they are.
type Needles = [(String, Vec<u8>)];

/// What must not be found: each number with its last four digits left out, which may be shown, in each form that was sent.
pub(super) fn needles() -> Vec<(String, Vec<u8>)> {
    let mut needles = Vec::new();
    for card in CARDS {
        for text in dressed(card) {
            let shown: Vec<char> = text.chars().collect();
            // Twelve digits and what parts them tell the card.
            let enough = shown.len().min(card.len() - 4);
            let start = shown.iter().take_while(|c| !c.is_numeric()).count();
            let part: String = shown.iter().skip(start).take(enough).collect();
            let wide: Vec<u16> = part.encode_utf16().collect();
            let bytes =
                |order: fn(u16) -> [u8; 2]| wide.iter().flat_map(|unit| order(*unit)).collect();
            needles.push((part.clone(), bytes(u16::to_le_bytes)));
            needles.push((part.clone(), bytes(u16::to_be_bytes)));
            needles.push((part.clone(), part.into_bytes()));
            // The id of a code is a hash without a key: it could be found by trying.
            needles.push((
                format!("id of {text}"),
                SkuId::of_code(&text).get().to_le_bytes().to_vec(),
            ));
        }
        let number: u64 = card.parse().unwrap_or(0);
        needles.push((format!("{card} as u64"), number.to_le_bytes().to_vec()));
    }
    needles.sort();
    needles.dedup();
    needles
}

/// Names the places in which card data lies.
pub(super) fn leaks(named: &str, bytes: &[u8], needles: &Needles, found: &mut Vec<String>) {
    // One pass: a needle is looked for where its first two bytes stand.
    let mut by_start: Vec<Vec<usize>> = vec![Vec::new(); 1 << 16];
    let start = |pair: &[u8]| match pair {
        [a, b, ..] => usize::from(*a) << 8 | usize::from(*b),
        _ => 0,
    };
    for (number, (_, needle)) in needles.iter().enumerate() {
        if let Some(list) = by_start.get_mut(start(needle)) {
            list.push(number);
        }
    }
    for at in 0..bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        for number in by_start.get(start(rest)).into_iter().flatten() {
            if let Some((what, needle)) = needles.get(*number)
                && rest.starts_with(needle)
            {
                found.push(format!("{named} at {at}: {what}"));
            }
        }
    }
}

/// Every file below a folder; what was allocated and never written is left out.
pub(super) fn search(folder: &Path, needles: &Needles, found: &mut Vec<String>) -> Result<u64> {
    let mut searched = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            searched += search(&path, needles, found)?;
            continue;
        }
        let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        bytes.truncate(used);
        leaks(&path.display().to_string(), &bytes, needles, found);
        searched += u64::try_from(used)?;
    }
    Ok(searched)
}

/// Every row of a store at rest, as it reads: its files are compressed, and hide what they hold.
pub(super) fn search_rows(
    folder: &Path,
    needles: &Needles,
    found: &mut Vec<String>,
) -> Result<u64> {
    let views = EmbeddedViews::open(EmbeddedConfig::new(folder))?;
    let mut stores = Vec::new();
    let mut text = String::new();
    let mut ids: Vec<u8> = Vec::new();
    let on = ControlFlow::<()>::Continue(());
    views.stores(&mut |store, row| {
        stores.push(store);
        text += &format!("{store} {row:?}\n");
        on
    })?;
    for store in stores {
        views.terminals(store, &mut |id, row| {
            text += &format!("{id} {row:?}\n");
            on
        })?;
        views.skus(store, SkuId::from_u64(0), &mut |id, row| {
            ids.extend(id.get().to_le_bytes());
            text += &format!("{row:?}\n");
            on
        })?;
        for dim in (0..=u8::MAX).map_while(Dim::from_u8) {
            views.rollups(store, dim, 0..=u16::MAX, &mut |key, row| {
                ids.extend(key.key.to_le_bytes());
                text += &format!("{key:?} {row:?}\n");
                on
            })?;
        }
    }
    views.quarantine(&mut |key, row| {
        text += &format!("{key:?} {row:?}\n");
        on
    })?;
    let mut names = 0;
    views.names(&mut |(_, id), name| {
        ids.extend(id.to_le_bytes());
        text += &format!("{name}\n");
        names += 1;
        on
    })?;
    views.event_ids(&mut |id, row| {
        text += &format!("{id:?} {row:?}\n");
        on
    })?;
    ensure!(names > 0, "the rows have no name: nothing was searched");
    leaks("a row", text.as_bytes(), needles, found);
    leaks("an id of the rows", &ids, needles, found);
    Ok(u64::try_from(text.len() + ids.len())?)
}
