//! The door itself: handshakes that are begun and not ended, and connections that come and go.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use quinn::Endpoint;
use till_client::SERVER_NAME;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::crowd::{Foe, Signal, Tally, lost};

/// What strangers were answered.
pub(crate) const ANSWERED: &str = "tenths of a byte answered for each byte";
/// Ports from which half-open handshakes come.
const PORTS: usize = 200;
/// Largest packet.
const PACKET: usize = 2_048;

/// First packets of handshakes: those that clients send to a port where nobody answers.
pub(crate) async fn initials(endpoints: &[Endpoint], count: u32) -> Result<Vec<Vec<u8>>> {
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = nobody.local_addr()?;
    let endpoint = endpoints.first().context("no endpoint")?;
    let mut initials = Vec::new();
    let mut packet = vec![0; PACKET];
    for _ in 0..count {
        let connecting = endpoint.connect(addr, SERVER_NAME)?;
        let read = timeout(Duration::from_secs(2), nobody.recv(&mut packet)).await;
        let length = read.context("a client says nothing")??;
        initials.push(packet.get(..length).unwrap_or_default().to_vec());
        drop(connecting);
        // What else this client said is of no use without its first packet.
        while nobody.try_recv(&mut packet).is_ok() {}
    }
    Ok(initials)
}

/// Sends them from many ports, over and over, and never goes on with any.
pub(crate) async fn half_open(
    addr: SocketAddr,
    initials: Vec<Vec<u8>>,
    tally: &Tally,
    signal: &Signal,
) {
    signal.begun().await;
    let mut sockets = Vec::new();
    for _ in 0..PORTS {
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await {
            sockets.push(socket);
        }
    }
    let (mut sent, mut came) = (0, 0);
    let mut packet = vec![0; PACKET];
    while !signal.is_over() {
        for (initial, socket) in initials.iter().zip(sockets.iter().cycle()) {
            if signal.is_over() {
                break;
            }
            if socket.send_to(initial, addr).await.is_ok() {
                tally.tried(initial.len());
                sent += initial.len();
            }
            while let Ok((length, _)) = socket.try_recv_from(&mut packet) {
                came += length;
                tally.said(kind(&packet));
            }
        }
    }
    let tenths = came * 10 / sent.max(1);
    tally.said_often(ANSWERED, u64::try_from(tenths).unwrap_or(u64::MAX));
}

/// What sort of packet an answer is, by its first byte (RFC 9000, 17.2).
fn kind(packet: &[u8]) -> &'static str {
    match packet.first() {
        Some(first) if first & 0x80 == 0 => "short packet",
        Some(first) => match first >> 4 & 3 {
            0 => "initial packet",
            2 => "handshake packet",
            3 => "retry packet",
            _ => "other packet",
        },
        None => "empty packet",
    }
}

/// Connections that are opened and closed at once.
pub(crate) async fn churn(foe: Foe) {
    foe.signal.begun().await;
    while !foe.is_over() {
        foe.tally.tried(0);
        let Ok(connecting) = foe.endpoint.connect(foe.addr, SERVER_NAME) else {
            foe.tally.said("not connected");
            continue;
        };
        match timeout(Duration::from_secs(5), connecting).await {
            Ok(Ok(connection)) => {
                foe.tally.said("connected");
                connection.close(0_u32.into(), b"");
            }
            Ok(Err(error)) => foe.tally.said(lost(&error)),
            Err(_) => foe.tally.said("no answer in 5 s"),
        }
    }
}
