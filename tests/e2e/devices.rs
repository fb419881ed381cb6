//! What happens to tills: restored from an image, robbed of their storage, copied, away for days, at odds with the engine.
//! Nothing is lost, doubled or filed under another day, and nothing of that changes by a crash or a rebuild.

mod till;

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::json;
use till_client::{Cause, Terminal};
use till_protocol::builder::StockBuilder;
use till_protocol::code::Reason;
use till_protocol::codec::encode_frame;
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::id::{Epoch, Seq, SkuId};
use till_protocol::quantity::unit;
use till_protocol::reply::{Hello, Message};
use till_protocol::time::DeviceTime;
use till_tests::Engine;

use self::till::{Ledger, TEA, Till, epochs, id, link_to, prove, run, sell, sell_unseen};

/// 2026-03-02 12:00 UTC.
const NOON_US: i64 = 1_772_452_800_000_000;
const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;

/// Sells for each amount in `cents`, a second apart.
async fn workload(
    terminal: &Terminal,
    ledger: &mut Ledger,
    cents: impl Iterator<Item = i64>,
) -> Result<()> {
    for cents in cents {
        sell(terminal, ledger, NOON_US + cents * SECOND_US, cents).await?;
    }
    Ok(())
}

/// The first thing that a till in doubt is told is its new epoch: before that nothing was acknowledged, so nothing was sent.
fn assert_new_epoch_first(heard: &[String], epoch: u32) {
    let first = heard.iter().find(|said| !said.starts_with("ended Renew"));
    assert_eq!(first, Some(&format!("renumbered {epoch}")), "{heard:?}");
}

#[test]
fn a_till_restored_from_yesterdays_image_loses_and_doubles_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let engine = Engine::start(&data)?;
    let mut books = Ledger::default();
    let till = Till::new(&folder.path().join("till"), 1);
    run(till.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 100..105).await
    }))?;
    let image = till.image(&folder.path().join("image"))?;
    run(till.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 200..204).await
    }))?;

    // Other sales under the numbers that the engine has for those of 200 to 203, and more than those.
    let heard = run(image.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 300..306).await
    }))?;
    assert_new_epoch_first(&heard, 2);
    // It goes on as if nothing had been.
    let heard = run(image.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 400..402).await
    }))?;
    assert_eq!(
        heard.first().map(String::as_str),
        Some("live 2"),
        "{heard:?}"
    );

    let terminals = prove(engine, &data, &books)?;
    assert_eq!(epochs(&terminals, 1), [(1, 10), (2, 9)]);
    Ok(())
}

/// The image was made while sales waited; the engine has got them since. They are the till's own, and are not sent again.
#[test]
fn sales_that_waited_in_the_image_are_recognised_at_the_engine() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let engine = Engine::start(&data)?;
    let mut books = Ledger::default();
    let till = Till::new(&folder.path().join("till"), 1);
    run(till.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 100..103).await
    }))?;
    run(till.day_without_a_line(&engine, async |terminal| {
        workload(&terminal, &mut books, 200..205).await
    }))?;
    let image = till.image(&folder.path().join("image"))?;
    let same_again = till.image(&folder.path().join("same"))?;
    run(till.day(&engine, async |_| Ok(())))?;
    // Nothing else has happened: the numbers are still the till's own.
    let heard = run(same_again.day(&engine, async |_| Ok(())))?;
    assert_eq!(
        heard.first().map(String::as_str),
        Some("live 1"),
        "{heard:?}"
    );
    run(till.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 300..302).await
    }))?;

    let heard = run(image.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 400..403).await
    }))?;
    assert_new_epoch_first(&heard, 2);
    let terminals = prove(engine, &data, &books)?;
    assert_eq!(epochs(&terminals, 1), [(1, 11), (2, 4)]);
    Ok(())
}

#[test]
fn a_till_that_lost_its_storage_begins_a_new_epoch() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let engine = Engine::start(&data)?;
    let mut books = Ledger::default();
    let storage = folder.path().join("till");
    let till = Till::new(&storage, 1);
    run(till.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 100..107).await
    }))?;
    fs::remove_dir_all(&storage)?;
    let heard = run(till.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 200..203).await
    }))?;
    assert_new_epoch_first(&heard, 2);
    let terminals = prove(engine, &data, &books)?;
    assert_eq!(epochs(&terminals, 1), [(1, 8), (2, 4)]);
    Ok(())
}

