//! Bytes that no honest device sends.

use bytes::{BufMut as _, Bytes, BytesMut};
use till_protocol::code::Reason;
use till_protocol::codec::encode_frame;
use till_protocol::reply::{Hello, Nack};

use crate::device::{Device, connect, hello, seq, teas, terminal};
use crate::{engine, folder, level};

fn header(change: impl FnOnce(&mut [u8; 32])) -> Bytes {
    let frame = teas(1, 1);
    let mut head: [u8; 32] = frame[..32].try_into().unwrap();
    change(&mut head);
    let mut bytes = BytesMut::from(&head[..]);
    bytes.put(&frame[32..]);
    bytes.freeze()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_end_their_own_stream_with_a_reason_and_no_other() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut honest, _) = Device::open(&connection, 7, 1, 0).await;
    honest.send(teas(1, 1)).await;
    honest.acked(1).await;
    let after_hello: [(&str, Bytes, Reason); 9] = [
        ("magic", header(|head| head[0] = b'X'), Reason::BadMagic),
        ("flags", header(|head| head[6] = 1), Reason::BadHeader),
        ("family", header(|head| head[4] = 77), Reason::Unsupported),
        ("version", header(|head| head[5] = 9), Reason::Unsupported),
        ("length", header(|head| head[11] = 0x7f), Reason::TooLarge),
        ("count", header(|head| head[14] = 1), Reason::TooLarge),
        ("crc", header(|head| head[28] ^= 1), Reason::BadCrc),
        (
            "a server's message",
            Nack { expected: seq(1) }.encode(),
            Reason::BadMessage,
        ),
        (
            "a second hello",
            hello(terminal(7, 9), 0).encode(),
            Reason::BadMessage,
        ),
    ];
    for (number, (what, bytes, reason)) in after_hello.into_iter().enumerate() {
        let till = 10 + u64::try_from(number).unwrap();
        let (mut device, _) = Device::open(&connection, 7, till, 0).await;
        device.send(bytes).await;
        assert_eq!(device.bye().await.reason, reason, "{what}");
    }
    let no_versions = Hello {
        versions: Vec::new(),
        ..hello(terminal(7, 2), 0)
    };
    let first: [(&str, Bytes, Reason); 4] = [
        ("no hello", teas(1, 1), Reason::BadMessage),
        ("no versions", no_versions.encode(), Reason::BadHello),
        (
            "cut hello",
            encode_frame(0, 1, 0, 0, &[1, 0, 9]),
            Reason::BadHello,
        ),
        ("noise", Bytes::from_static(&[0xa5; 64]), Reason::BadMagic),
    ];
    for (what, bytes, reason) in first {
        let mut device = Device::raw(&connection).await;
        device.send(bytes).await;
        assert_eq!(device.bye().await.reason, reason, "{what}");
    }
    // The others of the connection go on.
    honest.send(teas(2, 1)).await;
    honest.acked(2).await;
    assert_eq!(level(&engine, 7).await, "2");
    let refusals: u64 = engine
        .metrics()
        .refusals
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(refusals, 13);
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_inside_a_frame_is_told_so() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 50).slice(..600)).await;
    device.send.finish().unwrap();
    assert_eq!(device.bye().await.reason, Reason::Truncated);
    engine.drain().await.unwrap();
}
