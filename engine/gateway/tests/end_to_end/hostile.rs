//! Bytes that no honest device sends.

use bytes::{BufMut as _, Bytes, BytesMut};
use till_protocol::code::Reason;
use till_protocol::codec::encode_frame;
use till_protocol::header::FrameHeader;
use till_protocol::reply::{Hello, Message, Nack};

use crate::device::{Device, connect, hello, seq, teas, terminal};
use crate::{busy, engine, folder, level, until};

fn header(change: impl FnOnce(&mut [u8; 32])) -> Bytes {
    let frame = teas(1, 1);
    let mut head: [u8; 32] = frame[..32].try_into().unwrap();
    change(&mut head);
    let mut bytes = BytesMut::from(&head[..]);
    bytes.put(&frame[32..]);
    bytes.freeze()
}

/// A packet to a connection that never was draws no stateless reset (RFC 9000, 10.3). The offer of versions, asked for right
/// after it on the same socket, is the first answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_packet_to_no_connection_gets_no_answer() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut stray = [0x5a_u8; 1_200];
    stray[0] = 0x40;
    let mut versions = [0_u8; 1_200];
    versions[..6].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8]);
    for packet in [&stray, &versions] {
        let sent = socket.send_to(packet, engine.quic_addr()).await.unwrap();
        assert_eq!(sent, packet.len());
    }
    let mut answer = [0_u8; 1_500];
    let (length, _) = socket.recv_from(&mut answer).await.unwrap();
    assert!(length > 5, "{length} bytes");
    assert_eq!(answer[0] & 0x80, 0x80, "a short header: a stateless reset");
    assert_eq!(answer[1..5], [0; 4], "not the offer of versions");
    engine.drain().await.unwrap();
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

/// Nobody has said who speaks: neither memory nor time is given to frames that cannot be a Hello.
#[tokio::test(flavor = "multi_thread")]
async fn before_the_hello_no_frame_is_gathered() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let large = |family: u8, version: u8, length: u32, count: u32| {
        let mut header = FrameHeader {
            family,
            version,
            length,
            count,
            first_seq: u64::from(count),
            crc: 0,
        };
        header.crc = header.crc_of(&[]);
        let mut bytes = BytesMut::from(&header.encode()[..]);
        bytes.put_bytes(0, 100);
        bytes.freeze()
    };
    for (what, bytes, reason) in [
        ("events", large(4, 1, 1 << 20, 1), Reason::BadMessage),
        ("a large Hello", large(0, 1, 257, 0), Reason::BadHello),
        ("a large Check", large(0, 2, 16_384, 0), Reason::BadHello),
    ] {
        let mut device = Device::raw(&connection).await;
        device.send(bytes).await;
        // A frame that is waited for ends the stream as idle.
        assert_eq!(device.bye().await.reason, reason, "{what}");
    }
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_the_hello_does_not_list_is_not_taken() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    for (till, versions) in [(1, vec![(1, 1)]), (2, vec![(1, 1), (4, 2), (36, 1)])] {
        let mut device = Device::raw(&connection).await;
        let hello = Hello {
            versions,
            ..hello(terminal(7, till), 0)
        };
        device.send(hello.encode()).await;
        assert!(matches!(device.next().await, Some(Message::Welcome(_))));
        device.send(teas(1, 1)).await;
        let bye = device.bye().await;
        assert_eq!(bye.reason, Reason::Unsupported);
        assert!(bye.text.contains("family 4"), "{}", bye.text);
    }
    assert_eq!(engine.metrics().events.received, 0);
    engine.drain().await.unwrap();
}

/// What each stream may begin is small; what all of them begin has a bound, and whoever holds most of it gives way.
#[tokio::test(flavor = "multi_thread")]
async fn who_begins_most_and_ends_nothing_makes_room_for_others() {
    let dir = folder();
    let mut config = till_runtime::Config::dev(dir.path());
    config.gather_bytes = 1 << 20;
    // Nobody is late.
    config.network.frame_timeout = std::time::Duration::from_secs(600);
    let engine = std::sync::Arc::new(till_gateway::start(config).await.unwrap());
    let (greedy, modest) = (connect(&engine).await, connect(&engine).await);
    // A frame of 60 KB but for its last byte, on more streams than half of the room holds.
    let mut head: [u8; 32] = teas(1, 1)[..32].try_into().unwrap();
    head[8..12].copy_from_slice(&60_000_u32.to_le_bytes());
    let begun = Bytes::from([&head[..], &[0x5a; 59_999]].concat());
    let mut streams = Vec::new();
    for till in 1..=12 {
        let (mut device, _) = Device::open(&greedy, 8, till, 0).await;
        // The engine stops reading a stream that it has told why.
        drop(device.send.write_all(&begun).await);
        streams.push(device);
    }
    let (mut honest, _) = Device::open(&modest, 7, 1, 0).await;
    let frame = teas(1, 500);
    let (one, other) = frame.split_at(frame.len() / 2);
    honest.send(Bytes::copy_from_slice(one)).await;
    honest.send(Bytes::copy_from_slice(other)).await;
    honest.acked(500).await;
    until("most of the streams have given way", || busy(&engine) >= 8).await;
    engine.drain().await.unwrap();
}

/// A stream that waits for the room of a large frame holds what has come of it: it gives way at once, not when it has waited
/// to no effect. Meanwhile others would have given way in its place, whatever little they held.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_room_for_a_large_frame_gives_way_too() {
    let dir = folder();
    let mut config = till_runtime::Config::dev(dir.path());
    // No large frame has room in it, and nobody is late.
    config.gather_bytes = 1 << 20;
    config.network.frame_timeout = std::time::Duration::from_secs(600);
    let engine = std::sync::Arc::new(till_gateway::start(config).await.unwrap());
    let (greedy, modest) = (connect(&engine).await, connect(&engine).await);
    let mut head: [u8; 32] = teas(1, 1)[..32].try_into().unwrap();
    head[8..12].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    let begun = Bytes::from([&head[..], &[0x5a; 80_000]].concat());
    let mut streams = Vec::new();
    for till in 1..=12 {
        streams.push(Device::open(&greedy, 8, till, 0).await.0);
    }
    let (mut till, _) = Device::open(&greedy, 8, 13, 0).await;
    // All of them are open before their connection has to wait for what it does to no effect. Eight fill the room and wait.
    let (waiting, more) = streams.split_at_mut(8);
    for (device, number) in waiting.iter_mut().zip(1..) {
        drop(device.send.write_all(&begun).await);
        till.send(teas(number, 1)).await;
        till.acked(number).await;
    }
    for device in more {
        drop(device.send.write_all(&begun).await);
    }
    until("they give way", || busy(&engine) > 8).await;
    let (mut honest, _) = Device::open(&modest, 7, 1, 0).await;
    let frame = teas(1, 500);
    let (one, other) = frame.split_at(frame.len() / 2);
    honest.send(Bytes::copy_from_slice(one)).await;
    honest.send(Bytes::copy_from_slice(other)).await;
    honest.acked(500).await;
    engine.drain().await.unwrap();
}
