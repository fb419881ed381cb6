//! Addresses: a busy default is replaced by a free port, a busy choice is an error.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use till_gateway::{Door, GatewayError};
use till_ops::Port;

use crate::output::note;

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
            note(format!(
                "the usual admin port {ADMIN_PORT} is busy; took {}",
                port.address()
            ));
            Ok(port)
        }
        bound => Ok(bound?),
    }
}

/// Binds the port for devices: the chosen address, or the usual one, or a free one.
///
/// # Errors
/// Returns an error that names the chosen address when it cannot be bound.
pub(crate) fn quic(chosen: Option<SocketAddr>) -> anyhow::Result<Door> {
    match chosen {
        Some(address) => Ok(Door::bind(address)?),
        None => quic_near(local(QUIC_PORT)),
    }
}

// Bound at the first look and kept: of two engines that start together one gets the usual port, and the other sees that.
fn quic_near(usual: SocketAddr) -> anyhow::Result<Door> {
    match Door::bind(usual) {
        Err(GatewayError::Listen { cause, .. }) if cause.kind() == io::ErrorKind::AddrInUse => {
            let door = Door::bind(local(0))?;
            note(format!(
                "the usual port for devices {} is busy; took {}",
                usual.port(),
                door.address()
            ));
            Ok(door)
        }
        bound => Ok(bound?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_that_start_together_never_get_one_port() {
        let free = Door::bind(local(0)).unwrap();
        let usual = free.address();
        drop(free);
        // Both have chosen before either takes devices in.
        let first = quic_near(usual).unwrap();
        let second = quic_near(usual).unwrap();
        assert_ne!(first.address(), second.address());
        for door in [&first, &second] {
            assert!(std::net::UdpSocket::bind(door.address()).is_err());
        }
    }
}
