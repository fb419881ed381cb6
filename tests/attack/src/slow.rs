//! Slow devices: what is begun and not ended, on as many streams as there may be.

use std::time::Duration;

use anyhow::Result;
use quinn::Connection;
use till_protocol::limits::FRAME_BYTES_MAX;
use till_tests::hostile::{Line, Said, header, hello, terminal};

use crate::crowd::Foe;
use crate::floods::{STORE, bye};

/// Streams of a connection: as many as the engine allows.
const STREAMS: u32 = 64;
/// Bytes of a frame that needs no room of the common budget.
const SMALL: u32 = 60_000;

/// Holds streams open until the attack is over.
pub(crate) async fn foe(foe: Foe, name: String) {
    foe.besiege(STREAMS, move |foe, connection, stream| {
        let name = name.clone();
        async move { one(&foe, &connection, &name, stream).await }
    })
    .await;
}

/// One stream, to its end. An error: the connection is of no use any more.
async fn one(foe: &Foe, connection: &Connection, name: &str, stream: u32) -> Result<()> {
    let terminal = terminal(STORE + foe.number, 1 + stream)?;
    let is_greeted = name == "promises" || name == "small-promises" || stream % 2 == 1;
    let mut line = if is_greeted && name != "silent-streams" {
        Line::greeted(connection, terminal).await?
    } else {
        Line::open(connection).await?
    };
    let begun = match name {
        "promises" => promised(FRAME_BYTES_MAX, line.next_seq),
        "small-promises" => promised(SMALL, line.next_seq),
        // A header, and its payload byte by byte.
        "slowloris" if is_greeted => header(1_000, 1, line.next_seq, &[]).to_vec(),
        // A Hello, byte by byte.
        _ => hello(terminal).get(..1).unwrap_or_default().to_vec(),
    };
    foe.tally.tried(begun.len());
    line.pour(&begun).await?;
    let said = if name == "slowloris" {
        dripping(foe, &mut line).await?
    } else {
        line.until_the_end().await?
    };
    for said in said {
        foe.tally.said(match said {
            Said::Bye(reason) => bye(reason),
            Said::Ack | Said::Nack => "other".to_owned(),
        });
    }
    Ok(())
}

// A frame but for its last byte.
fn promised(length: u32, first_seq: u64) -> Vec<u8> {
    let mut bytes = header(length, 1, first_seq, &[]).to_vec();
    let payload = usize::try_from(length).unwrap_or(0);
    bytes.resize(bytes.len() + payload - 1, 0x5a);
    bytes
}

/// A byte a second, for as long as the engine takes it.
async fn dripping(foe: &Foe, line: &mut Line) -> Result<Vec<Said>> {
    while !foe.is_over() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if line.send.write_all(b"L").await.is_err() {
            break;
        }
    }
    line.until_the_end().await
}
