//! Card data in every field, and codes that only look like it.

use std::time::Instant;

use anyhow::Result;
use till_tests::{Home, cards};

use crate::report::Attack;

/// Cards in every text field, file column and question: none of them is found in a file or in the log.
pub(crate) fn cards() -> Result<Attack> {
    let begun = Instant::now();
    let mut attack = Attack::named("cards");
    let swept = cards::sweep(&Home::new()?)?;
    attack.attempts = swept.sales;
    attack.bytes = swept.searched;
    let leaks = u64::try_from(swept.leaks.len())?;
    attack.answers.insert("leaks".to_owned(), leaks);
    attack.must(leaks == 0, || swept.leaks.join("; "));
    attack.elapsed_s = begun.elapsed().as_secs_f64();
    Ok(attack.judged())
}

/// Barcodes that begin like cards: all of them come back as they were.
pub(crate) fn barcodes(count: u64) -> Result<Attack> {
    let begun = Instant::now();
    let mut attack = Attack::named("barcodes");
    let codes = cards::barcodes(&Home::new()?, count)?;
    attack.attempts = u64::try_from(codes.sent)?;
    for (what, number) in [("suspects", codes.suspects), ("kept", codes.kept)] {
        attack
            .answers
            .insert(what.to_owned(), u64::try_from(number)?);
    }
    attack.must(codes.suspects > 0, || "none looks like a card".to_owned());
    attack.must(codes.kept == codes.sent, || format!("{codes:?}"));
    attack.elapsed_s = begun.elapsed().as_secs_f64();
    Ok(attack.judged())
}
