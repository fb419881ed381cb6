//! Handshakes that are begun and not ended.

use std::net::UdpSocket;

use quinn::Endpoint;
use till_client::{Identity, SERVER_NAME, Tuning};

use super::*;

/// First packets of handshakes: those that clients send to a port where nobody answers.
fn first_packets(engine: &Handle, count: usize) -> Vec<Vec<u8>> {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    nobody
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let identity = Identity::read(engine.identity().unwrap()).unwrap();
    let config = identity.client_config(&Tuning::default()).unwrap();
    let packets = (0..count).map(|_| {
        // One for each: what a client says later is none of the next one.
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = nobody.local_addr().unwrap();
        let connecting = endpoint
            .connect_with(config.clone(), addr, SERVER_NAME)
            .unwrap();
        let own = endpoint.local_addr().unwrap();
        let mut packet = vec![0; 2_048];
        let length = loop {
            let (length, from) = nobody.recv_from(&mut packet).unwrap();
            if from == own {
                break length;
            }
        };
        drop(connecting);
        packet.truncate(length);
        packet
    });
    packets.collect()
}

/// Whoever only begins handshakes need not have the address that it sends from. Half of the turns are not for it, and those
/// who show that their address is their own come in by them.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_handshakes_are_kept_for_those_who_have_proved_their_address() {
    let dir = folder();
    let mut config = till_runtime::Config::dev(dir.path());
    config.network.handshakes_max = 4;
    // What is begun stays so.
    config.network.hello_timeout = Duration::from_secs(600);
    let engine = std::sync::Arc::new(till_gateway::start(config).await.unwrap());
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    for packet in first_packets(&engine, 8) {
        stranger.send_to(&packet, engine.quic_addr()).unwrap();
    }
    let (mut asked, mut packet) = (0, [0; 2_048]);
    until("the others are asked for a proof", || {
        while let Ok(length) = stranger.recv(&mut packet) {
            // RFC 9000, 17.2: a long header, type 3.
            asked += u32::from(length > 0 && packet[0] & 0xf0 == 0xf0);
        }
        asked == 6
    })
    .await;
    assert_eq!(engine.metrics().connections, 2);
    let (mut device, _) = Device::open(&connect(&engine).await, 7, 1, 0).await;
    device.send(teas(1, 1)).await;
    device.acked(1).await;
    engine.drain().await.unwrap();
}
