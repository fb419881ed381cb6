//! Numbers as people read them.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use till_core::Space;
use till_protocol::currency::Currency;
use till_protocol::family::sale::v1::tender;
use till_protocol::id::SkuId;
use till_protocol::money::format_decimal_wide;
use till_protocol::quantity::Quantity;

use crate::views::{StoreError, Views};

/// The zone of a store, from the built-in database; UTC for a name that it does not have.
pub(super) fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled()
        .get(name)
        .unwrap_or(TimeZone::UTC)
}

/// An instant as RFC 3339 with the zone's offset; `Z` where that is zero.
pub(super) fn instant(zone: &TimeZone, us: i64) -> String {
    let Ok(at) = Timestamp::from_microsecond(us) else {
        return String::new();
    };
    let offset = zone.to_offset(at);
    if offset.seconds() == 0 {
        return at.to_string();
    }
    at.display_with_offset(offset).to_string()
}

/// Offset of the zone at an instant, in seconds.
pub(super) fn offset_s(zone: &TimeZone, us: i64) -> i32 {
    Timestamp::from_microsecond(us).map_or(0, |at| zone.to_offset(at).seconds())
}

/// An instant as RFC 3339 with this offset.
pub(super) fn at_offset(us: i64, offset_s: i32) -> String {
    let offset = jiff::tz::Offset::from_seconds(offset_s).unwrap_or(jiff::tz::Offset::UTC);
    instant(&TimeZone::fixed(offset), us)
}

/// An instant as RFC 3339 in UTC.
pub(super) fn utc(us: i64) -> String {
    instant(&TimeZone::UTC, us)
}

/// The code of a currency; its number where it has none.
pub fn currency(number: u16) -> String {
    Currency::from_numeric(number).map_or_else(
        |_| format!("{number:03}"),
        |currency| currency.code().to_owned(),
    )
}

/// A quantity of 1e-5 units without needless zeros: "12.5".
pub(super) fn quantity(raw: i128) -> String {
    let text = format_decimal_wide(raw, Quantity::DECIMALS);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The code of a SKU; its id where it has none.
pub(super) fn sku(views: &dyn Views, id: u64) -> Result<String, StoreError> {
    let name = views.name(Space::Sku, id)?;
    Ok(name.unwrap_or_else(|| SkuId::from_u64(id).to_string()))
}

/// The name of a tender by its key; the key in hexadecimal where it has none.
pub(super) fn tender(views: &dyn Views, key: u64) -> Result<String, StoreError> {
    let kind = usize::try_from(key).ok();
    if let Some(name) = kind.and_then(|kind| tender::NAMES.get(kind)) {
        return Ok((*name).to_owned());
    }
    let name = views.name(Space::Tender, key)?;
    Ok(name.unwrap_or_else(|| format!("#{key:016x}")))
}

/// The id that a text stands for: a code, or an id as answers show it where a code is missing (`#` and 16 digits).
pub fn sku_id(text: &str) -> SkuId {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 16);
    let id = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    id.map_or_else(|| SkuId::of_code(text), SkuId::from_u64)
}
