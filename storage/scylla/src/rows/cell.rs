//! Numbers as CQL has them: signed, or of any width.

use std::cmp::Ordering;

use scylla::cluster::metadata::ColumnType;
use scylla::deserialize::value::DeserializeValue;
use scylla::deserialize::{DeserializationError, FrameSlice, TypeCheckError};
use scylla::serialize::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use scylla::value::{CqlDate, CqlVarint, CqlVarintBorrowed};

/// An id of 64 bits as a blob of eight bytes, the first byte first: CQL shows it as it is typed (`0x90e8590e43010a51`), and puts
/// ids in the order of the numbers.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Id64(pub(crate) u64);

impl SerializeValue for Id64 {
    fn serialize<'b>(
        &self,
        kind: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        self.0.to_be_bytes().as_slice().serialize(kind, writer)
    }
}

impl<'f, 'm> DeserializeValue<'f, 'm> for Id64 {
    fn type_check(kind: &ColumnType<'_>) -> Result<(), TypeCheckError> {
        <&[u8] as DeserializeValue>::type_check(kind)
    }

    fn deserialize(
        kind: &'m ColumnType<'m>,
        value: Option<FrameSlice<'f>>,
    ) -> Result<Self, DeserializationError> {
        let bytes = <&[u8] as DeserializeValue>::deserialize(kind, value)?;
        let bytes: [u8; 8] = bytes.try_into().map_err(DeserializationError::new)?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

/// A number of any width that is read in numbers of rows, without a buffer of its own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Wide(pub(crate) i128);

/// No number, or one that is wider than any that we write.
#[derive(Debug, thiserror::Error)]
#[error("a number of {0} bytes")]
struct TooWide(usize);

impl<'f, 'm> DeserializeValue<'f, 'm> for Wide {
    fn type_check(kind: &ColumnType<'_>) -> Result<(), TypeCheckError> {
        <CqlVarintBorrowed<'_> as DeserializeValue>::type_check(kind)
    }

    fn deserialize(
        _: &'m ColumnType<'m>,
        value: Option<FrameSlice<'f>>,
    ) -> Result<Self, DeserializationError> {
        let bytes = value.map_or(&[][..], |value| value.as_slice());
        let too_wide = || DeserializationError::new(TooWide(bytes.len()));
        wide_of(bytes).map(Self).ok_or_else(too_wide)
    }
}

/// A column of a partition's key. Any order does, as long as equal ones come together.
pub(crate) trait Part {
    /// Compares two.
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! part {
    ($($type:ty),+) => {
        $(impl Part for $type {
            fn order(&self, other: &Self) -> Ordering {
                self.cmp(other)
            }
        })+
    };
}
part!(i8, i32, i64, Id64, String, Vec<u8>);

impl Part for CqlDate {
    fn order(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

/// 1970-01-01 as CQL counts days.
const EPOCH_DAY: u32 = 1 << 31;

/// A number of any width, in as few bytes as hold it.
pub(crate) fn varint(number: i128) -> CqlVarint {
    let bytes = number.to_be_bytes();
    let sign = if number < 0 { 0xff } else { 0 };
    // A leading byte goes where the next one has the same sign.
    let needless = bytes
        .windows(2)
        .take_while(
            |pair| matches!(pair, [lead, next] if *lead == sign && (next ^ sign) & 0x80 == 0),
        )
        .count();
    CqlVarint::from_signed_bytes_be(bytes.into_iter().skip(needless).collect())
}

/// The number back; `None` for one that is wider than any that we write.
pub(crate) fn wide(number: &CqlVarint) -> Option<i128> {
    wide_of(number.as_signed_bytes_be_slice())
}

fn wide_of(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let rest = 16_usize.checked_sub(bytes.len())?;
    let sign = if first & 0x80 == 0 { 0 } else { 0xff };
    let mut whole = [sign; 16];
    whole.get_mut(rest..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}

/// A day since 1970-01-01.
pub(crate) fn date(day: u16) -> CqlDate {
    CqlDate(EPOCH_DAY + u32::from(day))
}

/// The day back; `None` for one that no business day can be.
pub(crate) fn day_of_date(date: CqlDate) -> Option<u16> {
    u16::try_from(date.0.checked_sub(EPOCH_DAY)?).ok()
}

/// The UTC date of an instant in us since 1970-01-01. Every instant has one.
pub(crate) fn date_of_us(us: i64) -> CqlDate {
    let days = us.div_euclid(86_400_000_000);
    let day = u32::try_from(days + i64::from(EPOCH_DAY)).unwrap_or(EPOCH_DAY);
    CqlDate(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_width_come_back_in_few_bytes() {
        let cases = [
            (0, 1),
            (127, 1),
            (128, 2),
            (-128, 1),
            (-129, 2),
            (i128::from(i64::MAX), 8),
            (i128::from(u64::MAX), 9),
            (i128::MIN, 16),
            (i128::MAX, 16),
        ];
        for (number, bytes) in cases {
            let cell = varint(number);
            assert_eq!(
                cell.as_signed_bytes_be_slice().len(),
                bytes,
                "{number} takes as many bytes as it needs"
            );
            assert_eq!(wide(&cell), Some(number));
        }
        let padded = CqlVarint::from_signed_bytes_be(vec![0, 0, 5]);
        assert_eq!(wide(&padded), Some(5));
        let too_wide = CqlVarint::from_signed_bytes_be(vec![1; 17]);
        assert_eq!(wide(&too_wide), None);
    }

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(day_of_date(date(0)), Some(0));
        assert_eq!(day_of_date(date(u16::MAX)), Some(u16::MAX));
        assert_eq!(day_of_date(CqlDate(5)), None);
        assert_eq!(date_of_us(20_778 * 86_400_000_000 + 1), date(20_778));
        assert_eq!(date_of_us(-1), CqlDate(EPOCH_DAY - 1));
        for us in [i64::MIN, i64::MAX] {
            assert_ne!(date_of_us(us), date(0));
        }
    }
}
