//! Reasons: why something was not done, as numbers that never change meaning.
//!
//! Append-only. A number that is no longer used stays retired. `SPEC.md` lists them all; a test compares.

use std::fmt;

macro_rules! reasons {
    ($($name:ident = $code:literal, $words:literal, $advice:literal;)*) => {
        /// Why a stream was ended, an event refused, or a durable event quarantined.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = $advice] $name,)*
            /// A reason that this version of the software does not know: the other side is newer.
            Other(u16),
        }

        impl Reason {
            /// All reasons that have a name, in rising order of their codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number on the wire and in the journal.
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// The reason with this number.
            pub const fn from_code(code: u16) -> Self {
                match code {
                    $($code => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// Lowercase words for logs, metrics and screens.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                    Self::Other(_) => "other",
                }
            }

            /// One sentence: what it means.
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $advice,)*
                    Self::Other(_) => "The other side is newer and gave a reason without a name here.",
                }
            }
        }
    };
}

reasons! {
    // 1-19: the stream can't be read. Bye; the outbox is kept.
    BadMagic = 1, "bad magic", "The frame does not start with TILL.";
    BadCrc = 2, "bad crc", "The checksum of the frame does not match its bytes.";
    TooLarge = 3, "too large", "The header announces more bytes or events than a frame may have.";
    Unsupported = 4, "unsupported version", "This family or version is not known here.";
    BadHeader = 5, "bad header", "A reserved field is not zero, or count or sequence number is out of range.";
    BadMessage = 6, "bad message", "A session message is unknown, cut short or out of place.";
    BadHello = 7, "bad hello", "The Hello is malformed or names no version that is known here.";
    Truncated = 8, "truncated", "The stream ended in the middle of a frame.";
    // 20-39: the session is not allowed. Bye; the outbox is kept.
    ForeignTerminal = 20, "foreign terminal", "The certificate does not speak for this terminal.";
    UnknownTerminal = 21, "unknown terminal", "The terminal is not enrolled.";
    Revoked = 22, "revoked", "The identity was revoked.";
    StaleEpoch = 23, "stale epoch", "The terminal has a newer epoch; take a new one.";
    CurrencyMismatch = 24, "currency mismatch", "The store is registered with another currency.";
    ZoneMismatch = 25, "zone mismatch", "The store is registered with another time zone.";
    UnknownZone = 26, "unknown zone", "The time zone is not in the tz database.";
    UnknownCurrency = 27, "unknown currency", "The currency is not in ISO 4217 or has no minor unit.";
    UnregisteredStore = 28, "unregistered store", "The store is new and the Hello states no currency and zone.";
    Superseded = 29, "superseded", "A later session of the same terminal took its place.";
    // 40-59: not now. Bye; come again.
    Busy = 40, "busy", "The server is at its limit; come again later.";
    Draining = 41, "draining", "The server is about to stop; come again or elsewhere.";
    Moved = 42, "moved", "The store is served elsewhere.";
    Gap = 43, "gap", "Sequence numbers are missing before this frame.";
    Idle = 44, "idle", "Nothing was heard for too long.";
    Full = 45, "full", "The disk is full; nothing is lost and nothing is taken until there is room.";
    Internal = 46, "internal", "The server failed; what was not acknowledged is sent again.";
    TerminalParked = 47, "terminal parked", "What the terminal sends makes the server fail; it is kept out until the server starts again.";
    // 100-199: the event is refused. It consumes its sequence number.
    Unreadable = 100, "unreadable", "The payload is not an archive of the announced type, or contradicts itself.";
    UnknownKind = 101, "unknown kind", "A kind of event, line, tender, extra or adjustment is not known.";
    UnknownFlags = 102, "unknown flags", "A flag bit is not known.";
    UnknownUnit = 103, "unknown unit", "A unit of measure is not known.";
    ReservedNotZero = 104, "reserved not zero", "A reserved field is not zero.";
    ReceiptNumber = 105, "receipt number", "The receipt number has more than 12 digits.";
    BadText = 106, "bad text", "A text is not UTF-8, too long, of unknown kind, or names no line.";
    BadReference = 107, "bad reference", "A reference is of unknown kind, or one kind comes twice.";
    TooMany = 108, "too many", "The event has more lines, taxes, adjustments, texts or references than allowed.";
    BadIndex = 109, "bad index", "A tax, adjustment, extra or price names a line or tender that is not there.";
    BadTime = 110, "bad time", "The time lies outside 1970-01-01 to 2149-06-05, or the offset beyond 18 hours.";
    BadPrice = 111, "bad price", "The scale of a unit price is above 9.";
    // 200-299: the event is durable and quarantined.
    Conflict = 200, "conflict", "The same event id came before with other content.";
    SkuCollision = 201, "sku collision", "Two codes have the same id; the later one is not merged.";
    Parked = 202, "parked", "The SKU, terminal or total that it concerns is parked after a broken invariant.";
    TenderCollision = 203, "tender collision", "Two tender names have the same key; the later one is not merged.";
    Overflow = 204, "overflow", "A total would leave its range.";
}

impl Reason {
    /// Whether it is about one event, which then consumed its sequence number.
    pub const fn is_refusal(self) -> bool {
        matches!(self.code(), 100..200)
    }

    /// Whether the event is durable and quarantined.
    pub const fn is_quarantine(self) -> bool {
        matches!(self.code(), 200..300)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(code) => write!(f, "reason {code}"),
            named => f.write_str(named.name()),
        }
    }
}

#[cfg(test)]
mod tests;
