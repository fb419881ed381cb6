//! In front of QUIC: first packets of handshakes are bounded before anything is computed for them.
//!
//! All devices share one socket. What QUIC derives for the first packet of a stranger, if only to ask it for a proof of its
//! address, costs as much as many packets of a device that is connected; with enough strangers the socket is read too late,
//! and the kernel drops what it has no room for, whoever sent it. So first packets have a rate here. One more is dropped
//! after a look at its first bytes, except from an address that has sent hardly any: a flood from a few addresses keeps no
//! newcomer out. Every other packet passes. The answer to a request for a proof counts as such: it goes to an id that this
//! engine has made.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};
use quinn_proto::InvalidCid;
use till_runtime::IngressFigures;

/// First packets that may come at once: those of as many handshakes as QUIC lets wait, as a long first word takes two.
const AT_ONCE: u64 = 2_048;
/// First packets a second. More than handshakes that two cores can do.
const PER_S: u64 = 2_000;
/// Time over which first packets of an address are counted.
const WINDOW: Duration = Duration::from_millis(100);
/// First packets of an address that pass in each window whatever others send.
const FEW: u8 = 2;
/// All of those together.
const FEW_MAX: u32 = 200;
/// Places for counts; addresses share them by chance.
const COUNTERS: usize = 1_024;

/// Bytes of an id of a connection: some by chance, and a signature of them.
const NONCE: usize = 3;
const ID: usize = 8;

/// Ids of connections that are known for the engine's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    key: RandomState,
    made: u64,
}

impl Ids {
    fn signed(&self, nonce: [u8; NONCE]) -> [u8; ID] {
        let mut id = self.key.hash_one(nonce).to_le_bytes();
        for (to, from) in id.iter_mut().zip(nonce) {
            *to = from;
        }
        id
    }

    fn is_own(&self, id: &[u8]) -> bool {
        let Some(nonce) = id.first_chunk::<NONCE>() else {
            return false;
        };
        self.signed(*nonce) == id
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.made = self.made.wrapping_add(1);
        let [a, b, c, ..] = self.key.hash_one(self.made).to_le_bytes();
        ConnectionId::new(&self.signed([a, b, c]))
    }

    // Without this, QUIC answers each stray packet with a stateless reset: work for whoever sends junk.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        if self.is_own(id) {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        ID
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Who may send first packets now.
#[derive(Debug)]
struct InitialLimiter {
    ids: Ids,
    /// First packets that may come, in thousandths.
    left: u64,
    at: Instant,
    window: Instant,
    counts: Box<[u8; COUNTERS]>,
    few: u32,
}

impl InitialLimiter {
    fn new(ids: Ids, now: Instant) -> Self {
        Self {
            ids,
            left: 1_000 * AT_ONCE,
            at: now,
            window: now,
            counts: Box::new([0; COUNTERS]),
            few: 0,
        }
    }

    // RFC 9000, 17.2: a long header, a version, and the id that the packet goes to. Strangers choose one themselves.
    fn is_first(&self, packet: &[u8]) -> bool {
        let [first, _, _, _, _, length, rest @ ..] = packet else {
            return false;
        };
        let is_long = first & 0x80 != 0;
        let id = rest.get(..usize::from(*length)).unwrap_or_default();
        is_long && !self.ids.is_own(id)
    }

    fn lets_in(&mut self, from: SocketAddr, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_millis();
        let more = u64::try_from(since).unwrap_or(u64::MAX);
        if more > 0 {
            let left = self.left.saturating_add(more.saturating_mul(PER_S));
            (self.left, self.at) = (left.min(1_000 * AT_ONCE), now);
        }
        if now.saturating_duration_since(self.window) >= WINDOW {
            (self.window, self.few) = (now, 0);
            self.counts.fill(0);
        }
        let hash = self.ids.key.hash_one(network(from.ip()));
        let position = usize::try_from(hash).unwrap_or(0) % COUNTERS;
        let Some(count) = self.counts.get_mut(position) else {
            return false;
        };
        *count = count.saturating_add(1);
        if self.left >= 1_000 {
            self.left -= 1_000;
            return true;
        }
        let is_one_of_few = *count <= FEW && self.few < FEW_MAX;
        self.few += u32::from(is_one_of_few);
        is_one_of_few
    }

    // What came together of one sender is taken or dropped together. True: it is dropped.
    fn drops(&mut self, bytes: &[u8], meta: &RecvMeta, now: Instant) -> bool {
        let packets = bytes.chunks(meta.stride.max(1));
        let firsts = packets.filter(|packet| self.is_first(packet)).count();
        (0..firsts).any(|_| !self.lets_in(meta.addr, now))
    }
}

// Whoever has one address of IPv6 has as many as 64 bits.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or(0),
    }
}

