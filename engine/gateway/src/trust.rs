//! Who may stay: certificates are looked at in the handshake, and again as long as their connection lives.
//!
//! The files of the certificates are watched. What changed is taken for new handshakes first, and then every connection
//! is held against it: one whose certificate was revoked meanwhile, or has expired, is closed with a code that says so.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{Connection, Endpoint, ServerConfig, VarInt};
use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use till_runtime::Intake;
use tokio::sync::watch;
use tokio::time::sleep;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::close;
use crate::pki::{Files, Lists, Pki, PkiError, Stamps, now_s};

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);
/// Longest time between two looks at the certificate of a connection: the clock of the machine may be set.
const AGAIN: Duration = Duration::from_secs(600);

/// Whom the engine believes now.
#[derive(Debug)]
struct Believed {
    /// Rises with each change.
    number: u64,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Whom the engine believes, now and later.
#[derive(Clone, Debug)]
pub(crate) struct Trust(watch::Receiver<Arc<Believed>>);

/// The certificate of a connection, and whether it still counts.
#[derive(Debug)]
pub(crate) struct TrustStanding {
    chain: Vec<CertificateDer<'static>>,
    /// When the first certificate of the chain expires, in s.
    ends_s: u64,
    /// It was looked at when this was believed.
    seen: u64,
    trust: Trust,
}

/// Why a certificate counts no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lost {
    Revoked,
    Expired,
    Distrusted,
}

impl Lost {
    pub(crate) const fn code(self) -> VarInt {
        match self {
            Self::Revoked => close::REVOKED,
            Self::Expired => close::EXPIRED,
            Self::Distrusted => close::DISTRUSTED,
        }
    }

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Revoked => "the certificate was revoked",
            Self::Expired => "the certificate has expired",
            Self::Distrusted => "the certificate is believed no more",
        }
    }
}

impl Trust {
    /// The number of what is believed now. Ask before a handshake begins.
    pub(crate) fn number(&self) -> u64 {
        self.0.borrow().number
    }

    /// Where a connection stands whose handshake began when `seen` was believed.
    pub(crate) fn of(&self, connection: &Connection, seen: u64) -> TrustStanding {
        let chain = connection
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
            .map_or_else(Vec::new, |chain| *chain);
        let ends = chain.iter().map(|der| ends_s(der));
        TrustStanding {
            ends_s: ends.min().unwrap_or(0),
            chain,
            seen,
            trust: self.clone(),
        }
    }
}

