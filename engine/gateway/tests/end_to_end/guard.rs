//! Who is let in, how long it may take, and counts that arrive late.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType,
};
use till_protocol::builder::StockBuilder;
use till_protocol::code::Reason;
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::reply::Message;
use till_runtime::Config;

use crate::device::{Device, connect, connect_as, hello, seq, tea, teas, terminal};
use crate::{engine, folder, level};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_authorised_for_its_own_tills_alone() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let pki = dir.path().join("pki");
    let ca = std::fs::read_to_string(pki.join("ca.pem")).unwrap();
    let ca_key = std::fs::read_to_string(pki.join("ca-key.pem")).unwrap();
    let mut ca_params = CertificateParams::default();
    let name = "tillstream authority";
    ca_params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let issuer = Issuer::new(ca_params, KeyPair::from_pem(&ca_key).unwrap());
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("till://7/1".try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let file = dir.path().join("till.pem");
    std::fs::write(&file, ca + &certificate + &key.serialize_pem()).unwrap();

    let connection = connect_as(&engine, &file).await;
    let (mut own, _) = Device::open(&connection, 7, 1, 0).await;
    let mut foreign = Device::raw(&connection).await;
    foreign.send(hello(terminal(7, 2), 0).encode()).await;
    let bye = foreign.bye().await;
    assert_eq!(bye.reason, Reason::ForeignTerminal);
    own.send(teas(1, 3)).await;
    own.acked(3).await;
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_or_hello_that_never_ends_is_not_waited_for() {
    let dir = folder();
    let mut config = Config::dev(dir.path());
    config.network.frame_timeout = Duration::from_secs(4);
    config.network.hello_timeout = Duration::from_secs(4);
    let engine = Arc::new(till_gateway::start(config).await.unwrap());
    let connection = connect(&engine).await;
    // A session between two frames is not slow: it waits as long as it likes.
    let (mut idle, _) = Device::open(&connection, 7, 3, 0).await;
    let (mut slow, _) = Device::open(&connection, 7, 1, 0).await;
    slow.send(teas(1, 50).slice(..100)).await;
    let mut silent = Device::raw(&connection).await;
    silent
        .send(hello(terminal(7, 2), 0).encode().slice(..10))
        .await;
    assert_eq!(slow.bye().await.reason, Reason::Idle);
    assert_eq!(silent.bye().await.reason, Reason::Idle);
    idle.send(teas(1, 1)).await;
    idle.acked(1).await;
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_arrives_late_keeps_the_movements_after_it() {
    let dir = folder();
    let mut config = Config::dev(dir.path());
    // Nothing is flushed by itself: the movements are found in the journal.
    config.flush_interval = Duration::from_secs(60);
    let engine = Arc::new(till_gateway::start(config).await.unwrap());
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    // Movements at seconds 1 to 100, then a count of 1,000 pieces at second 50, in one go.
    device.send(teas(1, 100)).await;
    let count = Move {
        kind: kind::COUNTED,
        ..tea(50, 1_000)
    };
    let mut builder = StockBuilder::new();
    builder.push(&count, &[], &[]).unwrap();
    device.send(builder.finish(seq(101)).unwrap()).await;
    device.acked(101).await;
    // 51 to 100 came after it; that of its own second has the smaller sequence number.
    assert_eq!(level(&engine, 7).await, "1050");
    engine.kill().await.unwrap();
    drop(engine);
    let again = crate::engine(dir.path()).await;
    assert_eq!(level(&again, 7).await, "1050");
    again.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_segments_change_no_level_and_know_their_events() {
    let dir = folder();
    let mut config = Config::dev(dir.path());
    config.segment_bytes = 1 << 20;
    let engine = Arc::new(till_gateway::start(config).await.unwrap());
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    for frame in 0..80 {
        device.send(teas(frame * 1_000 + 1, 1_000)).await;
    }
    device.acked(80_000).await;
    let asked = Arc::clone(&engine);
    let kept = tokio::task::spawn_blocking(move || asked.retain_before(i64::MAX).unwrap());
    assert!(kept.await.unwrap().is_some_and(|start| start > 1 << 20));
    assert_eq!(level(&engine, 7).await, "80000");
    // The first again: it is known. The ack speaks of what this stream has sent.
    let (mut again, welcome) = Device::open(&connection, 7, 1, 1).await;
    assert_eq!(welcome.next_seq, seq(80_001));
    again.send(teas(1, 1_000)).await;
    match again.next().await {
        Some(Message::Ack(ack)) => assert_eq!(ack.committed, Some(seq(1_000))),
        other => panic!("{other:?}"),
    }
    assert_eq!(level(&engine, 7).await, "80000");
    engine.drain().await.unwrap();
    drop((engine, device, again));
    let later = crate::engine(dir.path()).await;
    assert_eq!(level(&later, 7).await, "80000");
    later.drain().await.unwrap();
}
