//! Sale, version 1.
//!
//! A completed transaction (header, lines, tenders, taxes, adjustments) is one event. The event's records lie one after
//! another in the batch's vectors: sale *i* owns the next `lines` lines, `tenders` tenders, `taxes` taxes and
//! `adjustments` adjustments. `extras`, `prices`, `refs` and `texts` name their event, in rising order.
//!
//! # Warning
//! Frozen. Do not change, reorder, add or remove a field: golden bytes hold every one. A new shape is `v2`.

use rkyv::{Archive, Deserialize, Serialize};

use crate::family::{Reference, Text};

/// A frame's worth of sales.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Batch {
    /// One per event.
    pub sales: Vec<Sale>,
    /// Lines of all sales, in order.
    pub lines: Vec<Line>,
    /// Tenders of all sales, in order.
    pub tenders: Vec<Tender>,
    /// Taxes of all sales, in order.
    pub taxes: Vec<Tax>,
    /// Adjustments of all sales, in order.
    pub adjustments: Vec<Adjustment>,
    /// Tips, change and cashback.
    pub extras: Vec<TenderExtra>,
    /// Unit prices, where the till states them.
    pub prices: Vec<UnitPrice>,
    /// Event ids, customers, approvers.
    pub refs: Vec<Reference>,
    /// Texts of the events.
    pub texts: Vec<Text>,
    /// UTF-8 bytes of all texts, in order.
    pub text: Vec<u8>,
}

/// The header of a transaction: 34 bytes.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Sale {
    /// When it was completed by the till's clock, in us since 1970-01-01 UTC.
    pub at: i64,
    /// Receipt number below 10^12; 0 where the receipt has none, or one in words (a text of kind RECEIPT).
    pub receipt: u64,
    /// The operator, as an opaque reference; 0 = not stated.
    pub operator: u32,
    /// The till's offset from UTC at `at`, in minutes.
    pub offset_min: i16,
    /// Business day in days since 1970-01-01; 0 = not stated, then the local date of `at` in the store's zone.
    pub business_day: u16,
    /// Number of lines.
    pub lines: u16,
    /// Number of taxes.
    pub taxes: u16,
    /// Number of adjustments.
    pub adjustments: u16,
    /// Number of tenders.
    pub tenders: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// Bits of [`flag`].
    pub flags: u16,
}

/// Kinds of [`Sale`].
pub mod kind {
    /// Goods out, money in.
    pub const SALE: u8 = 1;
    /// Goods back, money out.
    pub const RETURN: u8 = 2;
    /// Goods back and other SKUs out.
    pub const EXCHANGE: u8 = 3;
    /// A transaction that was cancelled before it was completed: kept, and left out of sales and stock.
    pub const VOID: u8 = 4;
    /// Largest kind of this version.
    pub const MAX: u8 = VOID;
}

/// Bits of [`Sale::flags`].
pub mod flag {
    /// Rung up in training mode: kept apart from sales and stock.
    pub const TRAINING: u16 = 1;
    /// Completed while the till was offline.
    pub const OFFLINE: u16 = 2;
    /// All bits of this version.
    pub const ALL: u16 = TRAINING | OFFLINE;
}

/// One line: 32 bytes.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Line {
    /// What was sold.
    pub sku: u64,
    /// How much, in 1e-5 of `unit`; negative where goods came back.
    pub quantity: i64,
    /// Extended amount in minor units, line discounts already off, exclusive tax not in; negative where money went back.
    pub amount: i64,
    /// Category of the item; 0 = not stated.
    pub category: u32,
    /// One of [`line_kind`].
    pub kind: u8,
    /// Unit of measure: one of [`unit`](crate::quantity::unit).
    pub unit: u8,
    /// Bits of [`line_flag`].
    pub flags: u16,
}

/// Kinds of [`Line`].
pub mod line_kind {
    /// Sold.
    pub const SALE: u8 = 1;
    /// Came back.
    pub const RETURN: u8 = 2;
    /// Struck out during the transaction: kept, and left out of every sum.
    pub const VOID: u8 = 3;
    /// Largest kind of this version.
    pub const MAX: u8 = VOID;
}

/// Bits of [`Line::flags`].
pub mod line_flag {
    /// The line moves no stock (service, gift card, goods that came back unfit for sale).
    pub const NO_STOCK: u16 = 1;
    /// All bits of this version.
    pub const ALL: u16 = NO_STOCK;
}

/// A means of payment: 10 bytes.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Tender {
    /// What was paid in minor units, tip, change and cashback included; negative where money went back.
    pub amount: i64,
    /// One of [`tender`].
    pub kind: u8,
    /// Zero.
    pub flags: u8,
}

