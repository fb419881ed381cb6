//! What is prepared once.

use scylla::statement::prepared::PreparedStatement;
use till_storage::cluster::PART_DELETE_STAMP;

use super::log::{LogRow, RowPartRow};
use crate::client::{Client, Purpose};
use crate::error::CqlError;
use crate::rows::{
    AuditRow, ChainDayCells, ChainDayRow, DueCells, DueGone, EventIdCells, HourIndexRow, HourRow,
    LevelRow, LineRow, MoveRow, NameRow, QuarantineCells, QuarantineGone, ReceiptIndexRow,
    RollupCells, RollupDayRow, RunIndexRow, SkuDayCells, SkuDayRow, StoreCells, TelemetryRow,
    TerminalCells, TransactionRow, WideTable,
};

/// Rows of one page. A page of the widest rows takes about half a megabyte.
const PAGE_ROWS: i32 = 1_000;
/// Rows of one page of sums of days: they are small, and a year has millions.
const PAGE_DAYS: i32 = 2_000;
/// Records of one page: a payload has up to a megabyte.
pub(super) const PAGE_RECORDS: i32 = 64;

/// Statements that write, one a table.
#[derive(Debug)]
pub(super) struct Writes {
    pub(super) log: PreparedStatement,
    pub(super) row_parts: PreparedStatement,
    pub(super) row_parts_gone: PreparedStatement,
    pub(super) hours: PreparedStatement,
    pub(super) hour_index: PreparedStatement,
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
    pub(super) chain_days: PreparedStatement,
    pub(super) sku_days: PreparedStatement,
    pub(super) days_due: PreparedStatement,
    pub(super) due_gone: PreparedStatement,
}

async fn write<T: WideTable>(client: &Client) -> Result<PreparedStatement, CqlError> {
    let statement = T::write_statement(&client.table(T::NAME));
    client.prepare(Purpose::Ingest, T::NAME, &statement).await
}

