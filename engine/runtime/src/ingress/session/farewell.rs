//! The last word of a session.

use till_protocol::code::Reason;
use till_protocol::reply::{Bye, Message, Redirect};

/// How a session ends.
#[derive(Clone, Debug)]
pub(crate) enum Farewell {
    /// The device is told why.
    Bye(Reason),
    /// The device is told where its store is served.
    Redirect(String),
    /// The device said goodbye itself.
    Silent,
}

impl Farewell {
    /// The words; `None` where there are none.
    pub(crate) fn into_message(self) -> Option<Message> {
        match self {
            Self::Bye(reason) => Some(Bye::new(reason).into()),
            Self::Redirect(address) => Some(Redirect { address }.into()),
            Self::Silent => None,
        }
    }
}
