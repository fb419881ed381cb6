//! The families of events and, in one module per version, the frozen shape of their records.
//!
//! A frame holds events of one family in one version. A changed shape is a new version beside the old one. All records
//! are fixed-size numbers without padding, in flat vectors; what is rare lies in side vectors whose entries name the event
//! that they belong to, in rising order.

pub mod device;
pub mod sale;
pub mod sensor;
pub mod stock;

use rkyv::{Archive, Deserialize, Serialize};

/// Which kind of events a frame carries. The numbers are those of the frame header and never change.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Family {
    /// Completed retail transactions.
    Sale = 1,
    /// Stock movements, counts and reservations.
    Stock = 4,
    /// Readings of shelf and device sensors.
    Sensor = 5,
    /// Heartbeats of the device itself.
    Device = 9,
}

impl Family {
    /// All families of this version of the software.
    pub const ALL: [Self; 4] = [Self::Sale, Self::Stock, Self::Sensor, Self::Device];

    /// The family with this number, if this software knows it.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Sale),
            4 => Some(Self::Stock),
            5 => Some(Self::Sensor),
            9 => Some(Self::Device),
            _ => None,
        }
    }

    /// The number in the frame header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Sale => 1,
            Self::Stock => 4,
            Self::Sensor => 5,
            Self::Device => 9,
        }
    }

    /// The name used in logs, metrics and queries.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Stock => "stock",
            Self::Sensor => "sensor",
            Self::Device => "device",
        }
    }
}

/// A line, tax or text that belongs to the whole event has this number in its `line` or `item` field.
pub const WHOLE_EVENT: u16 = u16::MAX;

/// A text of an event; its bytes follow those of the text before it in the batch's `text` vector.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Text {
    /// Index of the event in the frame.
    pub event: u16,
    /// Index of the line or tender in the event, or [`WHOLE_EVENT`].
    pub item: u16,
    /// What the text is: one of [`text`].
    pub kind: u8,
    /// Bytes of UTF-8, at most [`TEXT_BYTES_MAX`](crate::limits::TEXT_BYTES_MAX).
    pub len: u8,
}

/// Kinds of [`Text`].
pub mod text {
    /// Receipt id, where it is not a plain number.
    pub const RECEIPT: u8 = 1;
    /// Code of a SKU that this event uses: names the id (see [`SkuId`](crate::id::SkuId)).
    pub const SKU_CODE: u8 = 2;
    /// Name of a tender whose kind is [`NAMED`](crate::family::sale::v1::tender::NAMED).
    pub const TENDER_NAME: u8 = 3;
    /// Reference of a tender at its processor (authorisation, token), never a card number.
    pub const TENDER_REFERENCE: u8 = 4;
    /// Document that a movement belongs to: delivery note, transfer, reservation.
    pub const DOCUMENT: u8 = 5;
    /// Free note.
    pub const NOTE: u8 = 6;
    /// All kinds.
    pub const ALL: [u8; 6] = [
        RECEIPT,
        SKU_CODE,
        TENDER_NAME,
        TENDER_REFERENCE,
        DOCUMENT,
        NOTE,
    ];
}

/// A 16-byte reference of an event.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Reference {
    /// Index of the event in the frame.
    pub event: u16,
    /// What it refers to: one of [`reference`](mod@reference).
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
    /// The reference, opaque to the engine.
    pub value: [u8; 16],
}

/// Kinds of [`Reference`].
pub mod reference {
    /// The source's own id of the event (see [`EventId`](crate::id::EventId)).
    pub const EVENT_ID: u8 = 1;
    /// The customer, as an opaque reference.
    pub const CUSTOMER: u8 = 2;
    /// Who approved an exception, as an opaque reference.
    pub const APPROVER: u8 = 3;
    /// A reservation of stock.
    pub const RESERVATION: u8 = 4;
    /// All kinds.
    pub const ALL: [u8; 4] = [EVENT_ID, CUSTOMER, APPROVER, RESERVATION];
}
