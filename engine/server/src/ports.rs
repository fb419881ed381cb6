//! Addresses: a busy default is replaced by a free port, a busy choice is an error.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::Context;
use till_ops::Port;

use crate::output::tell;

/// Where devices reach an engine that was told nothing else.
pub(crate) const QUIC_PORT: u16 = 7880;

/// Where people reach an engine that was told nothing else.
pub(crate) const ADMIN_PORT: u16 = 7881;

/// The default on this machine only.
const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Binds the admin port: the chosen address, or the default one, or a free one.
///
/// # Errors
/// Returns an error that names the chosen address when it is busy.
pub(crate) async fn admin(chosen: Option<SocketAddr>) -> anyhow::Result<Port> {
    if let Some(address) = chosen {
        return Ok(Port::bind(address).await?);
    }
    match Port::bind(local(ADMIN_PORT)).await {
        Err(error) if error.cause.kind() == io::ErrorKind::AddrInUse => {
            let port = Port::bind(local(0)).await?;
            tell(format!(
                "the usual admin port {ADMIN_PORT} is busy; took {}",
                port.address()
            ));
            Ok(port)
        }
        bound => Ok(bound?),
    }
}

/// The address for devices: the chosen one if it is free, or the default one, or port 0.
///
/// # Errors
/// Returns an error that names the chosen address when it cannot be bound.
pub(crate) fn quic(chosen: Option<SocketAddr>) -> anyhow::Result<SocketAddr> {
    if let Some(address) = chosen {
        drop(UdpSocket::bind(address).with_context(|| format!("port for devices {address}"))?);
        return Ok(address);
    }
    if UdpSocket::bind(local(QUIC_PORT)).is_ok() {
        return Ok(local(QUIC_PORT));
    }
    tell(format!(
        "the usual port for devices {QUIC_PORT} is busy; taking a free one"
    ));
    Ok(local(0))
}

/// The admin address that the demo gives its engine.
///
/// # Errors
/// Returns an error that names the chosen address when it is busy.
pub(crate) fn demo_admin(chosen: Option<SocketAddr>) -> anyhow::Result<SocketAddr> {
    match chosen {
        Some(address) => {
            drop(TcpListener::bind(address).with_context(|| format!("admin port {address}"))?);
            Ok(address)
        }
        None if TcpListener::bind(local(ADMIN_PORT)).is_ok() => Ok(local(ADMIN_PORT)),
        None => Ok(local(0)),
    }
}
