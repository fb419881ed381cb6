//! Certificates that count no more: on connections that live, in new handshakes, and in files that are of no use.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint};
use rustls::client::Tls13ClientSessionValue;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{NamedGroup, RootCertStore};
use till_client::{Identity, SERVER_NAME, Tuning};
use till_gateway::Authority;
use till_protocol::reply::ALPN;
use till_runtime::{Config, Handle, PkiConfig};

use crate::device::{Device, connect, connect_as, teas};
use crate::{engine, folder, level, until};

/// A day.
const LONG_S: u32 = 86_400;

fn issue(dir: &Path, name: &str, seconds: u32) -> PathBuf {
    let file = dir.join(format!("{}.pem", name.replace(['/', ':', '*'], "-")));
    let authority = Authority::open(dir).unwrap();
    authority.issue(&[name.to_owned()], seconds, &file).unwrap();
    file
}

fn revoke(dir: &Path, identity: &Path) {
    let authority = Authority::open(dir).unwrap();
    let serial = authority.serial(identity).unwrap();
    assert!(authority.revoke(&serial).unwrap());
}

/// The code with which the engine closes a connection, and its words.
async fn closed(connection: &Connection) -> (u64, String) {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => {
            let words = String::from_utf8_lossy(&close.reason).into_owned();
            (close.error_code.into_inner(), words)
        }
        other => panic!("{other}"),
    }
}

