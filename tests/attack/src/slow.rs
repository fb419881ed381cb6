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
/// What a promised frame is made of. All streams send the same: what hostile machines have in memory must cost the engine's nothing.
static FILLING: [u8; 16 << 10] = [0x5a; 16 << 10];

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
    let is_established = name == "promises" || name == "small-promises" || stream % 2 == 1;
    let mut line = if is_established && name != "silent-streams" {
        Line::accepted(connection, terminal).await?
    } else {
        Line::open(connection).await?
    };
    let first = line.next_seq;
    match name {
        "promises" => promise(foe, &mut line, FRAME_BYTES_MAX).await?,
        "small-promises" => promise(foe, &mut line, SMALL).await?,
        // A header, and its payload byte by byte.
        "slowloris" if is_established => {
            begin(foe, &mut line, &header(1_000, 1, first, &[])).await?;
        }
        // A Hello, byte by byte.
        _ => begin(foe, &mut line, hello(terminal).get(..1).unwrap_or_default()).await?,
    }
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

async fn begin(foe: &Foe, line: &mut Line, bytes: &[u8]) -> Result<()> {
    foe.tally.tried(bytes.len());
    line.pour(bytes).await
}

// A frame but for its last byte.
async fn promise(foe: &Foe, line: &mut Line, length: u32) -> Result<()> {
    let head = header(length, 1, line.next_seq, &[]);
    begin(foe, line, &head).await?;
    let mut left = usize::try_from(length)?.saturating_sub(1);
    while left > 0 && !foe.is_over() {
        let piece = FILLING.get(..left).unwrap_or(&FILLING);
        line.pour(piece).await?;
        foe.tally.sent(piece.len());
        left -= piece.len();
    }
    Ok(())
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
