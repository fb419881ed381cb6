//! What is prepared once.

use scylla::statement::prepared::PreparedStatement;

use crate::client::{Client, Purpose};
use crate::error::CqlError;
use crate::rows::{
    AuditRow, EventIdCells, LevelRow, LineRow, MoveRow, NameRow, QuarantineCells, QuarantineGone,
    ReceiptRow, RecordHourRow, RecordRow, RollupCells, RollupDayRow, RunRow, StoreCells,
    TelemetryRow, TerminalCells, TransactionRow, WideTable,
};

/// Rows of one page. A page of the widest rows takes about half a megabyte.
const PAGE_ROWS: i32 = 1_000;
/// Records of one page: a payload has up to a megabyte.
const PAGE_RECORDS: i32 = 64;

/// Statements that write, one a table.
#[derive(Debug)]
pub(super) struct Writes {
    pub(super) records: PreparedStatement,
    pub(super) hours: PreparedStatement,
    pub(super) runs: PreparedStatement,
    pub(super) receipts: PreparedStatement,
    pub(super) transactions: PreparedStatement,
    pub(super) lines: PreparedStatement,
    pub(super) moves: PreparedStatement,
    pub(super) telemetry: PreparedStatement,
    pub(super) audit: PreparedStatement,
    pub(super) stores: PreparedStatement,
    pub(super) terminals: PreparedStatement,
    pub(super) levels: PreparedStatement,
    pub(super) rollups: PreparedStatement,
    pub(super) rollup_days: PreparedStatement,
    pub(super) event_ids: PreparedStatement,
    pub(super) quarantine: PreparedStatement,
    pub(super) gone: PreparedStatement,
    pub(super) names: PreparedStatement,
}

async fn write<T: WideTable>(client: &Client) -> Result<PreparedStatement, CqlError> {
    let statement = T::write_statement(&client.table(T::NAME));
    client.prepare(Purpose::Ingest, T::NAME, &statement).await
}

impl Writes {
    pub(super) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        Ok(Self {
            records: write::<RecordRow>(client).await?,
            hours: write::<RecordHourRow>(client).await?,
            runs: write::<RunRow>(client).await?,
            receipts: write::<ReceiptRow>(client).await?,
            transactions: write::<TransactionRow>(client).await?,
            lines: write::<LineRow>(client).await?,
            moves: write::<MoveRow>(client).await?,
            telemetry: write::<TelemetryRow>(client).await?,
            audit: write::<AuditRow>(client).await?,
            stores: write::<StoreCells>(client).await?,
            terminals: write::<TerminalCells>(client).await?,
            levels: write::<LevelRow>(client).await?,
            rollups: write::<RollupCells>(client).await?,
            rollup_days: write::<RollupDayRow>(client).await?,
            event_ids: write::<EventIdCells>(client).await?,
            quarantine: write::<QuarantineCells>(client).await?,
            gone: write::<QuarantineGone>(client).await?,
            names: write::<NameRow>(client).await?,
        })
    }
}

/// Statements that read: a row, a partition, or a whole table.
#[derive(Debug)]
pub(super) struct Reads {
    pub(super) store: PreparedStatement,
    pub(super) stores: PreparedStatement,
    pub(super) terminal: PreparedStatement,
    pub(super) terminals: PreparedStatement,
    pub(super) level: PreparedStatement,
    pub(super) levels: PreparedStatement,
    pub(super) levels_of: PreparedStatement,
    pub(super) rollup: PreparedStatement,
    pub(super) rollups: PreparedStatement,
    pub(super) rollups_of: PreparedStatement,
    pub(super) rollup_days: PreparedStatement,
    pub(super) event_id: PreparedStatement,
    pub(super) event_ids: PreparedStatement,
    pub(super) quarantined: PreparedStatement,
    pub(super) quarantine: PreparedStatement,
    pub(super) name: PreparedStatement,
    pub(super) names: PreparedStatement,
    pub(super) hours: PreparedStatement,
    pub(super) positions: PreparedStatement,
    pub(super) record: PreparedStatement,
    pub(super) records: PreparedStatement,
    pub(super) receipt: PreparedStatement,
    pub(super) run: PreparedStatement,
    pub(super) runs_between: PreparedStatement,
}

