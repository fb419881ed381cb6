//! Who the engine is and whom it believes: certificates, keys, and what a device's certificate lets it speak for.

use std::fs;
use std::io;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use thiserror::Error;
use till_protocol::id::TerminalId;
use till_protocol::reply::ALPN;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::config::PkiConfig;

/// Names a device may speak for at most; a certificate with more is refused whole.
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
    #[error("{} holds no usable {what}: {cause}; restore it from a copy, or remove the folder to make all anew (devices then need the new identity)", file.display())]
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
    /// The key of a folder that has been used is gone.
    #[error("{} is missing, and the journal beside it is not new: with another key, codes that look like card numbers would from now on pass for other goods. Restore it from a copy; if there is none, accept that by `head -c 32 /dev/urandom > {}`", .0.display(), .0.display())]
    KeyLost(PathBuf),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a key")]
    Random,
}

/// Certificates of an engine.
#[derive(Debug)]
pub(crate) struct Pki {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The one-file identity that was made for devices, with an own authority.
    pub(crate) identity: Option<PathBuf>,
}

impl Pki {
    /// Reads the certificates, or makes them where the engine is its own authority and has none yet.
    pub(crate) fn open(config: &PkiConfig, data_dir: &Path) -> Result<Self, PkiError> {
        match config {
            PkiConfig::Dev => {
                let dir = data_dir.join("pki");
                if !dir.exists() {
                    make(&dir)?;
                }
                let server = dir.join("server.pem");
                let mut pki = Self::read(&dir.join("ca.pem"), &server, &server)?;
                pki.identity = Some(dir.join("device.pem"));
                Ok(pki)
            }
            PkiConfig::Identity(file) => {
                let mut pki = Self::read(file, file, file)?;
                // The authority stands first in the file; it has no place in the chain that devices are shown.
                pki.chain = pki.chain.split_off(1);
                if pki.chain.is_empty() {
                    return Err(content(file, "certificate", "there is an authority alone"));
                }
                pki.identity = Some(file.clone());
                Ok(pki)
            }
            PkiConfig::Files {
                ca,
                certificate,
                key,
            } => Self::read(ca, certificate, key),
        }
    }

    fn read(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, PkiError> {
        let mut roots = RootCertStore::empty();
        let is_identity = ca == certificate;
        let most = if is_identity { 1 } else { usize::MAX };
        for root in certificates(ca)?.into_iter().take(most) {
            roots
                .add(root)
                .map_err(|error| content(ca, "authority", &error.to_string()))?;
        }
        let key_pem = read(key)?;
        Ok(Self {
            roots,
            chain: certificates(certificate)?,
            key: PrivateKeyDer::from_pem_slice(&key_pem)
                .map_err(|error| content(key, "private key", &format!("{error:?}")))?,
            identity: None,
        })
    }

    /// The server's TLS: 1.3 alone, a device certificate required, no tickets and no early data (a revoked device must
    /// not resume).
    pub(crate) fn tls(&self) -> Result<QuicServerConfig, PkiError> {
        let wrong = |error: String| PkiError::Tls(error);
        let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots.clone()),
            Arc::clone(&provider),
        );
        let verifier = verifier.build().map_err(|error| wrong(error.to_string()))?;
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong(error.to_string()))?;
        let mut tls = builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| wrong(error.to_string()))?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.send_tls13_tickets = 0;
        tls.max_early_data_size = 0;
        QuicServerConfig::try_from(tls).map_err(|error| wrong(error.to_string()))
    }
}

/// Whose events a certificate may bring.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Speaks {
    all: bool,
    stores: Vec<u32>,
    terminals: Vec<TerminalId>,
}

impl Speaks {
    /// Reads the names `till://STORE/TILL`, `till://STORE/*` and `till://*` of a certificate. Other names say nothing; a
    /// certificate without any speaks for nobody.
    pub(crate) fn of_certificate(der: &[u8]) -> Self {
        let mut speaks = Self::default();
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return speaks;
        };
        let Ok(Some(names)) = certificate.subject_alternative_name() else {
            return speaks;
        };
        if names.value.general_names.len() > NAMES_MAX {
            return speaks;
        }
        for name in &names.value.general_names {
            if let GeneralName::URI(uri) = name {
                speaks.add(uri);
            }
        }
        speaks
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

    /// Whether it may speak for a terminal.
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

/// The key that turns suspected card numbers into tokens: made once, and kept. Another key makes other tokens of the
/// same codes, so that a folder whose journal holds any is not opened without its key: ask for it before a journal is made.
pub(crate) fn screen_key(data_dir: &Path) -> Result<[u8; 32], PkiError> {
    let path = data_dir.join("chain.key");
    if !path.exists() {
        if has_files(&data_dir.join("journal"))? {
            return Err(PkiError::KeyLost(path));
        }
        let mut bytes = [0_u8; 32];
        aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| PkiError::Random)?;
        let new = data_dir.join("chain.key.new");
        write_secret(&new, &bytes)?;
        fs::rename(&new, &path).map_err(io_error("renaming", &new))?;
        sync_dir(data_dir)?;
    }
    let bytes = read(&path)?;
    let found = bytes.len();
    let key: [u8; 32] = bytes
        .try_into()
        .map_err(|_| content(&path, "key", &format!("{found} bytes instead of 32")))?;
    Ok(key)
}

// Whether a folder is there and not empty.
fn has_files(dir: &Path) -> Result<bool, PkiError> {
    match fs::read_dir(dir) {
        Ok(mut files) => Ok(files.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("reading", dir)(error)),
    }
}

// An authority, a server and a device that may speak for every terminal. All or nothing: the folder is renamed.
fn make(dir: &Path) -> Result<(), PkiError> {
    let new = dir.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).map_err(io_error("removing", &new))?;
    }
    fs::create_dir_all(&new).map_err(io_error("making", &new))?;
    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut ca = params("tillstream authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::from_params(&ca, &ca_key);

    let names = [
        SanType::DnsName("tillstream".try_into()?),
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    let mut server = params("tillstream");
    server.subject_alt_names = names.to_vec();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let server_pem = server.signed_by(&server_key, &issuer)?.pem();

    // It may also stand for an engine: other engines of a cluster have no part in this authority but this file.
    let mut device = params("every till");
    device.subject_alt_names = names.to_vec();
    let every_till = SanType::URI("till://*".try_into()?);
    device.subject_alt_names.push(every_till);
    device.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let device_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let device_pem = device.signed_by(&device_key, &issuer)?.pem();

    let server_text = server_pem + &server_key.serialize_pem();
    let device_text = format!("{ca_pem}{device_pem}{}", device_key.serialize_pem());
    write_secret(&new.join("ca.pem"), ca_pem.as_bytes())?;
    write_secret(&new.join("ca-key.pem"), ca_key.serialize_pem().as_bytes())?;
    write_secret(&new.join("server.pem"), server_text.as_bytes())?;
    write_secret(&new.join("device.pem"), device_text.as_bytes())?;
    sync_dir(&new)?;
    fs::rename(&new, dir).map_err(io_error("renaming", &new))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    params
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