/// Kinds of [`Tender`], after POSLog TenderType.
pub mod tender {
    /// Not stated.
    pub const UNSPECIFIED: u8 = 0;
    /// Notes and coins.
    pub const CASH: u8 = 1;
    /// Credit or debit card.
    pub const CARD: u8 = 2;
    /// Gift card or other stored value.
    pub const GIFT_CARD: u8 = 3;
    /// Voucher of the chain.
    pub const VOUCHER: u8 = 4;
    /// Manufacturer's coupon.
    pub const COUPON: u8 = 5;
    /// Cheque.
    pub const CHECK: u8 = 6;
    /// Wallet on a phone.
    pub const MOBILE: u8 = 7;
    /// On the customer's account.
    pub const ACCOUNT: u8 = 8;
    /// Largest kind with a name of its own.
    pub const MAX: u8 = ACCOUNT;
    /// Some other means; a text of kind TENDER_NAME says which.
    pub const NAMED: u8 = 255;
    /// Names of the kinds 0 to [`MAX`], as queries show them.
    pub const NAMES: [&str; 9] = [
        "",
        "cash",
        "card",
        "gift_card",
        "voucher",
        "coupon",
        "check",
        "mobile",
        "account",
    ];
}

/// A part of a tender that does not pay for goods: 12 bytes.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct TenderExtra {
    /// Index of the event in the frame.
    pub event: u16,
    /// Index of the tender in the event.
    pub tender: u8,
    /// One of [`extra`].
    pub kind: u8,
    /// Minor units, as a part of the tender's amount.
    pub amount: i64,
}

/// Kinds of [`TenderExtra`].
pub mod extra {
    /// For the staff.
    pub const TIP: u8 = 1;
    /// Given back in cash.
    pub const CHANGE: u8 = 2;
    /// Paid out in cash against a card.
    pub const CASHBACK: u8 = 3;
    /// Largest kind of this version.
    pub const MAX: u8 = CASHBACK;
}

/// A tax: 22 bytes.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Tax {
    /// Minor units.
    pub amount: i64,
    /// Rate in 1e-7 (10,000,000 = 100 %); 0 = not stated.
    pub rate: i64,
    /// Index of the line in the event, or [`WHOLE_EVENT`](crate::family::WHOLE_EVENT).
    pub line: u16,
    /// The chain's code of the tax; 0 = not stated.
    pub code: u16,
    /// 1 where the amount is already in the line's amount, 0 where it comes on top.
    pub inclusive: u8,
    /// Zero.
    pub reserved: u8,
}

/// A discount, charge or rounding: 14 bytes.
///
/// With a line number it explains that line's amount, which has it in already; an adjustment of the whole sale that was
/// apportioned to its lines is one entry per line with a common `group`. With
/// [`WHOLE_EVENT`](crate::family::WHOLE_EVENT) it is not in any line and counts towards what is due.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Adjustment {
    /// Minor units; negative lowers the price.
    pub amount: i64,
    /// Index of the line in the event, or [`WHOLE_EVENT`](crate::family::WHOLE_EVENT).
    pub line: u16,
    /// Entries of one adjustment share this number; 0 = it stands alone.
    pub group: u16,
    /// One of [`adjustment`].
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
}

/// Kinds of [`Adjustment`]. The discounts are those up to [`DISCOUNT_MAX`](adjustment::DISCOUNT_MAX).
pub mod adjustment {
    /// Price reduction by hand.
    pub const DISCOUNT: u8 = 1;
    /// Price reduction by a promotion.
    pub const PROMOTION: u8 = 2;
    /// Price reduction by the chain's coupon.
    pub const COUPON: u8 = 3;
    /// Price reduction by a loyalty reward.
    pub const LOYALTY: u8 = 4;
    /// Given away.
    pub const COMP: u8 = 5;
    /// Largest kind that is a discount.
    pub const DISCOUNT_MAX: u8 = COMP;
    /// Service charge.
    pub const SERVICE_CHARGE: u8 = 6;
    /// Gratuity added by the till.
    pub const AUTO_GRATUITY: u8 = 7;
    /// Deposit, delivery or other fee.
    pub const FEE: u8 = 8;
    /// Rounding of cash.
    pub const ROUNDING: u8 = 9;
    /// Largest kind of this version.
    pub const MAX: u8 = ROUNDING;
}

/// The unit price of a line with a decimal scale of its own (fuel at 1.459): 14 bytes.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct UnitPrice {
    /// Index of the event in the frame.
    pub event: u16,
    /// Index of the line in the event.
    pub line: u16,
    /// Price of one unit, times 10^`scale`.
    pub price: i64,
    /// Decimals of `price`, 0 to 9.
    pub scale: u8,
    /// Zero.
    pub reserved: u8,
}
