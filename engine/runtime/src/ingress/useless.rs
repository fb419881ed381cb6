//! What costs points that is to no effect: it changes nothing, and costs the engine as much as what does.

use till_protocol::code::Reason;

/// A stream that ends to no effect.
const STREAM: u64 = 8;
/// Events of an unreadable frame that count as much as a frame: each leaves a refusal.
const EVENTS: u64 = 64;

/// What a frame that cannot be read costs.
pub(super) fn unreadable(events: u32) -> u64 {
    1 + u64::from(events) / EVENTS
}

/// What a stream costs that ends with a reason: nothing where it is the engine's.
pub const fn ended(reason: Reason) -> u64 {
    match reason {
        Reason::Busy
        | Reason::Draining
        | Reason::Moved
        | Reason::Full
        | Reason::Internal
        | Reason::TerminalParked
        | Reason::Superseded => 0,
        _ => STREAM,
    }
}
