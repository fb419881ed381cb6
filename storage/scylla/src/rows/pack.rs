//! Rows into batches: each of one partition, small enough for every server.

use std::cmp::Ordering;

use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::prepared::PreparedStatement;
use till_storage::views::StoreError;

use super::{Stamped, WideTable};

/// Rows of one batch.
pub(crate) const ROWS_MAX: usize = 200;
/// Bytes of one batch; a row that is larger goes alone.
pub(crate) const BYTES_MAX: usize = 48 << 10;

/// A row as it goes over the wire: cells one after another, each with its length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed(Vec<u8>);

impl SerializeRow for Packed {
    fn serialize(
        &self,
        _: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        let mut rest = self.0.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            rest = after;
            let cell = writer.make_cell_writer();
            // Lengths below zero: -1 stands for null, -2 for unset.
            match usize::try_from(i32::from_be_bytes(*length)) {
                Ok(length) => {
                    let (value, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                    rest = after;
                    let _proof = cell.set_value(value).map_err(SerializationError::new)?;
                }
                Err(_) if *length == NULL => {
                    let _proof = cell.set_null();
                }
                Err(_) => {
                    let _proof = cell.set_unset();
                }
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const NULL: [u8; 4] = (-1_i32).to_be_bytes();

impl Packed {
    pub(crate) const fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Rows of one partition that are written together.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) name: &'static str,
    pub(crate) statement: PreparedStatement,
    pub(crate) rows: Vec<Packed>,
}

impl Chunk {
    /// Cells of a row.
    pub(crate) fn columns(&self) -> usize {
        self.statement.get_variable_col_specs().len()
    }
}

/// Packs rows, table by table.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    chunks: Vec<Chunk>,
    rows: u64,
}

impl Packer {
    /// Takes the rows of a table in, sorted by partition.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when a row does not fit the table as it is on the server.
    pub(crate) fn add<T: WideTable>(
        &mut self,
        statement: &PreparedStatement,
        mut rows: Vec<Stamped<T>>,
    ) -> Result<(), StoreError> {
        rows.sort_by(|(_, a), (_, b)| a.partition(b));
        let columns = statement.get_variable_col_specs();
        let own = if T::STAMP_FIRST {
            columns.as_slice().split_first()
        } else {
            columns.as_slice().split_last()
        };
        let context = RowSerializationContext::from_specs(own.map_or(&[][..], |(_, own)| own));
        let mut bytes = 0;
        let mut last: Option<&T> = None;
        for (stamp, row) in &rows {
            let packed = packed(row, *stamp, &context)?;
            let size = packed.0.len();
            let same = last.is_some_and(|last| last.partition(row) == Ordering::Equal);
            last = Some(row);
            self.rows += 1;
            match self.chunks.last_mut() {
                Some(chunk) if same && chunk.rows.len() < ROWS_MAX && bytes + size <= BYTES_MAX => {
                    bytes += size;
                    chunk.rows.push(packed);
                }
                _ => {
                    bytes = size;
                    self.chunks.push(Chunk {
                        name: T::NAME,
                        statement: statement.clone(),
                        rows: vec![packed],
                    });
                }
            }
        }
        Ok(())
    }

    /// What is to be written, and how many rows that are.
    pub(crate) fn finish(self) -> (Vec<Chunk>, u64) {
        (self.chunks, self.rows)
    }
}

fn packed<T: WideTable>(
    row: &T,
    stamp: i64,
    context: &RowSerializationContext<'_>,
) -> Result<Packed, StoreError> {
    let mut bytes = Vec::with_capacity(256);
    let mut writer = RowWriter::new(&mut bytes);
    let failed = |error: SerializationError| StoreError::Failed {
        table: T::NAME,
        cause: error.to_string(),
    };
    if T::STAMP_FIRST {
        put_stamp(&mut writer, stamp).map_err(failed)?;
    }
    row.serialize(context, &mut writer).map_err(failed)?;
    if !T::STAMP_FIRST {
        put_stamp(&mut writer, stamp).map_err(failed)?;
    }
    Ok(Packed(bytes))
}

fn put_stamp(writer: &mut RowWriter<'_>, stamp: i64) -> Result<(), SerializationError> {
    let cell = writer.make_cell_writer();
    let _proof = cell
        .set_value(&stamp.to_be_bytes())
        .map_err(SerializationError::new)?;
    Ok(())
}
