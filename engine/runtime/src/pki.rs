//! Certificates: who the engine is, and for which terminals a device may speak.
//!
//! A dev engine makes its own authority, once, and keeps it over restarts. A device's certificate names its terminals in
//! URIs: `till://STORE/TILL`, `till://STORE/*` or `till://*`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use thiserror::Error;
use till_protocol::id::{StoreId, TerminalId, TillId};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use crate::config::Config;
use crate::data::{DataError, put_in_place};

/// The protocol that is spoken (RFC 7301).
pub const ALPN: &[u8] = b"till/1";

/// The name in every engine's certificate; addresses change, it does not.
pub const SERVER_NAME: &str = "tillstream";

/// Certificates that are of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("could not {doing} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file could not be put in place.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A certificate or key is not what it should be.
    #[error("{}: {cause}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// The engine's certificates on disk.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    server: Arc<QuicServerConfig>,
}

impl Pki {
    /// Opens the certificates of a data folder; a dev engine makes what is missing.
    ///
    /// # Errors
    /// [`PkiError`] names the file that is missing or wrong.
    pub fn open(config: &Config) -> Result<Self, PkiError> {
        let dir = config.data_dir.join("pki");
        if config.dev {
            make_missing(&dir)?;
        }
        let server = server_config(&dir)?;
        Ok(Self {
            dir,
            server: Arc::new(server),
        })
    }

    /// PEM file of an identity that may speak for every terminal: authority, certificate, key.
    pub fn identity(&self) -> PathBuf {
        self.dir.join("identity.pem")
    }

    /// TLS for the QUIC endpoint: TLS 1.3, client certificates required, no tickets, no early data (a revoked device must
    /// not resume).
    pub(crate) fn server(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.server)
    }
}

/// Random bytes for keys.
///
/// The system's generator has no failure that a process could go on after; rustls ends it in the same case.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    let filled = aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
    if filled.is_err() {
        tracing::error!("the system gives no random bytes; ending the process");
        std::process::abort();
    }
    bytes
}

fn make_missing(dir: &Path) -> Result<(), PkiError> {
    fs::create_dir_all(dir).map_err(|cause| PkiError::Io {
        doing: "make",
        path: dir.to_path_buf(),
        cause,
    })?;
    let (ca_file, ca_key_file) = (dir.join("ca.pem"), dir.join("ca.key"));
    let bad = |path: &Path| {
        let path = path.to_path_buf();
        move |error: rcgen::Error| PkiError::Bad {
            path,
            cause: error.to_string(),
        }
    };
    if !ca_file.exists() {
        let key = KeyPair::generate().map_err(bad(&ca_key_file))?;
        let key_pem = key.serialize_pem();
        let authority = CertifiedIssuer::self_signed(authority(), key).map_err(bad(&ca_file))?;
        put_in_place(&ca_key_file, key_pem.as_bytes(), true)?;
        put_in_place(&ca_file, authority.pem().as_bytes(), false)?;
    }
    let (server, identity) = (dir.join("server.pem"), dir.join("identity.pem"));
    if server.exists() && identity.exists() {
        return Ok(());
    }
    let ca_pem = read(&ca_file)?;
    let key = KeyPair::from_pem(&read(&ca_key_file)?).map_err(bad(&ca_key_file))?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, key).map_err(bad(&ca_file))?;
    if !server.exists() {
        let (certificate, key) = issue(&issuer, server_params()).map_err(bad(&server))?;
        put_in_place(&server, format!("{certificate}{key}").as_bytes(), true)?;
    }
    if !identity.exists() {
        let (certificate, key) =
            issue(&issuer, device_params("till://*")).map_err(bad(&identity))?;
        put_in_place(
            &identity,
            format!("{ca_pem}{certificate}{key}").as_bytes(),
            true,
        )?;
    }
    Ok(())
}

fn issue(
    issuer: &Issuer<'_, KeyPair>,
    params: Result<CertificateParams, rcgen::Error>,
) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = params?.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Tillstream development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server_params() -> Result<CertificateParams, rcgen::Error> {
    let names = [SERVER_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named(SERVER_NAME);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn device_params(speaks_for: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Tillstream development device");
    params.subject_alt_names = vec![SanType::URI(speaks_for.try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn server_config(dir: &Path) -> Result<QuicServerConfig, PkiError> {
    let (ca, server) = (dir.join("ca.pem"), dir.join("server.pem"));
    let bad = |path: &Path, cause: String| PkiError::Bad {
        path: path.to_path_buf(),
        cause,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&ca)? {
        roots
            .add(certificate)
            .map_err(|error| bad(&ca, error.to_string()))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| bad(&ca, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(read(&server)?.as_bytes())
        .map_err(|error| bad(&server, error.to_string()))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(&server, error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&server)?, key)
        .map_err(|error| bad(&server, error.to_string()))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    QuicServerConfig::try_from(tls).map_err(|error| bad(&server, error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(read(path)?.as_bytes()).collect();
    let found = found.map_err(|error| PkiError::Bad {
        path: path.to_path_buf(),
        cause: error.to_string(),
    })?;
    if found.is_empty() {
        return Err(PkiError::Bad {
            path: path.to_path_buf(),
            cause: "holds no certificate".to_owned(),
        });
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|cause| PkiError::Io {
        doing: "read",
        path: path.to_path_buf(),
        cause,
    })
}

/// The terminals that a certificate may speak for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Speaks {
    all: bool,
    stores: Vec<StoreId>,
    terminals: Vec<TerminalId>,
}

impl Speaks {
    /// Reads the URIs of a device's certificate. URIs of other kinds, and certificates that cannot be read, give nothing.
    pub fn of_certificate(der: &[u8]) -> Self {
        let mut speaks = Self::default();
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return speaks;
        };
        for extension in certificate.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                for name in &names.general_names {
                    if let GeneralName::URI(uri) = name {
                        speaks.add(uri);
                    }
                }
            }
        }
        speaks
    }

    /// Whether it may speak for a terminal.
    pub fn may(&self, terminal: TerminalId) -> bool {
        self.all || self.stores.contains(&terminal.store()) || self.terminals.contains(&terminal)
    }

    fn add(&mut self, uri: &str) {
        let Some(place) = uri.strip_prefix("till://") else {
            return;
        };
        if place == "*" {
            self.all = true;
            return;
        }
        let Some((store, till)) = place.split_once('/') else {
            return;
        };
        let Some(store) = store
            .parse()
            .ok()
            .and_then(|number| StoreId::new(number).ok())
        else {
            return;
        };
        if till == "*" {
            self.stores.push(store);
        } else if let Some(till) = till
            .parse()
            .ok()
            .and_then(|number| TillId::new(number).ok())
        {
            self.terminals.push(TerminalId::new(store, till));
        }
    }
}

#[cfg(test)]
mod tests;