impl TrustStanding {
    /// The device's own certificate.
    pub(crate) fn own(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// Waits until the certificate counts no more, and says why.
    pub(crate) async fn lost(&mut self) -> Lost {
        loop {
            let believed = Arc::clone(&self.trust.0.borrow_and_update());
            let now = UnixTime::now();
            if believed.number != self.seen || now.as_secs() >= self.ends_s {
                if let Some(lost) = self.judged(believed.verifier.as_ref(), now) {
                    return lost;
                }
                self.seen = believed.number;
            }
            // A certificate counts to the end of its last second.
            let left = Duration::from_secs(self.ends_s.saturating_sub(now.as_secs()) + 1);
            tokio::select! {
                changed = self.trust.0.changed() => {
                    if changed.is_err() {
                        // Nobody looks at the files any more: the engine stops.
                        sleep(AGAIN).await;
                    }
                }
                () = sleep(left.min(AGAIN)) => {}
            }
        }
    }

    fn judged(&self, verifier: &dyn ClientCertVerifier, now: UnixTime) -> Option<Lost> {
        let (own, between) = self.chain.split_first()?;
        let error = verifier.verify_client_cert(own, between, now).err()?;
        Some(match error {
            rustls::Error::InvalidCertificate(CertificateError::Revoked) => Lost::Revoked,
            rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => Lost::Expired,
            _ => Lost::Distrusted,
        })
    }
}

fn ends_s(der: &CertificateDer<'_>) -> u64 {
    let ends = X509Certificate::from_der(der).ok();
    let ends = ends.map(|(_, certificate)| certificate.validity().not_after.timestamp());
    ends.and_then(|ends| u64::try_from(ends).ok()).unwrap_or(0)
}

/// Looks at the files of the certificates for as long as the door is open.
pub(crate) struct Watch {
    intake: Arc<Intake>,
    files: Files,
    stamps: Stamps,
    pki: Arc<Pki>,
    endpoint: Endpoint,
    /// Everything of the server but its TLS.
    server: ServerConfig,
    /// True once nobody is taken in any more.
    shut: Arc<Mutex<bool>>,
    believed: watch::Sender<Arc<Believed>>,
}

/// What a look at the files came to: how they looked, and the certificates where they are others.
type Looked = (Stamps, Result<Option<Pki>, PkiError>);

impl Watch {
    /// Takes the first certificates as they were read.
    pub(crate) fn new(
        intake: Arc<Intake>,
        (files, stamps, pki): (Files, Stamps, Pki),
        (endpoint, server): (Endpoint, ServerConfig),
        shut: Arc<Mutex<bool>>,
    ) -> (Self, Trust) {
        let first = Believed {
            number: 0,
            verifier: pki.verifier(),
        };
        let (believed, trust) = watch::channel(Arc::new(first));
        intake.figures().pki.taken(revoked(&pki), true);
        let watch = Self {
            intake,
            files,
            stamps,
            pki: Arc::new(pki),
            endpoint,
            server,
            shut,
            believed,
        };
        watch.report_overdue();
        (watch, Trust(trust))
    }

    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.intake.cordoned() => return,
            }
            self.report_overdue();
            let stamps = self.files.stamps();
            if !stamps.may_differ(&self.stamps) {
                continue;
            }
            let (files, before) = (self.files.clone(), Arc::clone(&self.pki));
            let look = move || look(&files, &before);
            let (stamps, read) = match tokio::task::spawn_blocking(look).await {
                Ok(looked) => looked,
                Err(error) => {
                    // What makes a parser fail is no reason to believe anybody else.
                    self.not_taken(&format!("reading the certificates failed: {error}"));
                    self.stamps = stamps;
                    continue;
                }
            };
            self.stamps = stamps;
            match read {
                Ok(Some(pki)) => self.take(pki),
                // As they were, also after something else in between.
                Ok(None) => self.intake.figures().pki.taken_again(),
                Err(error) => self.not_taken(&error.to_string()),
            }
        }
    }

    // New handshakes first: a connection that is taken in with the old ones is held against the new ones.
    fn take(&mut self, pki: Pki) {
        let tls = match pki.tls() {
            Ok(tls) => tls,
            Err(error) => return self.not_taken(&error.to_string()),
        };
        let mut server = self.server.clone();
        server.crypto = Arc::new(tls);
        let shut = self.shut.lock();
        if *shut {
            return;
        }
        self.endpoint.set_server_config(Some(server));
        drop(shut);
        let believed = Believed {
            number: self.believed.borrow().number + 1,
            verifier: pki.verifier(),
        };
        self.believed.send_replace(Arc::new(believed));
        let revoked = revoked(&pki);
        self.intake.figures().pki.taken(revoked, false);
        tracing::info!(revoked, "the certificates were read again");
        self.pki = Arc::new(pki);
    }

    fn not_taken(&self, why: &str) {
        if self.intake.figures().pki.not_taken(why) {
            tracing::error!(why, "the certificates before stay in force");
            self.intake.problem(
                &format!("the files of [pki] were not taken, those before stay in force: {why}"),
                "Put the file right; it is read again by itself.",
            );
        }
    }

    fn report_overdue(&self) {
        let overdue = self.pki.lists().and_then(|lists| lists.overdue(now_s()));
        if self.intake.figures().pki.overdue(overdue) {
            tracing::warn!(
                authority = overdue,
                "a revocation list is past its time and stays in force; its authority should have made another"
            );
        }
    }
}

fn revoked(pki: &Pki) -> usize {
    pki.lists().map_or(0, Lists::revoked)
}

// The stamps are taken first: what is written while it is read is looked at again.
fn look(files: &Files, before: &Pki) -> Looked {
    let stamps = files.stamps();
    let read = files.read_after(before);
    let others = read.map(|pki| (!pki.is_same(before)).then_some(pki));
    (stamps, others)
}