impl Writes {
    pub(super) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        let rows_gone = format!(
            "DELETE FROM {} USING TIMESTAMP {PART_DELETE_STAMP} WHERE slot = ? AND flush = ?",
            client.table(RowPartRow::NAME)
        );
        Ok(Self {
            log: write::<LogRow>(client).await?,
            row_parts: write::<RowPartRow>(client).await?,
            row_parts_gone: client
                .prepare(Purpose::Ingest, RowPartRow::NAME, &rows_gone)
                .await?,
            hours: write::<HourRow>(client).await?,
            hour_index: write::<HourIndexRow>(client).await?,
            runs: write::<RunIndexRow>(client).await?,
            receipts: write::<ReceiptIndexRow>(client).await?,
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
            chain_days: write::<ChainDayCells>(client).await?,
            sku_days: write::<SkuDayCells>(client).await?,
            days_due: write::<DueCells>(client).await?,
            due_gone: write::<DueGone>(client).await?,
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
    pub(super) rollups_day: PreparedStatement,
    pub(super) rollup_days: PreparedStatement,
    pub(super) chain_days: PreparedStatement,
    pub(super) sku_days: PreparedStatement,
    pub(super) days_due: PreparedStatement,
    pub(super) event_id: PreparedStatement,
    pub(super) event_ids: PreparedStatement,
    pub(super) event_ids_of: PreparedStatement,
    pub(super) quarantined: PreparedStatement,
    pub(super) quarantine: PreparedStatement,
    pub(super) name: PreparedStatement,
    pub(super) names: PreparedStatement,
    pub(super) names_of: PreparedStatement,
    pub(super) hours: PreparedStatement,
    pub(super) hour_index: PreparedStatement,
    pub(super) log_start: PreparedStatement,
    pub(super) log_of: PreparedStatement,
    pub(super) row_parts: PreparedStatement,
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

// Sums of days: pages of their own size.
async fn read_days(
    client: &Client,
    (table, columns): (&'static str, &str),
    rest: &str,
) -> Result<PreparedStatement, CqlError> {
    let mut prepared = read(client, table, columns, rest).await?;
    prepared.set_page_size(PAGE_DAYS);
    Ok(prepared)
}

async fn read_chain_days(client: &Client) -> Result<PreparedStatement, CqlError> {
    let of = (ChainDayCells::NAME, ChainDayRow::COLUMNS);
    read_days(client, of, "WHERE day = ? AND dim = ?").await
}

async fn read_sku_days(client: &Client) -> Result<PreparedStatement, CqlError> {
    let of = (SkuDayCells::NAME, SkuDayRow::COLUMNS);
    read_days(
        client,
        of,
        "WHERE sku = ? AND year = ? AND day >= ? AND day <= ?",
    )
    .await
}

async fn read_start(client: &Client) -> Result<PreparedStatement, CqlError> {
    let columns = "dropped, before_us, cleared, base";
    read(client, "log_start", columns, "WHERE slot = ?").await
}

// Records of one flush.
async fn read_log(client: &Client, some: &str) -> Result<PreparedStatement, CqlError> {
    let rest = format!("WHERE slot = ? AND bucket = ? AND flush = ? AND epoch = ?{some}");
    let mut prepared = read(client, LogRow::NAME, "number, body", &rest).await?;
    prepared.set_page_size(PAGE_RECORDS);
    Ok(prepared)
}

impl Reads {
    pub(super) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        let of_quarter = "WHERE store = ? AND hour = ? AND quarter = ?";
        let of_day = "WHERE store = ? AND day = ? AND dim = ?";
        let one_sum = format!("{of_day} AND hour_us = ? AND key = ?");
        let of_bucket = "WHERE store = ? AND bucket = ? AND sku >= ?";
        let some_levels = "WHERE store = ? AND bucket = ? AND sku IN ?";
        let some_sums = "WHERE store = ? AND day = ? AND (dim, hour_us, key) IN ?";
        let of_days = "WHERE store = ? AND dim = ? AND day >= ? AND day <= ?";
        let of_hours = "WHERE store = ? AND hour >= ? AND hour <= ?";
        let one_line = "WHERE store = ? AND terminal = ? AND epoch = ? AND seq = ? AND line = ?";
        let one_name = "WHERE space = ? AND id = ? LIMIT 2";
        let some_names = "WHERE space = ? AND id IN ? PER PARTITION LIMIT 1";
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
            rollups_of: read_rows::<RollupCells>(client, some_sums).await?,
            rollups_day: read_rows::<RollupCells>(client, "WHERE store = ? AND day = ?").await?,
            chain_days: read_chain_days(client).await?,
            sku_days: read_sku_days(client).await?,
            days_due: read_rows::<DueCells>(client, "WHERE slot = ?").await?,
            rollup_days: read_rows::<RollupDayRow>(client, of_days).await?,
            event_id: read_rows::<EventIdCells>(client, "WHERE event_id = ?").await?,
            event_ids: read_rows::<EventIdCells>(client, "").await?,
            event_ids_of: read_rows::<EventIdCells>(client, "WHERE event_id IN ?").await?,
            quarantined: read_rows::<QuarantineCells>(client, one_line).await?,
            quarantine: read_rows::<QuarantineCells>(client, "WHERE store = ?").await?,
            name: read_rows::<NameRow>(client, one_name).await?,
            names: read_rows::<NameRow>(client, "").await?,
            names_of: read_rows::<NameRow>(client, some_names).await?,
            hours: read(client, "hours", "hour", of_hours).await?,
            hour_index: read(client, "hour_index", "flush, epoch, numbers", of_quarter).await?,
            log_start: read_start(client).await?,
            log_of: read_log(client, "").await?,
            row_parts: read(
                client,
                "slot_rows",
                "part, body",
                "WHERE slot = ? AND flush = ? AND epoch = ?",
            )
            .await?,
            records: read_log(client, " AND number IN ?").await?,
            receipt: read(
                client,
                "receipt_index",
                "store, position, log_epoch",
                "WHERE receipt = ? AND part = ?",
            )
            .await?,
            run: read(
                client,
                "run_index",
                "last_seq, position, log_epoch",
                last_run,
            )
            .await?,
            runs_between: read(client, "run_index", "position, log_epoch", runs_between).await?,
        })
    }
}
