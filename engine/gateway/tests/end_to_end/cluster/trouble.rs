//! What devices were told is so, whatever goes wrong on the way to the shared store.

use till_storage::testing::Trouble;

use super::*;

/// A lease that is over soon: slots change hands many times in a test.
const SHORT: Duration = Duration::from_millis(400);

/// A device that forgets what is committed, as its outbox would: trades until the time comes, and gives the number of its
/// last event. It starts with one event that is committed.
async fn trade(engines: Arc<[Arc<Handle>]>, store: u64, until: Instant) -> u64 {
    let (mut committed, mut end) = (1, 1);
    loop {
        let (mut device, next, _connection) = at_home(&engines, store, 1).await;
        assert!(
            next > committed,
            "store {store}: the device was told that {committed} events are committed; only {} are known",
            next - 1
        );
        // Also what the engine has: a stream hears of the commit of what it has sent.
        let mut next = committed + 1;
        loop {
            if committed == end {
                if Instant::now() >= until {
                    return end;
                }
                end += 3;
            }
            if next <= end {
                let frame = teas(next, end + 1 - next);
                if device.send.write_all(&frame).await.is_err() {
                    break;
                }
                next = end + 1;
            }
            match device.next().await {
                Some(Message::Ack(ack)) => {
                    committed = committed.max(ack.committed.map_or(0, till_protocol::id::Seq::get));
                }
                Some(Message::Slow(_)) => {}
                _ => break,
            }
        }
    }
}

// A sequence of numbers that a seed decides.
fn dice(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// Cuts the ways to the store, each for itself, for up to a little more than two leases.
async fn cut(ways: Vec<Arc<MemoryCluster>>, seed: u64, until: Instant) {
    let mut dice = dice(seed);
    while Instant::now() < until {
        let mut some = false;
        for way in &ways {
            let is_cut = dice(3) == 0;
            way.set_away(is_cut);
            some |= is_cut;
        }
        let longest = if some { 900 } else { 500 };
        tokio::time::sleep(Duration::from_millis(50 + dice(longest))).await;
    }
    for way in ways {
        way.set_away(false);
    }
}

async fn nothing_committed_is_lost(seed: u64) {
    let dirs = [folder(), folder(), folder()];
    let store = MemoryCluster::new(SLOTS);
    let mut engines = Vec::new();
    let mut ways = Vec::new();
    for dir in &dirs {
        let way = Arc::new(store.another_way());
        engines.push(node_with(dir.path(), &way, SHORT).await);
        ways.push(way);
    }
    share(&engines).await;
    for number in STORES {
        send(&engines, number, 1, 1).await;
    }
    let trouble = Trouble {
        fails: 20,
        answers_lost: 20,
        delay: Duration::from_millis(1),
        ..Trouble::default()
    };
    for (way, number) in ways.iter().zip(0..) {
        way.set_trouble(trouble, seed * 1_000 + number);
    }
    let engines: Arc<[Arc<Handle>]> = engines.into();
    let until = Instant::now() + Duration::from_secs(6);
    let cutting = tokio::spawn(cut(ways.clone(), seed, until));
    let selling: Vec<_> = STORES
        .map(|number| tokio::spawn(trade(Arc::clone(&engines), number, until)))
        .collect();
    let mut sold_events = Vec::new();
    for one in selling {
        sold_events.push(one.await.unwrap());
    }
    cutting.await.unwrap();
    for way in &ways {
        way.set_trouble(Trouble::default(), 0);
    }
    share(&engines).await;
    written(&engines).await;
    for engine in engines.iter() {
        for (number, count) in (1..).zip(&sold_events) {
            let level = level(engine, number).await;
            assert_eq!(level, count.to_string(), "store {number}, seed {seed}");
        }
    }
    for engine in engines.iter() {
        engine.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_committed_is_lost_when_the_way_to_the_store_is_cut_and_answers_are_lost() {
    for seed in 1..=3 {
        println!("seed {seed}");
        nothing_committed_is_lost(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_slots_change_hands_while_devices_send() {
    const MANY: u32 = 256;
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(MANY));
    let first = node(dirs[0].path(), &store).await;
    share_of(std::slice::from_ref(&first), MANY).await;
    for number in STORES {
        send(std::slice::from_ref(&first), number, 0, 1).await;
    }
    let slow = Trouble {
        delay: Duration::from_millis(1),
        ..Trouble::default()
    };
    store.set_trouble(slow, 0);
    let second = node(dirs[1].path(), &store).await;
    let engines: Arc<[Arc<Handle>]> = [first, second].into();
    let until = Instant::now() + Duration::from_secs(4);
    let selling: Vec<_> = STORES
        .map(|number| tokio::spawn(trade(Arc::clone(&engines), number, until)))
        .collect();
    share_of(&engines, MANY).await;
    for (number, one) in (1..).zip(selling) {
        let sold_events = one.await.unwrap();
        written(&engines).await;
        assert_eq!(level(&engines[1], number).await, sold_events.to_string());
    }
    for engine in engines.iter() {
        engine.drain().await.unwrap();
    }
}
