//! The first word of a stream: what may be one, and whether its terminal may speak here.

use std::sync::Arc;

use till_protocol::code::Reason;
use till_protocol::header::FrameHeader;
use till_protocol::limits::HELLO_BYTES_MAX;
use till_protocol::reply::{Bye, Hello, Message, PROTOCOL};

use super::stream::End;
use crate::engine::Engine;
use crate::pki::Speaks;
use crate::registry::Listing;
use crate::route::Slot;

// Where the terminal's frames go, or what it is told instead.
pub(super) fn admit(
    engine: &Engine,
    speaks: &Speaks,
    hello: &Hello,
) -> Result<(Arc<Slot>, Listing), Message> {
    let bye = |reason| Message::from(Bye::new(reason));
    if engine.is_draining() {
        return Err(bye(Reason::Draining));
    }
    if !speaks.may(hello.terminal) {
        let text = format!(
            "the certificate does not speak for terminal {}",
            hello.terminal
        );
        let reason = Reason::ForeignTerminal;
        return Err(Bye { reason, text }.into());
    }
    let store = hello.terminal.store();
    if let Some(last) = engine.not_greeted(store) {
        return Err(last.into_message().unwrap_or_else(|| bye(Reason::Moved)));
    }
    let listing = engine
        .registry
        .admit(hello.terminal, hello.currency, &hello.zone)
        .map_err(bye)?;
    let slot = engine.slot(store).ok_or_else(|| bye(Reason::Internal))?;
    Ok((Arc::clone(slot), listing))
}

// Nobody speaks yet, and no budget is asked: of what is not going to be a Hello nothing is gathered.
pub(super) fn begins_hello(head: &FrameHeader) -> Result<(), End> {
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

pub(super) fn understood(hello: Hello) -> Result<Box<Hello>, End> {
    let families = till_protocol::family::Family::from_u8;
    let known = |(family, version): &(u8, u8)| families(*family).is_some() && *version == 1;
    if hello.versions.is_empty() || !hello.versions.iter().any(known) {
        let text = format!("till/{PROTOCOL} knows version 1 of each family");
        return Err(End::Bye(Reason::BadHello, Some(text)));
    }
    Ok(Box::new(hello))
}
