use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::properties::{Act, Step, a_step, acts, drive, take_id};
use super::world::{Basket, World};
use crate::Handled;

// An event id makes the first event that comes the one that counts, and a name is known from the first that brings it on: what
// others say depends on the order.
fn without_ids_and_names(steps: Vec<Step>) -> Vec<Step> {
    let plain = |basket: Basket| Basket {
        id: None,
        codes: Vec::new(),
        ..basket
    };
    let each = steps.into_iter().map(|step| match step {
        Step::Sales {
            till,
            age,
            back,
            baskets,
        } => Step::Sales {
            till,
            age,
            back,
            baskets: baskets.into_iter().map(plain).collect(),
        },
        other @ (Step::Stock { .. } | Step::Take | Step::Write) => other,
    });
    each.collect()
}

// The whole journal of the one, after what the other has taken from the devices.
fn hand_off_all(b: &mut World, a: &World) {
    for record in &a.journal {
        let handled = b.hand_off(record);
        let is_told = matches!(handled, Handled::Journal { .. } | Handled::Known { .. });
        assert!(is_told, "{handled:?} to {:?}", record.head);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_that_is_handed_off_after_a_prefix_counts_everything_once(
        steps in vec(a_step(), 1..25),
        part in 0_usize..26,
    ) {
        let mut a = World::new();
        drive(&mut a, &steps);
        let mut b = World::new();
        drive(&mut b, &steps[..part.min(steps.len())]);
        hand_off_all(&mut b, &a);
        prop_assert_eq!(&b.journal, &a.journal);
        prop_assert_eq!(b.state(), a.state());
        prop_assert!(b.shard.counters().adds_up());
        prop_assert!(b.shard.violations().is_empty());
        let state = b.state();
        hand_off_all(&mut b, &a);
        prop_assert_eq!(b.state(), state);
        b.check_replay();
    }

    /// Each till has come to another point when the other node takes over, some in their newest life alone.
    #[test]
    fn it_counts_everything_once_whatever_each_till_has_sent_again(
        steps in vec(a_step(), 1..25).prop_map(without_ids_and_names),
        cuts in vec((0_usize..12, any::<bool>()), 4),
    ) {
        let mut a = World::new();
        drive(&mut a, &steps);
        let acts = acts(&steps);
        let mut newest = BTreeMap::new();
        for act in &acts {
            if let Act::Frame(till, epoch, _) = act {
                newest.insert(*till, *epoch);
            }
        }
        let mut b = World::new();
        take_id(&b);
        let mut sent = BTreeMap::new();
        for act in acts {
            let Act::Frame(till, epoch, frame) = act else { continue };
            let (most, only_newest) = cuts[usize::try_from(till).unwrap()];
            let sent: &mut usize = sent.entry(till).or_default();
            if *sent < most && !(only_newest && newest[&till] != epoch) {
                *sent += 1;
                drop(b.send(till, epoch, frame));
            }
        }
        hand_off_all(&mut b, &a);
        prop_assert_eq!(b.state(), a.state());
        prop_assert!(b.shard.counters().adds_up());
        prop_assert!(b.shard.violations().is_empty());
        b.check_replay();
    }
}
