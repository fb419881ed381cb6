//! Short hashes of events: the digest that tells epochs of a device apart, and the content behind an event id.

use sha2::{Digest as _, Sha256};

use crate::family::sale::v1::Sale;
use crate::family::{ArchivedReference, Family, reference, text};
use crate::layout::{Layout, Native};
use crate::limits::RECEIPT_MAX;
use crate::view::{Event, EventsView, SaleEvent, SaleView, Texts, View};

/// The only version of each family so far.
const VERSION: u8 = 1;

/// The digest of an event, `None` when there is none at that index. Never 0: that stands for "no digest".
///
/// It covers the core record and, of a sale, the sums of its lines and tenders; not names, texts and ids, so that masking
/// and framing leave it alone. Adds up the counts before the event; use [`digests`] for many.
pub fn digest(view: &View<'_>, index: u32) -> Option<u64> {
    let at = usize::try_from(index).ok()?;
    match view {
        View::Sale(sales) => nth_sale_digest(sales, at),
        View::Stock(view) => view
            .records()
            .get(at)
            .map(|record| stock_digest(&record.native())),
        View::Sensor(view) => view
            .records()
            .get(at)
            .map(|record| sensor_digest(&record.native())),
        View::Device(view) => view
            .records()
            .get(at)
            .map(|record| device_digest(&record.native())),
    }
}

// Counts before the sale say where its lines and tenders lie: no need to walk the other vectors.
fn nth_sale_digest(sales: &SaleView<'_>, at: usize) -> Option<u64> {
    let batch = sales.batch();
    let (before, rest) = batch.sales.split_at_checked(at)?;
    let record = rest.first()?.native();
    let lines: usize = before
        .iter()
        .map(|sale| usize::from(sale.lines.to_native()))
        .sum();
    let tenders: usize = before.iter().map(|sale| usize::from(sale.tenders)).sum();
    let lines = batch.lines.get(lines..lines + usize::from(record.lines))?;
    let tenders = batch
        .tenders
        .get(tenders..tenders + usize::from(record.tenders))?;
    let lines = lines
        .iter()
        .map(|line| i128::from(line.amount.to_native()))
        .sum();
    let tenders = tenders
        .iter()
        .map(|tender| i128::from(tender.amount.to_native()))
        .sum();
    Some(sale_digest_of(&record, lines, tenders))
}

/// The digests of all events, in order.
pub fn digests(view: &View<'_>) -> Vec<u64> {
    match view {
        View::Sale(sales) => sales.events().map(|event| sale_digest(&event)).collect(),
        View::Stock(view) => view
            .records()
            .iter()
            .map(|record| stock_digest(&record.native()))
            .collect(),
        View::Sensor(view) => view
            .records()
            .iter()
            .map(|record| sensor_digest(&record.native()))
            .collect(),
        View::Device(view) => view
            .records()
            .iter()
            .map(|record| device_digest(&record.native()))
            .collect(),
    }
}

/// The digest of a sale.
pub fn sale_digest(event: &SaleEvent<'_>) -> u64 {
    let lines = event
        .lines
        .iter()
        .map(|line| i128::from(line.amount.to_native()))
        .sum();
    let tenders = event
        .tenders
        .iter()
        .map(|tender| i128::from(tender.amount.to_native()))
        .sum();
    sale_digest_of(&event.sale.native(), lines, tenders)
}

/// The digest of a sale from its record (with its counts filled in) and the sums of its line and tender amounts.
pub fn sale_digest_of(record: &Sale, lines: i128, tenders: i128) -> u64 {
    let mut bytes = start(Family::Sale);
    // A number that is too long refuses the sale and is overwritten before it is journalled.
    let receipt = match record.receipt {
        too_long if too_long > RECEIPT_MAX => u64::MAX,
        receipt => receipt,
    };
    Sale { receipt, ..*record }.put(&mut bytes);
    bytes.extend_from_slice(&lines.to_le_bytes());
    bytes.extend_from_slice(&tenders.to_le_bytes());
    finish(&bytes)
}

/// The digest of a stock event.
pub fn stock_digest(record: &crate::family::stock::v1::Move) -> u64 {
    record_digest(
        Family::Stock,
        &crate::family::stock::v1::Move { sku: 0, ..*record },
    )
}

/// The digest of a reading.
pub fn sensor_digest(record: &crate::family::sensor::v1::Reading) -> u64 {
    record_digest(
        Family::Sensor,
        &crate::family::sensor::v1::Reading { sku: 0, ..*record },
    )
}

/// The digest of a heartbeat.
pub fn device_digest(record: &crate::family::device::v1::Sign) -> u64 {
    record_digest(Family::Device, record)
}

fn record_digest(family: Family, record: &impl Layout) -> u64 {
    let mut bytes = start(family);
    record.put(&mut bytes);
    finish(&bytes)
}

fn start(family: Family) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&[family.number(), VERSION]);
    bytes
}

fn finish(bytes: &[u8]) -> u64 {
    hash(bytes).max(1)
}

fn hash(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The hash of all that an event says, `None` when there is none at that index.
///
/// Two events with one event id are the same when this is equal. It leaves out the event id itself and the names of SKUs,
/// which a source may send again or not. Taken after masking.
pub fn content_hash(view: &View<'_>, index: u32) -> Option<u64> {
    let at = usize::try_from(index).ok()?;
    match view {
        View::Sale(sales) => sales.events().nth(at).map(|event| sale_content(&event)),
        View::Stock(view) => nth_content(Family::Stock, view, at),
        View::Sensor(view) => nth_content(Family::Sensor, view, at),
        View::Device(view) => nth_content(Family::Device, view, at),
    }
}

fn nth_content<R: Native>(family: Family, view: &EventsView<'_, R>, at: usize) -> Option<u64> {
    view.events()
        .nth(at)
        .map(|event| event_content(family, &event))
}

/// The content hash of an event that is one record.
pub fn event_content<R: Native>(family: Family, event: &Event<'_, R>) -> u64 {
    let mut bytes = start(family);
    event.record.native().put(&mut bytes);
    sides(&mut bytes, event.refs, &event.texts);
    hash(&bytes)
}

/// The content hash of a sale.
pub fn sale_content(event: &SaleEvent<'_>) -> u64 {
    let mut bytes = start(Family::Sale);
    event.sale.native().put(&mut bytes);
    event
        .lines
        .iter()
        .for_each(|entry| entry.native().put(&mut bytes));
    event
        .tenders
        .iter()
        .for_each(|entry| entry.native().put(&mut bytes));
    event
        .taxes
        .iter()
        .for_each(|entry| entry.native().put(&mut bytes));
    event
        .adjustments
        .iter()
        .for_each(|entry| entry.native().put(&mut bytes));
    for entry in event.extras {
        let mut entry = entry.native();
        entry.event = 0;
        entry.put(&mut bytes);
    }
    for entry in event.prices {
        let mut entry = entry.native();
        entry.event = 0;
        entry.put(&mut bytes);
    }
    sides(&mut bytes, event.refs, &event.texts);
    hash(&bytes)
}

fn sides(bytes: &mut Vec<u8>, refs: &[ArchivedReference], texts: &Texts<'_>) {
    for entry in refs
        .iter()
        .filter(|entry| entry.kind != reference::EVENT_ID)
    {
        let mut entry = entry.native();
        entry.event = 0;
        entry.put(bytes);
    }
    for (entry, content) in texts.entries().iter().zip(*texts) {
        if entry.kind != text::SKU_CODE {
            let mut entry = entry.native();
            entry.event = 0;
            entry.put(bytes);
            bytes.extend_from_slice(content.text.as_bytes());
        }
    }
}
