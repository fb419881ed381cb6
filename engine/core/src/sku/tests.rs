use super::*;

fn level() -> Level {
    Level::new(SkuKey { store: 1, sku: 7 }, None)
}

fn key(at_us: i64) -> MoveKey {
    MoveKey {
        at_us,
        epoch: 1,
        seq: 1,
        terminal: 1 << 32 | 1,
        line: 0,
    }
}

#[test]
fn a_row_becomes_a_level_and_back() {
    let mut level = level();
    assert_eq!(level.count(key(5), 10, 0, 2), Effect::Done);
    assert_eq!(level.movement(key(6), -12, 2), Effect::Done);
    assert_eq!(level.reserve(4, 2), Effect::Done);
    let row = level.row();
    assert_eq!(
        (row.moved, row.reserved, row.as_of_us, row.unit),
        (-12, 4, 6, 2)
    );
    assert_eq!(row.flags, flag::sku::NEGATIVE);
    assert_eq!(Level::new(level.key(), Some(&row)).row(), row);
}

#[test]
fn a_reservation_out_of_range_waits_and_parks_nothing() {
    let mut level = level();
    assert_eq!(level.reserve(i128::from(i64::MAX), 1), Effect::Done);
    assert_eq!(level.reserve(1, 1), Effect::Waits);
    assert!(!level.is_parked());
    assert_eq!(level.row().reserved, i64::MAX);
}

#[test]
fn a_parked_level_keeps_what_it_knew() {
    let mut level = level();
    assert_eq!(
        level.movement(key(1), i128::from(i64::MAX), 1),
        Effect::Done
    );
    assert_eq!(level.movement(key(2), 1, 1), Effect::Waits);
    assert_eq!(level.movement(key(3), -1, 1), Effect::Waits);
    assert_eq!(level.row().moved, i64::MAX);
    assert_eq!(level.recompute(i128::from(i64::MAX) + 1), Effect::Waits);
    assert_eq!(level.recompute(i128::from(i64::MAX)), Effect::Done);
    assert!(!level.is_parked());
}

#[test]
fn a_sum_that_leaves_the_small_cell_is_not_lost() {
    let huge = RollupRow {
        moved: i128::from(i64::MAX),
        ..RollupRow::default()
    };
    let cell = Cell::from_row(&huge).unwrap();
    assert_eq!(cell.row(), huge);
    assert_eq!(cell.plus(&cell), None);
    let wide = RollupRow {
        moved: i128::from(i64::MAX) + 1,
        ..RollupRow::default()
    };
    assert_eq!(Part::new(&wide).row(), wide);
}

#[test]
fn sums_too_large_for_a_cell_are_not_cut() {
    let mut row = RollupRow::default();
    row.totals.tax = i128::from(i32::MAX);
    let cell = Cell::from_row(&row).unwrap();
    assert_eq!(cell.row(), row);
    assert_eq!(cell.plus(&cell), None);
    row.totals.tax += 1;
    assert_eq!(Cell::from_row(&row), None);
}

#[test]
fn every_flag_of_a_sku_survives_in_memory() {
    for (flag, name) in flag::sku::NAMES {
        let row = SkuRow {
            flags: flag,
            ..SkuRow::default()
        };
        let level = Level::new(SkuKey { store: 1, sku: 7 }, Some(&row));
        assert_eq!(level.row(), row, "{name}");
    }
}

#[test]
fn an_actor_stays_small() {
    assert!(size_of::<crate::rollup::RollupActor>() <= 160);
}
