//! Frames for tests.

use bytes::Bytes;
use rkyv::rancor;
use till_protocol::codec::encode_frame;
use till_protocol::family::{Reference, Text, WHOLE_EVENT, stock, text};

/// A frame of `count` movements at `first`; `salt` makes them differ from those of other frames.
pub(crate) fn frame_of_moves(first: u64, count: u32, salt: u64) -> Bytes {
    let mut batch = stock::v1::Batch::default();
    for index in 0..u16::try_from(count).unwrap() {
        batch.moves.push(stock::v1::Move {
            at: i64::try_from(salt).unwrap() * 1_000 + i64::from(index),
            sku: 7,
            unit: 1,
            quantity: 100_000,
            kind: stock::v1::kind::RECEIVED,
            ..stock::v1::Move::default()
        });
        batch.refs.push(Reference {
            event: index,
            kind: 1,
            reserved: 0,
            value: u128::from(salt * 1_000 + u64::from(index)).to_le_bytes(),
        });
        let note = format!("note {salt}/{index}");
        batch.texts.push(Text {
            event: index,
            item: WHOLE_EVENT,
            kind: text::NOTE,
            len: u8::try_from(note.len()).unwrap(),
        });
        batch.text.extend_from_slice(note.as_bytes());
    }
    let payload = rkyv::to_bytes::<rancor::Error>(&batch).unwrap();
    encode_frame(4, 1, count, first, &payload)
}
