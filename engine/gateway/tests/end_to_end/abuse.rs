//! Devices that do much to no effect: they wait, nobody else does, and what they send counts in the end.

use std::net::UdpSocket;

use till_protocol::codec::encode_frame;
use till_protocol::header::FrameHeader;

use super::*;

/// A frame that cannot be read and stands for as many events as one may have.
fn unreadable(number: u64) -> bytes::Bytes {
    encode_frame(4, 1, 1_024, 1 + number * 1_024, &[0x5a])
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_much_to_no_effect_waits_and_nobody_else_does() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let (rude, polite) = (connect(&engine).await, connect(&engine).await);
    let (mut rude, _) = Device::open(&rude, 8, 1, 0).await;
    for number in 0..18 {
        rude.send(unreadable(number)).await;
    }
    until("it waits", || engine.metrics().made_to_wait > 0).await;
    let (mut polite, _) = Device::open(&polite, 7, 1, 0).await;
    polite.send(teas(1, 50)).await;
    polite.acked(50).await;
    // Nothing of it is dropped.
    let refused = rude.acked(18 * 1_024).await;
    assert_eq!(refused.len(), 18 * 1_024);
    engine.drain().await.unwrap();
}

/// The edge of it: after a line broke, everything without an ack comes again, and all of it may be known.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_sends_again_over_a_new_line_is_not_to_no_effect() {
    const FRAMES: u64 = 600;
    let dir = folder();
    let engine = engine(dir.path()).await;
    let line = connect(&engine).await;
    let (mut device, _) = Device::open(&line, 7, 1, 0).await;
    for number in 1..=FRAMES {
        device.send(teas(number, 1)).await;
    }
    device.acked(FRAMES).await;
    line.close(0_u32.into(), b"the line breaks");
    for round in 1..=2 {
        let line = connect(&engine).await;
        let (mut device, _) = Device::open(&line, 7, 1, 1).await;
        for number in 1..=FRAMES {
            device.send(teas(number, 1)).await;
        }
        device.acked(FRAMES).await;
        until("all of them are known", || {
            engine.metrics().events.duplicate == round * FRAMES
        })
        .await;
        assert_eq!(engine.metrics().made_to_wait, 0);
        if round == 2 {
            // The same again and again on the same line is.
            while engine.metrics().made_to_wait == 0 {
                device.send(teas(1, 1)).await;
            }
        }
    }
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_streams_end_to_no_effect_waits_before_the_next() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let line = connect(&engine).await;
    while engine.metrics().made_to_wait == 0 {
        let mut device = Device::raw(&line).await;
        device.send(bytes::Bytes::from_static(&[0xa5; 64])).await;
        assert_eq!(device.bye().await.reason, Reason::BadMagic);
    }
    // And then is served as before.
    let (mut device, _) = Device::open(&line, 7, 1, 0).await;
    device.send(teas(1, 1)).await;
    device.acked(1).await;
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_has_to_wait_waits_on_over_another_line_and_its_neighbours_do_not() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let line = connect(&engine).await;
    let (mut device, _) = Device::open(&line, 7, 1, 0).await;
    // Most of a large frame, and then no more.
    let mut header = FrameHeader {
        family: 4,
        version: 1,
        length: 1 << 20,
        count: 1,
        first_seq: 1,
        crc: 0,
    };
    header.crc = header.crc_of(&[]);
    device.send(header.encode().to_vec().into()).await;
    device.send(vec![0x5a; 900_000].into()).await;
    device.send.finish().unwrap();
    assert_eq!(device.bye().await.reason, Reason::Truncated);
    until("its line waits", || engine.metrics().made_to_wait > 0).await;
    let again = connect(&engine).await;
    let (mut neighbour, _) = Device::open(&connect(&engine).await, 7, 2, 0).await;
    let (_device, _) = Device::open(&again, 7, 1, 0).await;
    until("the next one too", || engine.metrics().made_to_wait > 1).await;
    neighbour.send(teas(1, 1)).await;
    neighbour.acked(1).await;
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_line_few_streams_may_be_silent() {
    let dir = folder();
    let mut config = till_runtime::Config::dev(dir.path());
    config.network.hello_timeout = Duration::from_secs(60);
    let engine = std::sync::Arc::new(till_gateway::start(config).await.unwrap());
    let line = connect(&engine).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut device = Device::raw(&line).await;
        device.send(bytes::Bytes::from_static(b"T")).await;
        silent.push(device);
    }
    until("some are taken in", || engine.metrics().streams == 16).await;
    // Those behind them have come by now.
    let (mut other, _) = Device::open(&connect(&engine).await, 7, 1, 0).await;
    other.send(teas(1, 1)).await;
    other.acked(1).await;
    assert_eq!(engine.metrics().streams, 17);
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_first_packets_is_dropped_unread_and_devices_come_and_go() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let line = connect(&engine).await;
    let (mut device, _) = Device::open(&line, 7, 1, 0).await;
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut packet = [0_u8; 1_200];
    packet[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 20]);
    // As many as it takes: the engine may be slower than this test, and the system drops what nobody fetches.
    let mut numbers = 0..u32::MAX;
    until("some are dropped", || {
        for number in numbers.by_ref().take(4_000) {
            packet[6..10].copy_from_slice(&number.to_be_bytes());
            flood.send_to(&packet, engine.quic_addr()).unwrap();
        }
        engine.metrics().initials_dropped > 0
    })
    .await;
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    let (mut late, _) = Device::open(&connect(&engine).await, 7, 2, 0).await;
    late.send(teas(1, 1)).await;
    late.acked(1).await;
    engine.drain().await.unwrap();
}
