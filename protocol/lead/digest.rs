//! Two short hashes of an event: the mark, by which a device knows its own event again, and the content hash, by which
//! an event id is compared.
//!
//! Both are the first 8 bytes of SHA-256, read little-endian, over bytes as they stand in the archive.

use sha2::{Digest as _, Sha256};

use crate::family::{ArchivedReference, Family, device, reference, sale, sensor, stock, text};
use crate::view::{SaleView, Texts, View};

/// The mark of an event: over family, version, the core record (its SKU zeroed), and for a sale the sums of its lines and
/// tenders as i128. Independent of framing, names and masks. `None` past the end of the batch.
pub fn mark(view: &View<'_>, index: usize) -> Option<u64> {
    let mut hash = Hasher::new(view.family());
    match view {
        View::Sale(batch) => {
            let sale = batch.events().nth(index)?;
            hash.sale(sale.sale);
            let lines: i128 = sale.lines.iter().map(|line| i128::from(line.amount.to_native())).sum();
            let tenders: i128 =
                sale.tenders.iter().map(|tender| i128::from(tender.amount.to_native())).sum();
            hash.put(&lines.to_le_bytes());
            hash.put(&tenders.to_le_bytes());
        }
        View::Stock(batch) => hash.movement(batch.moves.get(index)?, 0),
        View::Sensor(batch) => hash.reading(batch.readings.get(index)?, 0),
        View::Device(batch) => hash.sign(batch.signs.get(index)?),
    }
    Some(hash.finish())
}

/// The content hash of an event: everything in it but its place in the frame, its event id and the names of SKUs.
/// `None` past the end of the batch.
pub fn content_hash(view: &View<'_>, index: usize) -> Option<u64> {
    Some(match view {
        View::Sale(batch) => content_of_sale(&batch.events().nth(index)?),
        View::Stock(batch) => {
            let event = batch.events().nth(index)?;
            let mut hash = Hasher::new(Family::Stock);
            hash.movement(event.record, event.record.sku.to_native());
            hash.side(event.refs, event.texts);
            hash.finish()
        }
        View::Sensor(batch) => {
            let event = batch.events().nth(index)?;
            let mut hash = Hasher::new(Family::Sensor);
            hash.reading(event.record, event.record.sku.to_native());
            hash.side(event.refs, event.texts);
            hash.finish()
        }
        View::Device(batch) => {
            let event = batch.events().nth(index)?;
            let mut hash = Hasher::new(Family::Device);
            hash.sign(event.record);
            hash.side(event.refs, event.texts);
            hash.finish()
        }
    })
}

/// The content hash of a transaction at hand.
pub fn content_of_sale(sale: &SaleView<'_>) -> u64 {
    let mut hash = Hasher::new(Family::Sale);
    hash.sale(sale.sale);
    for line in sale.lines {
        hash.put(&line.sku.to_native().to_le_bytes());
        hash.put(&line.quantity.to_native().to_le_bytes());
        hash.put(&line.amount.to_native().to_le_bytes());
        hash.put(&line.category.to_native().to_le_bytes());
        hash.put(&[line.kind, line.unit]);
        hash.put(&line.flags.to_native().to_le_bytes());
    }
    for tender in sale.tenders {
        hash.put(&tender.amount.to_native().to_le_bytes());
        hash.put(&[tender.kind, tender.flags]);
    }
    for tax in sale.taxes {
        hash.put(&tax.amount.to_native().to_le_bytes());
        hash.put(&tax.rate.to_native().to_le_bytes());
        hash.put(&tax.line.to_native().to_le_bytes());
        hash.put(&tax.code.to_native().to_le_bytes());
        hash.put(&[tax.inclusive, tax.reserved]);
    }
    for adjustment in sale.adjustments {
        hash.put(&adjustment.amount.to_native().to_le_bytes());
        hash.put(&adjustment.line.to_native().to_le_bytes());
        hash.put(&adjustment.group.to_native().to_le_bytes());
        hash.put(&[adjustment.kind, adjustment.reserved]);
    }
    for extra in sale.extras {
        hash.put(&[0, 0, extra.tender, extra.kind]);
        hash.put(&extra.amount.to_native().to_le_bytes());
    }
    for price in sale.prices {
        hash.put(&[0, 0]);
        hash.put(&price.line.to_native().to_le_bytes());
        hash.put(&price.price.to_native().to_le_bytes());
        hash.put(&[price.scale, price.reserved]);
    }
    hash.side(sale.refs, sale.texts);
    hash.finish()
}

struct Hasher(Sha256);

impl Hasher {
    fn new(family: Family) -> Self {
        let mut hash = Sha256::new();
        hash.update([family.number(), 1]);
        Self(hash)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn sale(&mut self, sale: &sale::v1::ArchivedSale) {
        self.put(&sale.at.to_native().to_le_bytes());
        self.put(&sale.receipt.to_native().to_le_bytes());
        self.put(&sale.operator.to_native().to_le_bytes());
        self.put(&sale.offset_min.to_native().to_le_bytes());
        self.put(&sale.business_day.to_native().to_le_bytes());
        self.put(&sale.lines.to_native().to_le_bytes());
        self.put(&sale.taxes.to_native().to_le_bytes());
        self.put(&sale.adjustments.to_native().to_le_bytes());
        self.put(&[sale.tenders, sale.kind]);
        self.put(&sale.flags.to_native().to_le_bytes());
    }

    fn movement(&mut self, record: &stock::v1::ArchivedMove, sku: u64) {
        self.put(&record.at.to_native().to_le_bytes());
        self.put(&sku.to_le_bytes());
        self.put(&record.quantity.to_native().to_le_bytes());
        self.put(&record.offset_min.to_native().to_le_bytes());
        self.put(&[record.kind, record.unit]);
        self.put(&record.reason.to_native().to_le_bytes());
        self.put(&record.flags.to_native().to_le_bytes());
    }

    fn reading(&mut self, record: &sensor::v1::ArchivedReading, sku: u64) {
        self.put(&record.at.to_native().to_le_bytes());
        self.put(&sku.to_le_bytes());
        self.put(&record.value.to_native().to_le_bytes());
        self.put(&record.sensor.to_native().to_le_bytes());
        self.put(&record.offset_min.to_native().to_le_bytes());
        self.put(&[record.kind, record.unit]);
        self.put(&record.flags.to_native().to_le_bytes());
    }

    fn sign(&mut self, record: &device::v1::ArchivedSign) {
        self.put(&record.at.to_native().to_le_bytes());
        self.put(&record.backlog.to_native().to_le_bytes());
        self.put(&record.uptime_ms.to_native().to_le_bytes());
        self.put(&record.code.to_native().to_le_bytes());
        self.put(&record.offset_min.to_native().to_le_bytes());
        self.put(&[record.kind, record.flags]);
    }

    /// References and texts: the event's place in the frame as zeros, no event id, no names of SKUs.
    fn side(&mut self, refs: &[ArchivedReference], texts: Texts<'_>) {
        for one in refs.iter().filter(|one| one.kind != reference::EVENT_ID) {
            self.put(&[0, 0, one.kind, one.reserved]);
            self.put(&one.value);
        }
        for one in texts.filter(|one| one.kind != text::SKU_CODE) {
            self.put(&[0, 0]);
            self.put(&one.item.to_le_bytes());
            self.put(&[one.kind, u8::try_from(one.text.len()).unwrap_or(u8::MAX)]);
            self.put(one.text.as_bytes());
        }
    }

    fn finish(self) -> u64 {
        let digest: [u8; 32] = self.0.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}
