//! A port to come back at, for engines that are killed and started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use anyhow::{Context as _, Result};
use rand::RngExt as _;

/// Below those that the system gives to whoever asks for any (32768 and up on Linux), above those of well-known services.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// A port of the loopback address that nobody is given by chance: also not while its engine is down.
#[derive(Debug)]
pub struct ReservedPort {
    port: u16,
    /// Tells other tests of this machine. The system takes the name back with the process.
    _name: UnixListener,
}

impl ReservedPort {
    /// Takes one that nobody has.
    ///
    /// # Errors
    /// When none is found.
    pub fn take() -> Result<Self> {
        let mut chance = rand::rng();
        let mut tries = (0..1_000).map(|_| chance.random_range(PORTS));
        let taken = tries.find_map(|port| Some((port, claim(port)?)));
        let (port, name) = taken.context("no port is free")?;
        Ok(Self { port, _name: name })
    }

    /// Its address, UDP or TCP.
    pub const fn addr(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }
}

/// The name of a port, unless another test or another program has it.
fn claim(port: u16) -> Option<UnixListener> {
    let name = UnixAddr::from_abstract_name(format!("tillstream-test-port-{port}")).ok()?;
    let name = UnixListener::bind_addr(&name).ok()?;
    let at = (Ipv4Addr::LOCALHOST, port);
    let is_free = UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok();
    is_free.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_tests_until_it_lets_go_of_it() {
        let one = ReservedPort::take().unwrap();
        assert!(claim(one.port).is_none());
        let port = one.port;
        drop(one);
        let again = claim(port);
        assert!(again.is_some());
    }

    #[test]
    fn a_port_that_another_program_has_is_not_taken() {
        let one = ReservedPort::take().unwrap();
        let at = one.addr();
        drop(one);
        let _other = UdpSocket::bind(at).unwrap();
        assert!(claim(at.port()).is_none());
    }
}
