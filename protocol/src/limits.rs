//! Every limit of the wire, once, and how they relate.

/// Largest payload of a frame of events, in bytes. More costs memory per connection; less costs a sync per event.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Most events in one frame.
pub const FRAME_EVENTS_MAX: u32 = 1_024;
/// Largest payload of a session message, in bytes.
pub const SESSION_BYTES_MAX: u32 = 16 * 1_024;
/// Largest payload of a Hello, in bytes.
pub const HELLO_BYTES_MAX: u32 = 256;
/// Most (family, version) pairs in a Hello.
pub const HELLO_VERSIONS_MAX: usize = 32;
/// Longest name of a time zone, in bytes.
pub const ZONE_BYTES_MAX: usize = 64;
/// Most refusals in one Ack: a frame that is refused whole fits.
pub const ACK_REFUSALS_MAX: usize = 1_024;
/// Most digests in one Check.
pub const CHECK_DIGESTS_MAX: usize = 512;
/// Longest text of a Bye and longest address of a Redirect, in bytes.
pub const NOTICE_BYTES_MAX: usize = 255;

/// Most lines of one sale.
pub const LINES_PER_SALE_MAX: u16 = 8_192;
/// Most taxes of one sale.
pub const TAXES_PER_SALE_MAX: u16 = 8_192;
/// Most adjustments of one sale.
pub const ADJUSTMENTS_PER_SALE_MAX: u16 = 8_192;
/// Most tenders of one sale.
pub const TENDERS_PER_SALE_MAX: u8 = u8::MAX;
/// Most texts of one event: one name for each line and one more.
pub const TEXTS_PER_EVENT_MAX: u32 = 16_384;
/// Most references of one event.
pub const REFS_PER_EVENT_MAX: u32 = 16;
/// Longest text of an event, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: u8 = 64;
/// Largest receipt number: 12 digits, so that it can never be a card number.
pub const RECEIPT_MAX: u64 = 999_999_999_999;
/// Most decimals of a unit price.
pub const PRICE_SCALE_MAX: u8 = 9;
/// Largest distance of a local clock from UTC, in minutes.
pub const OFFSET_MIN_MAX: i16 = 18 * 60;
/// Latest time of an event: the end of day 65,534 (2149-06-05), in us since 1970-01-01 UTC. The earliest is 0.
pub const TIME_US_MAX: i64 = 65_535 * 86_400_000_000 - 1;

#[expect(
    clippy::as_conversions,
    reason = "u16 to u32 widens; From is not const"
)]
const fn wide(number: u16) -> u32 {
    number as u32
}

#[expect(
    clippy::as_conversions,
    reason = "lists of the wire are far shorter than 2^32; From is not const"
)]
const fn size(count: usize) -> u32 {
    count as u32
}

// A frame that is refused event by event is answered by one Ack.
const _: () = assert!(FRAME_EVENTS_MAX <= size(ACK_REFUSALS_MAX));
// The longest Ack, Check and Hello fit a session message.
const _: () = assert!(18 + size(ACK_REFUSALS_MAX) * 12 <= SESSION_BYTES_MAX);
const _: () = assert!(14 + size(CHECK_DIGESTS_MAX) * 8 <= SESSION_BYTES_MAX);
const _: () = assert!(26 + size(HELLO_VERSIONS_MAX) * 2 + size(ZONE_BYTES_MAX) <= HELLO_BYTES_MAX);
// The largest sale fits a frame beside its root of 80 bytes: 34, and 32 a line, 22 a tax, 14 an adjustment, 10 a tender.
const _: () = assert!(
    34 + wide(LINES_PER_SALE_MAX) * 32
        + wide(TAXES_PER_SALE_MAX) * 22
        + wide(ADJUSTMENTS_PER_SALE_MAX) * 14
        + 255 * 10
        + 80
        <= FRAME_BYTES_MAX
);
// Each line can be named, and no index of a line or an event is WHOLE_EVENT.
const _: () = assert!(wide(LINES_PER_SALE_MAX) < TEXTS_PER_EVENT_MAX);
const _: () = assert!(LINES_PER_SALE_MAX < u16::MAX && FRAME_EVENTS_MAX < wide(u16::MAX));
/// Largest UDP payload that an engine takes, in bytes. Ten such packets fit one call of segmentation offload (64 KiB). Devices search
/// for what their path carries (RFC 8899): loopback and networks with jumbo frames carry this, most others 1,452.
pub const UDP_PAYLOAD_MAX: u16 = 6_500;
