//! The admin port: slow guests, many of them, and requests that are far too large.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::crowd::Crowd;
use crate::ground::Ground;
use crate::report::Attack;

/// Guests who begin a request and do not end it: more than the port has places.
const GUESTS: usize = 400;
/// Bytes of what is far too large.
const LARGE: usize = 4 << 20;
/// Longest time in which a probe must have its answer.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// Longest time for a connection and an answer of no importance.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Holds the port as busy as it can, and asks whether the engine lives.
pub(crate) fn attack(ground: &Ground, crowd: &Crowd) -> Result<Attack> {
    let begun = Instant::now();
    let mut attack = Attack::named("admin");
    ground.reset_peak();
    let cpu = ground.cpu_s()?;
    let host = ground.engine.admin.trim_start_matches("http://");
    let addr: SocketAddr = host.trim_end_matches('/').parse()?;
    crowd.runtime.block_on(all(addr, &mut attack))?;
    attack.engine_cpu_s = ground.cpu_s()? - cpu;
    attack.engine_peak_mib = ground.engine.kib("VmHWM:")? >> 10;
    ground.must_be_well(&mut attack);
    attack.elapsed_s = begun.elapsed().as_secs_f64();
    Ok(attack.judged())
}

async fn all(addr: SocketAddr, attack: &mut Attack) -> Result<()> {
    for (what, request) in oversize(addr) {
        let told = answer(addr, &request, ANSWER_MAX).await;
        attack.attempts += 1;
        let told = told.unwrap_or_else(|error| format!("{error:#}"));
        let is_taken = told.starts_with('2');
        attack.must(!is_taken, || format!("{what} is answered with {told}"));
        *attack.answers.entry(format!("{what}: {told}")).or_default() += 1;
    }
    let mut guests = JoinSet::new();
    for number in 0..GUESTS {
        attack.attempts += 1;
        drop(guests.spawn(slow_guest(addr, number)));
    }
    attack.connections = u32::try_from(GUESTS)?;
    // Until the places are taken.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let since = Instant::now();
    let probe = format!("GET /livez HTTP/1.1\r\nhost: {addr}\r\n\r\n");
    let told = answer(addr, probe.as_bytes(), PROBE_MAX).await;
    let waited = u64::try_from(since.elapsed().as_millis())?;
    attack
        .answers
        .insert("ms until a probe was answered".to_owned(), waited);
    attack.must(told.as_ref().is_ok_and(|told| told == "200"), || {
        format!("a probe beside {GUESTS} slow guests: {told:?} after {waited} ms")
    });
    guests.shutdown().await;
    Ok(())
}

/// Requests that nobody needs to read to their end.
fn oversize(addr: SocketAddr) -> Vec<(&'static str, Vec<u8>)> {
    let large = "a".repeat(LARGE);
    let request = |text: String| text.into_bytes();
    vec![
        (
            "a header of 4 MiB",
            request(format!(
                "GET /livez HTTP/1.1\r\nhost: {addr}\r\nx: {large}\r\n\r\n"
            )),
        ),
        (
            "200,000 headers",
            request(format!(
                "GET /livez HTTP/1.1\r\nhost: {addr}\r\n{}\r\n",
                "x: y\r\n".repeat(200_000)
            )),
        ),
        (
            "a query of 4 MiB",
            request(format!(
                "GET /api/v1/stock?sku={large} HTTP/1.1\r\nhost: {addr}\r\n\r\n"
            )),
        ),
        (
            "a body of 4 MiB",
            request(format!(
                "GET /api/v1/stock HTTP/1.1\r\nhost: {addr}\r\ncontent-length: {LARGE}\r\n\r\n{large}"
            )),
        ),
        ("noise", vec![0xa5; 64 << 10]),
    ]
}

/// The status of an answer.
async fn answer(addr: SocketAddr, request: &[u8], within: Duration) -> Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(addr).await?;
        // It may stop reading before the end.
        drop(stream.write_all(request).await);
        let mut head = [0; 12];
        match stream.read_exact(&mut head).await {
            Ok(_) => Ok(String::from_utf8_lossy(head.get(9..).unwrap_or_default()).into_owned()),
            Err(_) => Ok::<String, anyhow::Error>("closed without an answer".to_owned()),
        }
    };
    timeout(within, asked).await.context("no answer in time")?
}

/// A request that comes byte by byte; again when it is closed.
async fn slow_guest(addr: SocketAddr, number: usize) {
    loop {
        let Ok(mut stream) = TcpStream::connect(addr).await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let mut letters = format!("GET /livez?{number} HTTP/1.1\r\nx: ").into_bytes();
        letters.resize(1_000, b'y');
        for letter in letters {
            if stream.write_all(&[letter]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