async fn read(
    client: &Client,
    table: &'static str,
    columns: &str,
    rest: &str,
) -> Result<PreparedStatement, CqlError> {
    let statement = format!("SELECT {columns} FROM {} {rest}", client.table(table));
    let mut prepared = client.prepare(Purpose::Read, table, &statement).await?;
    prepared.set_page_size(PAGE_ROWS);
    Ok(prepared)
}

// All columns of a table.
async fn read_rows<T: WideTable>(
    client: &Client,
    rest: &str,
) -> Result<PreparedStatement, CqlError> {
    read(client, T::NAME, &T::COLUMNS.join(", "), rest).await
}

impl Reads {
    pub(super) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        let record = "position, head, verdicts, payload";
        let of_hour = "WHERE store = ? AND hour = ?";
        let one_record = format!("{of_hour} AND position = ?");
        let mut records = read(client, "records", record, of_hour).await?;
        records.set_page_size(PAGE_RECORDS);
        let of_day = "WHERE store = ? AND dim = ? AND day = ? AND bucket = ?";
        let one_sum = format!("{of_day} AND hour_us = ? AND key = ?");
        let of_bucket = "WHERE store = ? AND bucket = ? AND sku >= ? AND sku <= ?";
        let some_levels = "WHERE store = ? AND bucket = ? AND sku IN ?";
        let some_sums = format!("{of_day} AND (hour_us, key) IN ?");
        let of_days = "WHERE store = ? AND dim = ? AND day >= ? AND day <= ?";
        let of_hours = "WHERE store = ? AND hour >= ? AND hour <= ?";
        let one_line = "WHERE store = ? AND terminal = ? AND epoch = ? AND seq = ? AND line = ?";
        let one_name = "WHERE space = ? AND id = ? LIMIT 2";
        let last_run = "WHERE terminal = ? AND epoch = ? AND bucket = ? AND first_seq <= ? ORDER BY first_seq DESC, position DESC LIMIT 8";
        let runs_between =
            "WHERE terminal = ? AND epoch = ? AND bucket = ? AND first_seq > ? AND first_seq <= ?";
        Ok(Self {
            store: read_rows::<StoreCells>(client, "WHERE part = ? AND store = ?").await?,
            stores: read_rows::<StoreCells>(client, "WHERE part = ?").await?,
            terminal: read_rows::<TerminalCells>(client, "WHERE store = ? AND terminal = ?")
                .await?,
            terminals: read_rows::<TerminalCells>(client, "WHERE store = ?").await?,
            level: read_rows::<LevelRow>(client, "WHERE store = ? AND bucket = ? AND sku = ?")
                .await?,
            levels: read_rows::<LevelRow>(client, of_bucket).await?,
            levels_of: read_rows::<LevelRow>(client, some_levels).await?,
            rollup: read_rows::<RollupCells>(client, &one_sum).await?,
            rollups: read_rows::<RollupCells>(client, of_day).await?,
            rollups_of: read_rows::<RollupCells>(client, &some_sums).await?,
            rollup_days: read_rows::<RollupDayRow>(client, of_days).await?,
            event_id: read_rows::<EventIdCells>(client, "WHERE event_id = ?").await?,
            event_ids: read_rows::<EventIdCells>(client, "").await?,
            quarantined: read_rows::<QuarantineCells>(client, one_line).await?,
            quarantine: read_rows::<QuarantineCells>(client, "WHERE store = ?").await?,
            name: read_rows::<NameRow>(client, one_name).await?,
            names: read_rows::<NameRow>(client, "").await?,
            hours: read(client, "record_hours", "hour", of_hours).await?,
            positions: read(client, "records", "position", of_hour).await?,
            record: read(client, "records", record, &one_record).await?,
            records,
            receipt: read(
                client,
                "receipts",
                "store, hour, position",
                "WHERE receipt = ?",
            )
            .await?,
            run: read(client, "runs", "last_seq, hour, position", last_run).await?,
            runs_between: read(client, "runs", "hour, position", runs_between).await?,
        })
    }
}
