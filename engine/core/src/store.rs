//! The actor of a store: registered once, with its currency and time zone.

use thiserror::Error;
use till_protocol::currency::Currency;
use till_protocol::id::StoreId;

use crate::record::RecordHead;
use crate::row::{RowsError, StoreRow, Totals};
use crate::zone::{UnknownZone, Zone};

/// A store that cannot be registered.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum RegisterError {
    /// It is registered with another currency. A currency is fixed for good.
    #[error("store {store} is registered with currency {registered}, not {given}")]
    Currency {
        /// Which store.
        store: StoreId,
        /// ISO 4217 number it has.
        registered: u16,
        /// ISO 4217 number it was to have.
        given: u16,
    },
    /// It is registered with another time zone. A zone is fixed for good.
    #[error("store {store} is registered with time zone {registered}, not {given}")]
    Zone {
        /// Which store.
        store: StoreId,
        /// The zone it has.
        registered: String,
        /// The zone it was to have.
        given: String,
    },
    /// No such currency.
    #[error("{0} is not the ISO 4217 number of a currency with minor units")]
    UnknownCurrency(u16),
    /// No such time zone.
    #[error(transparent)]
    UnknownZone(#[from] UnknownZone),
    /// The store's row could not be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
}

/// A store in memory. Stores are few and are never dropped.
#[derive(Debug)]
pub(crate) struct StoreActor {
    pub(crate) row: StoreRow,
    pub(crate) zone: Zone,
    pub(crate) dirty: bool,
    /// Hours up to this one may have rows that are not in memory.
    pub(crate) hours_stored: i64,
    /// SKUs may have rows that are not in memory.
    pub(crate) skus_stored: bool,
    /// Terminals may have rows that are not in memory.
    pub(crate) terminals_stored: bool,
}

impl StoreActor {
    /// A store whose other rows may all be there.
    pub(crate) fn stored(row: StoreRow) -> Result<Self, UnknownZone> {
        let zone = Zone::new(&row.zone)?;
        Ok(Self {
            row,
            zone,
            dirty: false,
            hours_stored: i64::MAX,
            skus_stored: true,
            terminals_stored: true,
        })
    }

    /// A store that a record registers: nothing of it is stored.
    pub(crate) fn registered(
        head: &RecordHead,
        registration: Registration,
        applied: u64,
    ) -> Result<Self, UnknownZone> {
        let row = StoreRow {
            currency: registration.currency,
            zone: registration.zone,
            registered_at_us: head.received_at_us,
            applied,
            training: Totals::default(),
        };
        Ok(Self {
            hours_stored: i64::MIN,
            skus_stored: false,
            terminals_stored: false,
            ..Self::stored(row)?
        })
    }

    /// Whether a registration says what is known.
    pub(crate) fn compare(
        &self,
        store: StoreId,
        currency: u16,
        zone: &str,
    ) -> Result<(), RegisterError> {
        if self.row.currency != currency {
            let registered = self.row.currency;
            return Err(RegisterError::Currency {
                store,
                registered,
                given: currency,
            });
        }
        if self.row.zone != zone {
            let registered = self.row.zone.clone();
            return Err(RegisterError::Zone {
                store,
                registered,
                given: zone.to_owned(),
            });
        }
        Ok(())
    }
}

/// What a registration states, as it stands in its record: currency u16 little-endian, then the zone's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    /// ISO 4217 number.
    pub currency: u16,
    /// IANA name.
    pub zone: String,
}

impl Registration {
    /// Checks the parts and spells the zone as the database does.
    ///
    /// # Errors
    /// Returns [`RegisterError`] for a currency or zone that does not exist.
    pub fn new(currency: u16, zone: &str) -> Result<Self, RegisterError> {
        Currency::from_numeric(currency).map_err(|_| RegisterError::UnknownCurrency(currency))?;
        Ok(Self {
            currency,
            zone: Zone::new(zone)?.name().to_owned(),
        })
    }

    /// The payload of its record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.currency.to_le_bytes().to_vec();
        bytes.extend_from_slice(self.zone.as_bytes());
        bytes
    }

    /// Reads the payload back.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let (currency, zone) = payload.split_first_chunk::<2>()?;
        let zone = std::str::from_utf8(zone).ok()?.to_owned();
        Some(Self {
            currency: u16::from_le_bytes(*currency),
            zone,
        })
    }
}
