//! Who the engine is and whom it believes: certificates, keys, revocation lists, and what a device's certificate lets it
//! speak for.

mod authority;
mod files;
mod lists;

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use quinn::crypto::rustls::QuicServerConfig;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use thiserror::Error;
use till_protocol::id::TerminalId;
use till_protocol::reply::ALPN;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

pub use self::authority::{Authority, Issued, Revocation};
pub(crate) use self::files::{Files, Stamps};
pub(crate) use self::lists::Lists;

/// Names a device is authorised for at most; a certificate with more is refused whole.
const NAMES_MAX: usize = 1_024;

/// Why there are no certificates to go on with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{doing} {} failed: {cause}", file.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{} holds no usable {what}: {cause}; restore it from a copy, or remove the folder to make all again (devices then need the new identity)", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What was expected in it.
        what: &'static str,
        /// What was wrong.
        cause: String,
    },
    /// Certificates could not be made.
    #[error("could not make certificates: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate, key and authority do not go together.
    #[error("the server's certificates are not usable: {0}")]
    Tls(String),
    /// A revocation list does not fit the authorities, or the list before it.
    #[error("{} is not taken as revocation lists: {cause}", file.display())]
    Lists {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        cause: String,
    },
    /// An authority was asked to do what it cannot.
    #[error("{0}")]
    Authority(String),
}

/// Certificates of an engine, and those that count no more.
#[derive(Debug)]
pub(crate) struct Pki {
    authorities: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    lists: Option<Lists>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Pki {
    /// Who the engine is, in `chain` and `key`, and whom it believes: `authorities`, but not what their lists revoke.
    fn new(
        authorities: Vec<CertificateDer<'static>>,
        (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
        lists: Option<Lists>,
        file: &Path,
    ) -> Result<Self, PkiError> {
        let mut roots = RootCertStore::empty();
        for root in &authorities {
            roots
                .add(root.clone())
                .map_err(|error| content(file, "authority", &error.to_string()))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if let Some(lists) = &lists {
            // Every authority has a list, or the file was not taken: whom no list speaks of is refused.
            verifier = verifier.with_crls(lists.ders().iter().cloned());
        }
        let verifier = verifier.build();
        Ok(Self {
            authorities,
            chain,
            key,
            lists,
            verifier: verifier.map_err(|error| PkiError::Tls(error.to_string()))?,
        })
    }

    /// Whether it was read from the same bytes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let lists = |pki: &Self| pki.lists.as_ref().map(|lists| lists.ders().to_vec());
        self.authorities == other.authorities
            && self.chain == other.chain
            && self.key == other.key
            && lists(self) == lists(other)
    }

    /// Whom the engine believes.
    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// The revocation lists.
    pub(crate) const fn lists(&self) -> Option<&Lists> {
        self.lists.as_ref()
    }

    /// The server's TLS: 1.3 alone, a device certificate required, no tickets, nothing kept to resume from and no early
    /// data: resumption would take the certificate of an earlier handshake without a look at it.
    pub(crate) fn tls(&self) -> Result<QuicServerConfig, PkiError> {
        let wrong = |error: String| PkiError::Tls(error);
        let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong(error.to_string()))?;
        let mut tls = builder
            .with_client_cert_verifier(self.verifier())
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| wrong(error.to_string()))?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.max_early_data_size = 0;
        QuicServerConfig::try_from(tls).map_err(|error| wrong(error.to_string()))
    }
}

/// Whose events a certificate may bring.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Authorisation {
    all: bool,
    stores: Vec<u32>,
    terminals: Vec<TerminalId>,
}

impl Authorisation {
    /// Reads the names `till://STORE/TILL`, `till://STORE/*` and `till://*` of a certificate. Other names say nothing; a
    /// certificate without any speaks for nobody.
    pub(crate) fn of_certificate(der: &[u8]) -> Self {
        let mut authorisation = Self::default();
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return authorisation;
        };
        let Ok(Some(names)) = certificate.subject_alternative_name() else {
            return authorisation;
        };
        if names.value.general_names.len() > NAMES_MAX {
            return authorisation;
        }
        for name in &names.value.general_names {
            if let GeneralName::URI(uri) = name {
                authorisation.add(uri);
            }
        }
        authorisation
    }

    /// Whether a name says whom it speaks for.
    fn understands(name: &str) -> bool {
        let mut authorisation = Self::default();
        authorisation.add(name);
        authorisation != Self::default()
    }

    fn add(&mut self, uri: &str) {
        let Some(rest) = uri.strip_prefix("till://") else {
            return;
        };
        if rest == "*" {
            self.all = true;
            return;
        }
        match rest.split_once('/') {
            Some((store, "*")) => self.stores.extend(number(store)),
            Some((store, till)) => {
                let packed = number(store).zip(number(till));
                let id = packed.map(|(store, till)| u64::from(store) << 32 | u64::from(till));
                let id = id.and_then(|id| TerminalId::from_u64(id).ok());
                self.terminals.extend(id);
            }
            None => {}
        }
    }

    /// Whether it is authorised for a terminal.
    pub(crate) fn may(&self, terminal: TerminalId) -> bool {
        self.all
            || self.stores.contains(&terminal.store().get())
            || self.terminals.contains(&terminal)
    }
}

// Canonical decimals alone: "007" and "+7" would be second names of one till.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

/// The time of day, in s since 1970-01-01 UTC.
pub(crate) fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(io_error("making", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(io_error("writing", path))
}

fn sync_dir(dir: &Path) -> Result<(), PkiError> {
    fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("syncing", dir))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let pem = read(path)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| content(path, "certificate", &format!("{error:?}")))?;
    if found.is_empty() {
        return Err(content(path, "certificate", "there is none in it"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    fs::read(path).map_err(io_error("reading", path))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let file = path.to_path_buf();
    move |cause| PkiError::Io { doing, file, cause }
}

fn content(path: &Path, what: &'static str, cause: &str) -> PkiError {
    PkiError::Content {
        file: path.to_path_buf(),
        what,
        cause: cause.to_owned(),
    }
}

#[cfg(test)]
mod tests;