/// The alert with which a handshake fails; the device may believe itself connected for a moment.
async fn alert(engine: &Handle, identity: &Path) -> u64 {
    let identity = Identity::read(identity).unwrap();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = identity.client_config(&Tuning::default()).unwrap();
    let connecting = endpoint
        .connect_with(config, engine.quic_addr(), SERVER_NAME)
        .unwrap();
    let lost = match connecting.await {
        Ok(connection) => connection.closed().await,
        Err(lost) => lost,
    };
    match lost {
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code) - 0x100,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_ends_its_connections_and_is_not_let_in_again() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let revoked = issue(dir.path(), "till://7/*", LONG_S);
    let kept = issue(dir.path(), "till://8/1", LONG_S);
    let (one, other) = (
        connect_as(&engine, &revoked).await,
        connect_as(&engine, &kept).await,
    );
    let (mut till, _) = Device::open(&one, 7, 1, 0).await;
    let (mut neighbour, _) = Device::open(&other, 8, 1, 0).await;
    till.send(teas(1, 10)).await;
    till.acked(10).await;

    revoke(dir.path(), &revoked);
    let (code, words) = closed(&one).await;
    assert_eq!((code, words.as_str()), (3, "the certificate was revoked"));
    assert_eq!(alert(&engine, &revoked).await, 44);
    // What it had sent counts, and nobody else notices.
    neighbour.send(teas(1, 3)).await;
    neighbour.acked(3).await;
    assert_eq!(level(&engine, 7).await, "10");
    let pki = engine.metrics().pki;
    assert_eq!((pki.revoked, pki.reads, pki.closed), (1, 1, 1));
    assert!(pki.failed_handshakes > 0);

    // The next start reads the list before it takes anybody in.
    engine.drain().await.unwrap();
    drop(engine);
    let engine = crate::engine(dir.path()).await;
    assert_eq!(alert(&engine, &revoked).await, 44);
    connect_as(&engine, &kept).await.close(0_u32.into(), b"");
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_of_no_use_leaves_the_one_before_in_force() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let first = issue(dir.path(), "till://7/1", LONG_S);
    let second = issue(dir.path(), "till://7/2", LONG_S);
    revoke(dir.path(), &first);
    until("the list is read", || engine.metrics().pki.revoked == 1).await;
    let list = dir.path().join("pki/crl.pem");
    let good = fs::read(&list).unwrap();

    let own = fs::read(dir.path().join("pki/ca.pem")).unwrap();
    for bad in [
        &b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"[..],
        &own,
        b"",
    ] {
        fs::write(&list, bad).unwrap();
        until("it is told", || engine.metrics().pki.trouble.is_some()).await;
        assert_eq!(alert(&engine, &first).await, 44);
        // Put right, and told no more.
        fs::write(&list, &good).unwrap();
        until("it is over", || engine.metrics().pki.trouble.is_none()).await;
    }
    fs::remove_file(&list).unwrap();
    until("it is told", || engine.metrics().pki.trouble.is_some()).await;
    let health = engine.health();
    let told = health.checks.iter().find(|one| one.name == "certificates");
    let told = told.unwrap();
    assert!(told.reason.contains("it is gone") && told.ok, "{told:?}");
    assert_eq!(alert(&engine, &first).await, 44);
    connect_as(&engine, &second).await.close(0_u32.into(), b"");

    fs::write(&list, &good).unwrap();
    revoke(dir.path(), &second);
    until("the next is read", || engine.metrics().pki.revoked == 2).await;
    assert_eq!(alert(&engine, &second).await, 44);
    assert_eq!(engine.metrics().pki.trouble, None);
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_ends_its_connection() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let short = issue(dir.path(), "till://7/1", 3);
    let connection = connect_as(&engine, &short).await;
    let (mut till, _) = Device::open(&connection, 7, 1, 0).await;
    till.send(teas(1, 1)).await;
    till.acked(1).await;
    assert_eq!(closed(&connection).await.0, 4);
    assert_eq!(alert(&engine, &short).await, 45);
    assert_eq!(level(&engine, 7).await, "1");
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_taken_out_takes_its_devices_along() {
    let (dir, other) = (folder(), folder());
    // Two authorities, each made by an engine of its own.
    for dir in [&dir, &other] {
        engine(dir.path()).await.drain().await.unwrap();
    }
    let both = dir.path().join("both.pem");
    let pem = |dir: &Path| fs::read_to_string(dir.join("pki/ca.pem")).unwrap();
    fs::write(&both, pem(dir.path()) + &pem(other.path())).unwrap();
    let server = dir.path().join("pki/server.pem");
    let mut config = Config::dev(dir.path());
    config.pki = PkiConfig::Files {
        ca: both.clone(),
        certificate: server.clone(),
        key: server,
    };
    let engine = till_gateway::start(config).await.unwrap();
    let own = issue(dir.path(), "till://7/1", LONG_S);
    let foreign = issue(other.path(), "till://7/2", LONG_S);
    // It trusts the engine by its own authority's certificate.
    let text = fs::read_to_string(&foreign).unwrap();
    let mixed = text.replace(&pem(other.path()), &pem(dir.path()));
    fs::write(&foreign, mixed).unwrap();
    let (kept, gone) = (
        connect_as(&engine, &own).await,
        connect_as(&engine, &foreign).await,
    );
    fs::write(&both, pem(dir.path())).unwrap();
    assert_eq!(closed(&gone).await.0, 5);
    // Both have the same name: it is the signature that is not believed.
    assert_eq!(alert(&engine, &foreign).await, 51);
    let (mut till, _) = Device::open(&kept, 7, 1, 0).await;
    till.send(teas(1, 1)).await;
    till.acked(1).await;
    engine.drain().await.unwrap();
}

/// Counts the tickets that a server gives.
#[derive(Debug, Default)]
struct Tickets(AtomicU64);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// Resumption would take the certificate of the first handshake for granted.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_given_a_ticket_to_come_back_with() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let pem = fs::read(engine.identity().unwrap()).unwrap();
    let mut chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(chain.remove(0)).unwrap();
    let tickets = Arc::new(Tickets::default());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = true;
    let store: Arc<dyn ClientSessionStore> = Arc::<Tickets>::clone(&tickets);
    tls.resumption = Resumption::store(store);
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    for _ in 0..2 {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = endpoint
            .connect_with(config.clone(), engine.quic_addr(), SERVER_NAME)
            .unwrap();
        let Err(connecting) = connecting.into_0rtt() else {
            panic!("early data is taken");
        };
        let connection = connecting.await.unwrap();
        // Tickets would come before the answer to a Hello.
        let (mut till, _) = Device::open(&connection, 7, 1, 0).await;
        till.send(teas(1, 1)).await;
        till.acked(1).await;
    }
    assert_eq!(tickets.0.load(Ordering::Relaxed), 0);
    connect(&engine).await.close(0_u32.into(), b"");
    engine.drain().await.unwrap();
}
