//! The end of an engine, as devices hear of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;

use super::*;
use crate::device::connect_at;

/// A line between devices and the engine on which, at times, nothing that the engine sends arrives.
struct Line {
    addr: SocketAddr,
    loses: Arc<AtomicBool>,
}

impl Line {
    /// A line of one device.
    async fn to(engine: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        far.connect(engine).await.unwrap();
        let addr = near.local_addr().unwrap();
        let loses = Arc::new(AtomicBool::new(false));
        let is_lost = Arc::clone(&loses);
        drop(tokio::spawn(async move {
            let (mut there, mut back) = ([0; 2_048], [0; 2_048]);
            let mut device = None;
            loop {
                tokio::select! {
                    Ok((length, from)) = near.recv_from(&mut there) => {
                        device = Some(from);
                        let _gone = far.send(&there[..length]).await;
                    }
                    Ok(length) = far.recv(&mut back) => {
                        if let Some(device) = device.filter(|_| !is_lost.load(Ordering::SeqCst)) {
                            let _gone = near.send_to(&back[..length], device).await;
                        }
                    }
                    else => return,
                }
            }
        }));
        Self { addr, loses }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_word_of_a_drain_arrives_over_a_line_that_loses_it_at_first() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let line = Line::to(engine.quic_addr()).await;
    let connection = connect_at(&engine, line.addr).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 5)).await;
    device.acked(5).await;
    line.loses.store(true, Ordering::SeqCst);
    let draining = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.drain().await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    line.loses.store(false, Ordering::SeqCst);
    assert_eq!(device.bye().await.reason, Reason::Draining);
    draining.await.unwrap().unwrap();
}
