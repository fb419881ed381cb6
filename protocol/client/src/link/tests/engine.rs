//! The smallest engine that speaks till/1 over QUIC. Its memory outlives its endpoint, as a journal would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use crate::{ALPN, Identity, SERVER_NAME};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use till_protocol::code::Reason;
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::id::{Epoch, Seq};
use till_protocol::reply::{Ack, Bye, Hello, Message, Nack, Redirect, Welcome};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

/// A CA, a server and a device certificate.
pub(super) struct Pki {
    ca: CertificateDer<'static>,
    server: CertificateDer<'static>,
    server_key: Vec<u8>,
    pub(super) identity: Identity,
}

impl Pki {
    pub(super) fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let make = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, server_key) = make(SERVER_NAME);
        let (device, device_key) = make("device");
        let pem = ca_cert.pem() + &device.pem() + &device_key.serialize_pem();
        Self {
            ca: ca_cert.der().clone(),
            server: server.der().clone(),
            server_key: server_key.serialize_der(),
            identity: Identity::from_pem(pem.as_bytes()).unwrap(),
        }
    }

    fn server_config(&self) -> ServerConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.server_key.clone()));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.server.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config =
            ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        // Devices that gave up in the middle of a handshake hold up the end of an endpoint for no longer than this.
        let idle = quinn::IdleTimeout::from(quinn::VarInt::from_u32(1_000));
        let transport = Arc::get_mut(&mut config.transport).unwrap();
        transport.max_idle_timeout(Some(idle));
        config
    }
}

/// What an engine remembers and how it misbehaves.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Digests by terminal and epoch.
    pub(super) epochs: BTreeMap<(u64, u32), Vec<u64>>,
    /// (terminal, mark) in the order of taking effect.
    pub(super) applied: Vec<(u64, u64)>,
    pub(super) frames: u64,
    pub(super) duplicates: u64,
    /// Sequence numbers that are refused.
    pub(super) refuses: BTreeSet<u64>,
    /// Each so many frames the stream is cut before the answer.
    pub(super) cut_every: u64,
    /// Each acknowledgement is said twice.
    pub(super) echo: bool,
    /// Frames are only counted and acknowledged.
    pub(super) blind: bool,
    pub(super) redirect: Option<String>,
    /// Terminals that are served elsewhere.
    pub(super) places: BTreeMap<u64, String>,
    /// Terminals that nobody serves for the moment, and how often they are still told so.
    pub(super) nobody: BTreeMap<u64, u32>,
    /// Hellos that were heard, by terminal.
    pub(super) hellos: BTreeMap<u64, u32>,
}

pub(super) type Memory = Arc<Mutex<Journal>>;

pub(super) struct Engine {
    pub(super) address: SocketAddr,
    endpoint: Endpoint,
}

impl Engine {
    pub(super) async fn start(pki: &Pki, memory: &Memory, port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let endpoint = loop {
            // The endpoint before this one lets go of its port when its last task has ended.
            match Endpoint::server(pki.server_config(), address) {
                Ok(endpoint) => break endpoint,
                Err(_) if port != 0 => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let (accepting, memory) = (endpoint.clone(), Arc::clone(memory));
        drop(tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                if let Ok(connection) = incoming.await {
                    drop(tokio::spawn(serve(connection, Arc::clone(&memory))));
                }
            }
        }));
        Self {
            address: endpoint.local_addr().unwrap(),
            endpoint,
        }
    }

    /// Dies without a word to the devices' streams.
    pub(super) async fn stop(self) {
        self.endpoint.close(0_u32.into(), b"crash");
        self.endpoint.wait_idle().await;
    }
}

async fn serve(connection: Connection, memory: Memory) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        drop(tokio::spawn(talk(send, recv, Arc::clone(&memory))));
    }
}

async fn talk(mut send: SendStream, mut recv: RecvStream, memory: Memory) {
    let mut decoder = FrameDecoder::new();
    let mut epoch = None;
    while let Ok(Some(chunk)) = recv.read_chunk(64 << 10, true).await {
        decoder.push(chunk.bytes);
        loop {
            let frame = match decoder.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    let bye = Bye::new(error.reason()).encode();
                    send.write_chunk(bye).await.ok();
                    send.finish().ok();
                    return;
                }
            };
            let answer = hear(&memory, &mut epoch, frame);
            let Some(answer) = answer else {
                send.reset(0_u32.into()).ok();
                recv.stop(0_u32.into()).ok();
                return;
            };
            for message in answer {
                if send.write_chunk(message.encode()).await.is_err() {
                    return;
                }
                if matches!(message, Message::Bye(_) | Message::Redirect(_)) {
                    send.finish().ok();
                    return;
                }
            }
        }
    }
}

