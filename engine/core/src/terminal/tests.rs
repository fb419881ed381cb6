use super::*;

#[test]
fn a_terminal_remembers_its_newest_epochs() {
    let mut row = TerminalRow::default();
    let most = u32::try_from(EPOCHS_MAX).unwrap();
    for epoch in 1..=most + 36 {
        row.advance(epoch, 5, 7);
    }
    assert_eq!(row.epochs.len(), EPOCHS_MAX);
    assert_eq!(row.latest_epoch(), most + 36);
    assert_eq!(row.window(most + 36, 5, 1), Window::Next { skip: 0 });
    assert_eq!(row.window(3, 1, 1), Window::Closed);
    assert!(row.has_forgotten(36) && !row.has_forgotten(37));
}

#[test]
fn a_digest_never_goes_back() {
    let mut row = TerminalRow::default();
    row.advance(1, 9, 90);
    row.advance(1, 4, 40);
    assert_eq!(
        row.epoch(1)
            .map(|progress| (progress.next_seq, progress.digest)),
        Some((9, 90))
    );
}

#[test]
fn a_shift_sums_up_the_latest_business_day() {
    let mut row = TerminalRow::default();
    let sale = Totals {
        transactions: 1,
        net: 10,
        ..Totals::default()
    };
    for day in [5, 6, 5, 6] {
        row.add_sale(day, &sale);
    }
    assert_eq!((row.shift_day, row.shift.net, row.totals.net), (6, 20, 40));
}
