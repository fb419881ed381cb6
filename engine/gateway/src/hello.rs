//! The first word of a stream: what may be one, and whose it may be.

use till_protocol::code::Reason;
use till_protocol::header::FrameHeader;
use till_protocol::id::TerminalId;
use till_protocol::limits::HELLO_BYTES_MAX;
use till_protocol::reply::{Bye, Hello, Message, PROTOCOL};
use till_runtime::End;

use crate::pki::Authorisation;

/// The families that a Hello lists, in the version that is known here.
#[derive(Clone, Copy)]
pub(crate) struct KnownFamilies(u32);

impl KnownFamilies {
    pub(crate) fn of(hello: &Hello) -> Self {
        let known = hello.versions.iter().filter(|(_, version)| *version == 1);
        let bits = known.map(|(family, _)| bit(*family));
        Self(bits.fold(0, |all, one| all | one))
    }

    pub(crate) fn has(self, family: u8) -> bool {
        self.0 & bit(family) != 0
    }
}

// No bit for a family that cannot be.
fn bit(family: u8) -> u32 {
    1_u32.checked_shl(u32::from(family)).unwrap_or(0)
}

/// Whether a certificate speaks for a terminal; what the device is told where it does not.
pub(crate) fn authorised(
    authorisation: &Authorisation,
    terminal: TerminalId,
) -> Result<(), Message> {
    if authorisation.may(terminal) {
        return Ok(());
    }
    let text = format!("the certificate does not speak for terminal {terminal}");
    let reason = Reason::ForeignTerminal;
    Err(Bye { reason, text }.into())
}

/// Nobody speaks yet, and no budget is asked: of what is not going to be a Hello nothing is gathered.
pub(crate) fn begins_hello(head: &FrameHeader) -> Result<(), End> {
    if !head.is_session() {
        let text = "events came before a Hello".to_owned();
        return Err(End::Bye(Reason::BadMessage, Some(text)));
    }
    if head.length > HELLO_BYTES_MAX {
        let text = format!(
            "the first message announces {} bytes; a Hello has {HELLO_BYTES_MAX} at most",
            head.length
        );
        return Err(End::Bye(Reason::BadHello, Some(text)));
    }
    Ok(())
}

/// A Hello in words that are known here.
pub(crate) fn understood(hello: Hello) -> Result<Box<Hello>, End> {
    let families = till_protocol::family::Family::from_u8;
    let known = |(family, version): &(u8, u8)| families(*family).is_some() && *version == 1;
    if hello.versions.is_empty() || !hello.versions.iter().any(known) {
        let text = format!("till/{PROTOCOL} knows version 1 of each family");
        return Err(End::Bye(Reason::BadHello, Some(text)));
    }
    Ok(Box::new(hello))
}