/// The answers to a frame, or `None` to cut the stream.
fn hear(memory: &Memory, epoch: &mut Option<(u64, u32)>, frame: Frame) -> Option<Vec<Message>> {
    let mut journal = memory.lock().unwrap();
    match (Message::decode(&frame), *epoch) {
        (Ok(Message::Hello(hello)), None) => {
            let terminal = hello.terminal.to_u64();
            *journal.hellos.entry(terminal).or_default() += 1;
            let place = journal.places.get(&terminal).or(journal.redirect.as_ref());
            if let Some(address) = place.cloned() {
                return Some(vec![Redirect { address }.into()]);
            }
            if let Some(left) = journal.nobody.get_mut(&terminal)
                && *left > 0
            {
                *left -= 1;
                return Some(vec![Bye::new(Reason::Moved).into()]);
            }
            let welcome = journal.handshake(&hello);
            *epoch = Some((hello.terminal.to_u64(), welcome.epoch.get()));
            Some(vec![welcome.into()])
        }
        (Ok(Message::Goodbye), _) => Some(vec![Bye::new(Reason::Idle).into()]),
        (Err(_), Some(epoch)) => journal.take(epoch, frame),
        _ => Some(vec![Bye::new(Reason::BadMessage).into()]),
    }
}

impl Journal {
    fn handshake(&self, hello: &Hello) -> Welcome {
        let terminal = hello.terminal.to_u64();
        let latest = self
            .epochs
            .range((terminal, 0)..=(terminal, u32::MAX))
            .next_back()
            .map_or(0, |((_, epoch), _)| *epoch);
        let epoch = hello.epoch.map_or(latest + 1, Epoch::get);
        let known = self.epochs.get(&(terminal, epoch));
        let count = u64::try_from(known.map_or(0, Vec::len)).unwrap();
        Welcome {
            terminal: hello.terminal,
            epoch: Epoch::new(epoch).unwrap(),
            latest_epoch: Epoch::new(latest.max(1)).unwrap(),
            next_seq: Seq::new(count + 1).unwrap(),
            digest: known
                .and_then(|digests| digests.last().copied())
                .unwrap_or(0),
            credit_frames: 64,
            frame_bytes_max: 1 << 20,
            frame_events_max: 1_024,
            time: Timestamp::default(),
            flags: u32::from(epoch < latest),
        }
    }

    fn take(&mut self, epoch: (u64, u32), frame: Frame) -> Option<Vec<Message>> {
        self.frames += 1;
        let (first, count) = (frame.header.first_seq, frame.header.count);
        let digests = self.epochs.entry(epoch).or_default();
        let next = u64::try_from(digests.len()).unwrap() + 1;
        if first > next {
            let expected = Seq::new(next).unwrap();
            return Some(vec![Nack { expected }.into()]);
        }
        let mut refusals = Vec::new();
        if self.blind {
            digests.resize(digests.len() + usize::try_from(count).unwrap(), 0);
        } else {
            let verified = Verified::from_journal(frame).unwrap();
            for (index, seq) in (0..count).zip(first..) {
                let refused = self.refuses.contains(&seq);
                if refused {
                    refusals.push((Seq::new(seq).unwrap(), Reason::BadTime));
                }
                if seq < next {
                    self.duplicates += 1;
                    continue;
                }
                let digest = verified.digest(index);
                digests.push(digest);
                if !refused {
                    self.applied.push((epoch.0, digest));
                }
            }
        }
        let upto = Seq::new(first + u64::from(count) - 1).ok();
        if self.cut_every > 0 && self.frames.is_multiple_of(self.cut_every) {
            return None;
        }
        let ack = Ack {
            journalled: upto,
            committed: upto,
            refusals,
        };
        let times = if self.echo { 2 } else { 1 };
        Some(vec![ack.into(); times])
    }
}
