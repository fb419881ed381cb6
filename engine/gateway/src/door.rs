//! The port for devices: bound once, and kept until the engine takes devices in.

use std::net::{SocketAddr, UdpSocket};

use thiserror::Error;

use crate::pki::PkiError;

/// Why the door for devices does not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The certificates are of no use.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The address is taken or not of this machine.
    #[error("could not listen on {address} (UDP): {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
}

/// Bytes of packets that may wait in the kernel in each direction. All devices share this one socket, and a burst of a few
/// hundred of them overflows the usual 200 KiB: what is dropped there is sent again a probe timeout later, at half the pace.
const SOCKET_BYTES: usize = 4 << 20;

/// The port for devices, bound and not open yet. Who has a door has its port, so that nothing comes between the choice of a
/// port and its use.
#[derive(Debug)]
pub struct Door {
    pub(crate) socket: UdpSocket,
    address: SocketAddr,
}

impl Door {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`GatewayError::Listen`] when the address is taken, or not of this machine.
    pub fn bind(address: SocketAddr) -> Result<Self, GatewayError> {
        let failed = |cause| GatewayError::Listen { address, cause };
        let socket = UdpSocket::bind(address).map_err(failed)?;
        widen(&socket);
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// The address that it got.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

// The kernel cuts the wish to its own maximum; a smaller buffer is slower under load, and no error. What it tells counts its
// own bookkeeping too: twice of what was asked for.
fn widen(socket: &UdpSocket) {
    use rustix::net::sockopt;
    let widened = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BYTES)
        .and_then(|()| sockopt::set_socket_send_buffer_size(socket, SOCKET_BYTES))
        .and_then(|()| {
            let receive = sockopt::socket_recv_buffer_size(socket)?;
            Ok((receive, sockopt::socket_send_buffer_size(socket)?))
        });
    match widened {
        Ok((receive, send)) => tracing::info!(
            receive,
            send,
            wanted = 2 * SOCKET_BYTES,
            "buffers of the socket for devices; net.core.rmem_max and wmem_max bound them"
        ),
        Err(error) => tracing::warn!(%error, "the socket for devices keeps the usual buffers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_keeps_its_port_from_others_until_it_is_gone() {
        let door = Door::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let again = Door::bind(door.address());
        let Err(GatewayError::Listen { address, cause }) = again else {
            panic!("two doors at one port: {again:?}");
        };
        assert_eq!(address, door.address());
        assert_eq!(cause.kind(), std::io::ErrorKind::AddrInUse);
    }

    /// The kernel may grant less than what is asked for; never less than there was.
    #[test]
    fn the_socket_of_all_devices_gets_wider_buffers() {
        use rustix::net::sockopt;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sizes = || {
            let receive = sockopt::socket_recv_buffer_size(&socket).unwrap();
            (receive, sockopt::socket_send_buffer_size(&socket).unwrap())
        };
        sockopt::set_socket_recv_buffer_size(&socket, 4 << 10).unwrap();
        sockopt::set_socket_send_buffer_size(&socket, 4 << 10).unwrap();
        let narrow = sizes();
        widen(&socket);
        let wide = sizes();
        assert!(
            wide.0 > narrow.0 && wide.1 > narrow.1,
            "{narrow:?} {wide:?}"
        );
        // A door has the same as soon as it is bound.
        let door = Door::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let receive = sockopt::socket_recv_buffer_size(&door.socket).unwrap();
        assert_eq!(receive, wide.0);
    }
}
