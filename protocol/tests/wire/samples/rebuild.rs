//! Batches put together again from their views.

use till_protocol::family::{Reference, Text, device, sale, sensor, stock};
use till_protocol::layout::Native;
use till_protocol::safe;
use till_protocol::view::{EventsView, SaleView, View};

/// Puts a batch together again from its events, so that nothing an iterator drops goes unnoticed.
pub(crate) fn rebuild(view: &View<'_>) -> safe::SafeBatch {
    match view {
        View::Sale(sales) => safe::SafeBatch::Sale(rebuild_sales(sales)),
        View::Stock(view) => {
            let (moves, refs, texts, text) = rebuild_flat(view);
            safe::SafeBatch::Stock(stock::v1::Batch {
                moves,
                refs,
                texts,
                text,
            })
        }
        View::Sensor(view) => {
            let (readings, refs, texts, text) = rebuild_flat(view);
            safe::SafeBatch::Sensor(sensor::v1::Batch {
                readings,
                refs,
                texts,
                text,
            })
        }
        View::Device(view) => {
            let (signs, refs, texts, text) = rebuild_flat(view);
            safe::SafeBatch::Device(device::v1::Batch {
                signs,
                refs,
                texts,
                text,
            })
        }
    }
}

type Flat<R> = (Vec<R>, Vec<Reference>, Vec<Text>, Vec<u8>);

fn rebuild_flat<R: Native>(view: &EventsView<'_, R>) -> Flat<R::Record> {
    let (mut records, mut refs, mut texts, mut bytes) = (vec![], vec![], vec![], vec![]);
    for event in view.events() {
        records.push(event.record.native());
        refs.extend(event.refs.iter().map(Native::native));
        texts.extend(event.texts.entries().iter().map(Native::native));
        bytes.extend_from_slice(event.texts.bytes());
    }
    (records, refs, texts, bytes)
}

fn rebuild_sales(sales: &SaleView<'_>) -> sale::v1::Batch {
    let mut batch = sale::v1::Batch::default();
    for (index, event) in (0..).zip(sales.events()) {
        assert_eq!(event.index, index);
        batch.sales.push(event.sale.native());
        batch.lines.extend(event.lines.iter().map(Native::native));
        batch
            .tenders
            .extend(event.tenders.iter().map(Native::native));
        batch.taxes.extend(event.taxes.iter().map(Native::native));
        batch
            .adjustments
            .extend(event.adjustments.iter().map(Native::native));
        batch.extras.extend(event.extras.iter().map(Native::native));
        batch.prices.extend(event.prices.iter().map(Native::native));
        batch.refs.extend(event.refs.iter().map(Native::native));
        batch
            .texts
            .extend(event.texts.entries().iter().map(Native::native));
        batch.text.extend_from_slice(event.texts.bytes());
    }
    batch
}
