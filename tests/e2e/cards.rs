//! No card number reaches a disk or a log, whatever field it comes in, and no barcode is mistaken for one.

use anyhow::{Result, ensure};
use till_tests::{Home, cards};

#[test]
fn no_card_number_reaches_a_file_or_a_log() -> Result<()> {
    let swept = cards::sweep(&Home::new()?)?;
    ensure!(
        swept.leaks.is_empty(),
        "{} leaks:\n{}",
        swept.leaks.len(),
        swept.leaks.join("\n")
    );
    Ok(())
}

#[test]
fn ten_thousand_barcodes_that_begin_like_cards_come_back_unchanged() -> Result<()> {
    let codes = cards::barcodes(&Home::new()?, 10_000)?;
    ensure!(
        codes.suspects > 500,
        "only {} of them could be taken for a card",
        codes.suspects
    );
    ensure!(codes.kept == codes.sent, "{codes:?}");
    Ok(())
}
