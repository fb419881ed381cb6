//! An address where connections are refused, for tests of those who look for somebody there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// A TCP address that is bound and not listened at: who connects is refused, and nobody else is given the port meanwhile.
#[derive(Debug)]
pub struct RefusingAddr {
    _bound: OwnedFd,
    addr: SocketAddr,
}

impl RefusingAddr {
    /// Binds a free port of the loopback address.
    ///
    /// # Errors
    /// When the system has none.
    pub fn bind() -> io::Result<Self> {
        let bound = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&bound, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let addr = SocketAddr::try_from(getsockname(&bound)?)?;
        Ok(Self {
            _bound: bound,
            addr,
        })
    }

    /// Where nobody listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}