#[test]
fn two_copies_of_one_till_that_both_sell_lose_and_double_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let engine = Engine::start(&data)?;
    let mut books = Ledger::default();
    let one = Till::new(&folder.path().join("one"), 1);
    run(one.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 100..104).await
    }))?;
    // Both copies hold the same three sales that were never sent.
    run(one.day_without_a_line(&engine, async |terminal| {
        workload(&terminal, &mut books, 110..113).await
    }))?;
    let two = one.image(&folder.path().join("two"))?;

    // One after the other...
    for (round, till) in [(2, &one), (3, &two), (4, &one), (5, &two)] {
        let sold = round * 100..round * 100 + round;
        run(till.day(&engine, async |terminal| {
            workload(&terminal, &mut books, sold).await
        }))?;
    }
    // ... and at once: each handshake ends the other's session.
    let at_once = |first: i64| {
        async move |terminal: Terminal| {
            for cents in first..first + 40 {
                sell_unseen(&terminal, NOON_US + cents * SECOND_US, cents).await?;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        }
    };
    run(async {
        let both = tokio::join!(
            one.day(&engine, at_once(1_000)),
            two.day(&engine, at_once(2_000))
        );
        both.0.and(both.1)
    })?;
    for first in [1_000, 2_000] {
        for cents in first..first + 40 {
            books.sold(NOON_US + cents * SECOND_US, cents);
        }
    }
    prove(engine, &data, &books)?;
    Ok(())
}

#[test]
fn a_till_that_was_away_for_ten_days_files_everything_under_its_own_time() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let engine = Engine::start(&data)?;
    let mut books = Ledger::default();
    let till = Till::new(&folder.path().join("till"), 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let this_hour = i64::try_from(now)?.div_euclid(HOUR_US) * HOUR_US;
    run(till.day_without_a_line(&engine, async |terminal| {
        for hour in 0..240 {
            for sale in 0..20 {
                let at = this_hour - (240 - hour) * HOUR_US + sale * 170 * SECOND_US;
                sell(&terminal, &mut books, at, 100 + hour + sale).await?;
            }
        }
        Ok(())
    }))?;
    run(till.day(&engine, async |terminal| {
        sell(&terminal, &mut books, this_hour, 999).await
    }))?;
    let terminals = prove(engine, &data, &books)?;
    assert_eq!(epochs(&terminals, 1), [(1, 4_802)]);
    Ok(())
}

/// A delivery of tea as a frame of its own, of a kind that no builder makes.
fn delivery(pieces: i64, kind_of_move: u8) -> Result<Bytes> {
    let mut builder = StockBuilder::new();
    let delivered = Move {
        at: NOON_US,
        sku: SkuId::of_code(TEA).get(),
        quantity: pieces * 100_000,
        kind: kind::RECEIVED,
        unit: unit::EACH,
        ..Move::default()
    };
    builder.push(&delivered, &[], &[])?;
    of_kind(&builder.finish(Seq::FIRST)?, kind_of_move)
}

/// The same movement with another kind, which follows at, sku, quantity and offset.
fn of_kind(frame: &[u8], kind_of_move: u8) -> Result<Bytes> {
    let mut payload = frame.get(32..).context("shorter than a header")?.to_vec();
    *payload.get_mut(26).context("shorter than a movement")? = kind_of_move;
    Ok(encode_frame(4, 1, 1, 1, &payload))
}

