//! The way of each device's datagrams, there and back.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::sleep;

use super::Shared;

/// The largest datagram.
const DATAGRAM_MAX: usize = 65_536;
/// Datagrams of a device that wait for their way; more get lost, as in any router.
const WAITING_MAX: usize = 4_096;

/// Takes in what devices send, and gives each a way of its own.
pub(super) async fn accept(front: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut ways: HashMap<SocketAddr, Sender<Vec<u8>>> = HashMap::new();
    let mut room = vec![0; DATAGRAM_MAX];
    loop {
        // An error tells of an earlier datagram that nobody took; others go on.
        let Ok((length, device)) = front.recv_from(&mut room).await else {
            continue;
        };
        let way = ways.entry(device).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(WAITING_MAX);
            let back = (Arc::clone(&front), device);
            drop(tokio::spawn(carry(receiver, back, Arc::clone(&shared))));
            sender
        });
        let datagram = room.get(..length).unwrap_or_default().to_vec();
        if way.try_send(datagram).is_err() {
            shared.count(|tally| tally.lost += 1);
        }
    }
}

/// One device's way to the engine and back.
async fn carry(
    mut there: Receiver<Vec<u8>>,
    (front, device): (Arc<UdpSocket>, SocketAddr),
    shared: Arc<Shared>,
) {
    let mut chance = SmallRng::seed_from_u64(shared.seed ^ u64::from(device.port()));
    let mut turn = shared.turn.subscribe();
    let mut room = vec![0; DATAGRAM_MAX];
    let Ok(mut back) = socket(&shared).await else {
        return;
    };
    loop {
        tokio::select! {
            datagram = there.recv() => {
                let Some(datagram) = datagram else { return };
                for wait in fate(&shared, &mut chance) {
                    let (way, datagram) = (Arc::clone(&back), datagram.clone());
                    later(wait, async move { way.send(&datagram).await }).await;
                }
            }
            got = back.recv(&mut room) => {
                // An engine that is dead refuses datagrams; the next one may not.
                let Ok(length) = got else { continue };
                for wait in fate(&shared, &mut chance) {
                    let (way, datagram) = (Arc::clone(&front), room.get(..length).unwrap_or_default().to_vec());
                    later(wait, async move { way.send_to(&datagram, device).await }).await;
                }
            }
            changed = turn.changed() => {
                if changed.is_err() {
                    return;
                }
                if let Ok(other) = socket(&shared).await {
                    back = other;
                    shared.count(|tally| tally.rebound += 1);
                }
            }
        }
    }
}

/// A new address towards the engine.
async fn socket(shared: &Shared) -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(shared.engine).await?;
    Ok(Arc::new(socket))
}

/// When a datagram arrives: once, never, or twice.
fn fate(shared: &Shared, chance: &mut SmallRng) -> Vec<Duration> {
    let faults = *shared.faults.lock();
    let is_blocked = *shared.is_blocked.lock();
    let mut meets = |permille: u32| chance.random_range(0..1_000_u32) < permille;
    let (lost, doubled, late) = (
        meets(faults.lost),
        meets(faults.doubled),
        meets(faults.late),
    );
    let longest = u64::try_from(faults.late_max.as_micros()).unwrap_or(u64::MAX);
    let mut wait = |is_late: bool| {
        let us = if is_late {
            chance.random_range(0..=longest)
        } else {
            0
        };
        Duration::from_micros(us)
    };
    let mut arrivals = vec![wait(late)];
    if doubled {
        arrivals.push(wait(true));
    }
    if lost || is_blocked {
        arrivals.clear();
    }
    shared.count(|tally| {
        tally.datagrams += 1;
        tally.vanished += u64::from(is_blocked);
        tally.lost += u64::from(lost && !is_blocked);
        tally.doubled += u64::from(arrivals.len() > 1);
        tally.late += u64::from(late && !arrivals.is_empty());
    });
    arrivals
}

/// Sends now, or later beside everything else. That nobody takes it is no news on a bad way.
async fn later(wait: Duration, send: impl Future<Output = io::Result<usize>> + Send + 'static) {
    if wait.is_zero() {
        send.await.ok();
    } else {
        drop(tokio::spawn(async move {
            sleep(wait).await;
            send.await.ok();
        }));
    }
}
