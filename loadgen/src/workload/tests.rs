use std::sync::Arc;

use till_protocol::card::ScreenKey;
use till_protocol::codec::Frame;
use till_protocol::family::WHOLE_EVENT;
use till_protocol::verified::Verified;

use super::*;
use crate::wire;

const NOW: i64 = 1_772_350_200_000_000;

fn events(seed: u64, count: usize) -> Vec<Event> {
    let catalogue = Arc::new(Catalogue::new(seed, 300));
    let mut store = StoreWorkload::new(seed, (7, 3), &catalogue, 0);
    (0..count)
        .map(|at| store.next(NOW + i64::try_from(at).unwrap() * 500).1)
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_workload() {
    assert_eq!(events(5, 2_000), events(5, 2_000));
    assert_ne!(events(5, 2_000), events(6, 2_000));
}

#[test]
fn every_event_is_accepted_by_the_checker() {
    let events = events(1, 5_000);
    let frames = wire::frames(&events, 1).unwrap();
    let mut count = 0;
    for (bytes, events) in frames {
        let frame = Frame::decode(bytes).unwrap();
        assert_eq!(frame.header.first_seq, count + 1);
        let verified = Verified::check(frame, &ScreenKey::new([1; 32])).unwrap();
        assert!(verified.refusals().is_empty(), "{:?}", verified.refusals());
        assert!(
            verified.masked().is_empty(),
            "a code was taken for a card number"
        );
        count += events;
    }
    assert_eq!(count, 5_000);
}

#[test]
fn every_sale_balances() {
    for event in events(2, 5_000) {
        let Event::Sale(sale) = event else { continue };
        let whole = sale
            .adjustments
            .iter()
            .filter(|a| a.line == WHOLE_EVENT)
            .map(|a| a.amount);
        let due = sale.lines.iter().map(|line| line.amount).sum::<i64>()
            + sale.taxes.iter().map(|tax| tax.amount).sum::<i64>()
            + whole.sum::<i64>();
        let extras: i64 = sale.extras.iter().map(|(_, _, amount)| amount).sum();
        let paid = sale.tenders.iter().map(|tender| tender.amount).sum::<i64>() - extras;
        assert_eq!(paid, due, "{sale:?}");
    }
}

#[test]
fn no_two_events_of_a_store_share_their_time_but_late_counts() {
    let mut times: Vec<i64> = events(3, 5_000).iter().map(Event::at_us).collect();
    let (odd, _): (Vec<i64>, Vec<i64>) = times.iter().partition(|at| *at % 2 == 1);
    assert!(!odd.is_empty(), "there are counts");
    times.sort_unstable();
    let even: Vec<i64> = times.iter().copied().filter(|at| at % 2 == 0).collect();
    let mut unique = even.clone();
    unique.dedup();
    assert_eq!(unique, even);
}

#[test]
fn few_goods_are_hot() {
    let catalogue = Catalogue::new(1, 1_000);
    let mut dice = Dice::new(9);
    let mut hot = 0;
    for _ in 0..10_000 {
        let id = catalogue.pick(&mut dice).id;
        hot += usize::from(catalogue.items().iter().take(100).any(|item| item.id == id));
    }
    assert!(
        (5_000..9_000).contains(&hot),
        "{hot} of 10,000 picks are among the hottest tenth"
    );
}
