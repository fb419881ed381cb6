//! Who a device is: the CA that it trusts, its certificate and its key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig};
use quinn::{ClientConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use till_protocol::limits::UDP_PAYLOAD_MAX;

pub use till_protocol::reply::ALPN;
/// The name that every engine's certificate carries, whatever its address.
pub const SERVER_NAME: &str = "tillstream";

/// What a device shows to an engine and what it expects to be shown.
#[derive(Debug)]
pub struct Identity {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            roots: self.roots.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// Why an identity can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file can't be read.
    #[error("can't read the identity {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The text is not PEM.
    #[error("the identity is not PEM: {0:?}")]
    Pem(pem::Error),
    /// A part is missing.
    #[error(
        "the identity holds {certificates} certificates; it needs the CA's, then the device's, then the device's key"
    )]
    Incomplete {
        /// How many certificates there are.
        certificates: usize,
    },
    /// Certificate and key don't make a client.
    #[error("the identity is not usable: {0}")]
    Tls(#[from] rustls::Error),
    /// The provider lacks QUIC's first cipher.
    #[error("the TLS provider can't do QUIC: {0}")]
    Quic(#[from] NoInitialCipherSuite),
}

impl Identity {
    /// Reads the one-file identity.
    ///
    /// # Errors
    /// Returns [`IdentityError`] when the file can't be read or lacks a part.
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        let text = fs::read(path).map_err(|source| IdentityError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_pem(&text)
    }

    /// Takes an identity from PEM text: the CA's certificate, the device's certificate (chain), the device's key.
    ///
    /// # Errors
    /// Returns [`IdentityError`] when the text is not PEM or lacks a part.
    pub fn from_pem(text: &[u8]) -> Result<Self, IdentityError> {
        let mut certificates = CertificateDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(IdentityError::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(text).map_err(IdentityError::Pem)?;
        if certificates.len() < 2 {
            return Err(IdentityError::Incomplete {
                certificates: certificates.len(),
            });
        }
        let chain = certificates.split_off(1);
        let mut roots = RootCertStore::empty();
        for root in certificates {
            roots.add(root)?;
        }
        Ok(Self { roots, chain, key })
    }

    /// The QUIC client configuration of this identity: TLS 1.3 with client certificate, no early data, no resumption (a
    /// revoked device must not resume).
    ///
    /// # Errors
    /// Returns [`IdentityError`] when certificate and key don't fit each other.
    pub fn client_config(&self, tuning: &Tuning) -> Result<ClientConfig, IdentityError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = Resumption::disabled();
        tls.enable_early_data = false;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::new(tuning.transport()));
        Ok(config)
    }
}

/// Sizes and times of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tuning {
    /// Bytes that may be unacknowledged by the other side's QUIC, over all terminals of the connection.
    pub send_window: u32,
    /// Bytes of answers that may wait unread, over all terminals of the connection.
    pub receive_window: u32,
    /// Bytes of answers that may wait unread for one terminal.
    pub stream_receive_window: u32,
    /// How often an idle connection shows that it lives.
    pub keep_alive: Duration,
    /// Silence after which a connection counts as lost, in ms.
    pub idle_ms: u32,
    /// How long nothing at all may come back for what was sent before the connection counts as lost. A living engine
    /// acknowledges packets within a round trip however busy it is, so this can be far shorter than `idle_ms`; it is the
    /// time that an engine's sudden death costs.
    pub silence: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            send_window: 8 << 20,
            receive_window: 4 << 20,
            stream_receive_window: 64 << 10,
            keep_alive: Duration::from_secs(10),
            idle_ms: 30_000,
            silence: Duration::from_secs(3),
        }
    }
}

impl Tuning {
    fn transport(&self) -> TransportConfig {
        let mut transport = TransportConfig::default();
        let mut discovery = MtuDiscoveryConfig::default();
        // A few probes are lost where the path carries less. Where it carries all, a frame is a quarter of the packets.
        discovery.upper_bound(UDP_PAYLOAD_MAX);
        transport
            .mtu_discovery_config(Some(discovery))
            .send_window(u64::from(self.send_window))
            .receive_window(VarInt::from_u32(self.receive_window))
            .stream_receive_window(VarInt::from_u32(self.stream_receive_window))
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(self.idle_ms))));
        transport
    }
}

#[cfg(test)]
mod tests;