/// The socket behind the limiter.
#[derive(Debug)]
pub(crate) struct LimitedSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    initial_limiter: Mutex<InitialLimiter>,
    figures: Arc<IngressFigures>,
}

impl LimitedSocket {
    /// `ids` are those that the endpoint gives to connections.
    pub(crate) fn new(
        socket: Arc<dyn AsyncUdpSocket>,
        ids: Ids,
        figures: Arc<IngressFigures>,
    ) -> Self {
        Self {
            socket,
            initial_limiter: Mutex::new(InitialLimiter::new(ids, Instant::now())),
            figures,
        }
    }
}

impl AsyncUdpSocket for LimitedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let came = ready!(self.socket.poll_recv(cx, bufs, meta))?;
        let mut initial_limiter = self.initial_limiter.lock();
        let now = Instant::now();
        let mut dropped = 0;
        for (bytes, meta) in bufs.iter().zip(meta).take(came) {
            let bytes = bytes.get(..meta.len).unwrap_or_default();
            if initial_limiter.drops(bytes, meta, now) {
                dropped += 1;
                // Nothing came here.
                meta.len = 0;
            }
        }
        if dropped > 0 {
            let initials = &self.figures.initials_dropped;
            initials.fetch_add(dropped, Ordering::Relaxed);
        }
        Poll::Ready(Ok(came))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 7))
    }

    fn meta(from: SocketAddr, len: usize, stride: usize) -> RecvMeta {
        RecvMeta {
            addr: from,
            len,
            stride,
            ..RecvMeta::default()
        }
    }

    #[test]
    fn ids_that_the_engine_has_made_are_known() {
        let mut ids = Ids::default();
        let (own, foreign) = (ids.generate_cid(), Ids::default().generate_cid());
        assert!(ids.is_own(&own) && !ids.is_own(&foreign));
        assert!(!ids.is_own(&own[..7]) && !ids.is_own(&[]));
        assert!(ids.validate(&own).is_ok() && ids.validate(&foreign).is_err());
        assert_ne!(own, ids.generate_cid());
    }

    #[test]
    fn only_first_packets_are_counted() {
        let mut ids = Ids::default();
        let own = ids.generate_cid();
        let initial_limiter = InitialLimiter::new(ids, Instant::now());
        let packet = |first: u8, id: &[u8]| {
            let length = u8::try_from(id.len()).unwrap();
            let mut packet = vec![first, 0, 0, 0, 1, length];
            packet.extend_from_slice(id);
            packet.resize(1_200, 0);
            packet
        };
        assert!(initial_limiter.is_first(&packet(0xc0, &[7; 20])));
        // Also with a version that nobody knows, and where it is cut.
        assert!(initial_limiter.is_first(&[0xc0, 9, 9, 9, 9, 20, 1]));
        assert!(!initial_limiter.is_first(&packet(0xc0, &own)));
        assert!(!initial_limiter.is_first(&packet(0x40, &[7; 20])));
        assert!(!initial_limiter.is_first(&[]));
    }

    #[test]
    fn a_flood_from_one_address_keeps_no_other_out() {
        let start = Instant::now();
        let mut initial_limiter = InitialLimiter::new(Ids::default(), start);
        let let_in = (0..5_000)
            .filter(|_| initial_limiter.lets_in(sender(1), start))
            .count();
        assert_eq!(let_in, usize::try_from(AT_ONCE).unwrap());
        // Its neighbours get in, and what passes of all is bounded.
        let neighbours = (2..=250).filter(|host| initial_limiter.lets_in(sender(*host), start));
        let neighbours = neighbours.count();
        assert!((150..=200).contains(&neighbours), "{neighbours}");
        // Half a second later there is room for what may come in it.
        let later = start + Duration::from_millis(500);
        let let_in = (0..5_000)
            .filter(|_| initial_limiter.lets_in(sender(1), later))
            .count();
        assert_eq!(let_in, 1_000);
    }

    #[test]
    fn what_comes_together_is_dropped_together() {
        let start = Instant::now();
        let mut initial_limiter = InitialLimiter::new(Ids::default(), start);
        let initials = vec![0xc0; 1_200 * 10];
        let talk = vec![0x40; 1_200 * 10];
        let flood = meta(sender(1), initials.len(), 1_200);
        let passed = (0..1_000).filter(|_| !initial_limiter.drops(&initials, &flood, start));
        assert_eq!(passed.count(), 204);
        assert!(!initial_limiter.drops(&talk, &flood, start));
    }
}