#[test]
fn a_refused_event_is_kept_for_correction_and_the_others_go_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let engine = Engine::start(&data)?;
    let mut books = Ledger::default();
    let till = Till::new(&folder.path().join("till"), 1);
    run(till.day(&engine, async |terminal| {
        workload(&terminal, &mut books, 50..51).await
    }))?;
    run(till.day_without_a_line(&engine, async |terminal| {
        workload(&terminal, &mut books, 100..103).await?;
        terminal.send_frame(delivery(7, 99)?).await?;
        workload(&terminal, &mut books, 200..203).await
    }))?;
    // To these copies of the till, the answer to what the till sends now is an answer that was lost.
    let deaf = till.image(&folder.path().join("deaf"))?;
    let late = till.image(&folder.path().join("late"))?;
    run(till.day(&engine, async |_| Ok(())))?;
    let letters = till.dead_letters()?;
    ensure!(letters.len() == 1, "{letters:?}");
    let refused = letters.first().context("no letter")?;
    assert_eq!((refused.epoch, refused.seq), (1, 5));
    assert_eq!(refused.cause, Cause::Refused(Reason::UnknownKind));

    let heard = run(deaf.day(&engine, async |_| Ok(())))?;
    assert_eq!(
        heard.first().map(String::as_str),
        Some("live 1"),
        "{heard:?}"
    );
    assert_eq!(deaf.dead_letters()?, letters);

    // Put right, it is sent under a new number.
    let mut right = Vec::new();
    till.dead_letter_file()?.resend(|letter| {
        right.push(of_kind(&letter.frame, kind::RECEIVED)?);
        Ok::<(), anyhow::Error>(())
    })?;
    run(till.day(&engine, async |terminal| {
        for frame in right {
            terminal.send_frame(frame).await?;
            books.moved(7);
        }
        Ok(())
    }))?;
    assert!(till.dead_letters()?.is_empty());
    let heard = run(late.day(&engine, async |_| Ok(())))?;
    ensure!(
        heard.contains(&"live 2".to_owned()) && !heard.contains(&"live 1".to_owned()),
        "{heard:?}"
    );
    assert_eq!(late.dead_letters()?, letters);
    let terminals = prove(engine, &data, &books)?;
    assert_eq!(epochs(&terminals, 1), [(1, 10)]);
    let (applied, refused) = (&terminals[0]["applied"], &terminals[0]["refused"]);
    assert_eq!((applied, refused), (&json!(8), &json!(1)));
    Ok(())
}

#[test]
fn one_terminal_that_misbehaves_does_not_harm_the_others_of_its_connection() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let engine = Engine::start(&data)?;
    let mut books = Ledger::default();
    let tills: Vec<Till> = (1..=4)
        .map(|number| Till::new(&folder.path().join(format!("till-{number}")), number))
        .collect();
    run(async {
        let link = link_to(&engine)?;
        let mut open = Vec::new();
        for till in &tills {
            open.push(till.open(&link)?);
        }
        let good = delivery(1, kind::RECEIVED)?;
        let broken = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] ^= byte;
            Bytes::from(bytes)
        };
        // Magic, family, version, flags, count, checksum, payload; then a frame without an end.
        let bad = [(0, 1), (4, 64), (5, 9), (6, 1), (12, 2), (28, 1), (40, 1)]
            .map(|(at, byte)| broken(at, byte));
        for (round, bytes) in (0_i64..).zip(bad) {
            let mut raw = link.raw().await?;
            raw.write(hello(5)?.encode()).await?;
            raw.read().await?.context("no Welcome")?;
            raw.write(bytes).await?;
            raw.finish();
            let answer = raw
                .read()
                .await?
                .context("the stream ended without a word")?;
            let answer = Message::decode(&answer)?;
            ensure!(matches!(answer, Message::Bye(_)), "{answer:?}");
            for (number, (terminal, _)) in (0_i64..).zip(&open) {
                let first = 1_000 * (number + 1) + 100 * round;
                workload(terminal, &mut books, first..first + 5).await?;
            }
        }
        // One that says half a frame and falls silent while the others go on.
        let mut silent = link.raw().await?;
        silent.write(hello(6)?.encode()).await?;
        silent.write(good.slice(..50)).await?;
        for (terminal, heard) in &open {
            terminal.flush().await?;
            let bad = |said: &String| said.starts_with("lost") || said.starts_with("ended");
            ensure!(!heard.all().iter().any(bad), "{:?}", heard.all());
            terminal.close().await;
        }
        silent.reset();
        link.close().await;
        Ok(())
    })?;
    let terminals = prove(engine, &data, &books)?;
    for number in 1..=4 {
        assert_eq!(epochs(&terminals, number), [(1, 36)]);
    }
    assert_eq!(terminals.as_array().map(Vec::len), Some(4));
    Ok(())
}

fn hello(till: u32) -> Result<Hello> {
    Ok(Hello {
        versions: vec![(1, 1), (4, 1)],
        terminal: id(till)?,
        epoch: Epoch::new(0).ok(),
        clock: DeviceTime::from_us(NOON_US),
        currency: None,
        zone: String::new(),
    })
}
