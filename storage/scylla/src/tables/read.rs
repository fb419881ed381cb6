//! Pages of partitions, several partitions side by side.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use scylla::deserialize::row::DeserializeRow;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use till_storage::views::StoreError;
use tokio::task::JoinSet;

use super::write::finished;
use super::{IN_FLIGHT, Tables};
use crate::client::Client;
use crate::error::CqlError;
use crate::rows::OUT_OF_RANGE;

/// A row of an answer that owns what it holds.
pub(super) trait Cells: for<'f> DeserializeRow<'f, 'f> + Send + 'static {}
impl<R: for<'f> DeserializeRow<'f, 'f> + Send + 'static> Cells for R {}

/// What a statement is asked with.
pub(super) trait Asked: SerializeRow + Clone + Send + Sync + 'static {}
impl<V: SerializeRow + Clone + Send + Sync + 'static> Asked for V {}

/// Partitions that are read side by side: the first pages of all come in one round trip.
pub(super) const WINDOW: usize = IN_FLIGHT;

/// Cells that are none of ours.
pub(super) fn damaged(table: &'static str) -> StoreError {
    StoreError::Damaged {
        table,
        cause: OUT_OF_RANGE.to_owned(),
    }
}

/// One partition, page after page.
struct Stream<V, R> {
    asked: V,
    rows: VecDeque<R>,
    /// Where the next page starts; `None` behind the last one.
    next: Option<PagingState>,
}

/// Partitions that one statement reads, a page of each in memory.
pub(super) struct Streams<'a, V, R> {
    tables: &'a Tables,
    statement: &'a PreparedStatement,
    what: &'static str,
    streams: Vec<Stream<V, R>>,
}

impl<'a, V: Asked, R: Cells> Streams<'a, V, R> {
    pub(super) fn new(
        tables: &'a Tables,
        statement: &'a PreparedStatement,
        what: &'static str,
        asked: impl IntoIterator<Item = V>,
    ) -> Self {
        let streams = asked.into_iter().map(|asked| Stream {
            asked,
            rows: VecDeque::new(),
            next: Some(PagingState::start()),
        });
        Self {
            tables,
            statement,
            what,
            streams: streams.collect(),
        }
    }

    /// Fetches the next page of every partition that has no row at hand, all at once.
    fn fill(&mut self) -> Result<(), StoreError> {
        loop {
            let mut wanted = Vec::new();
            for (number, stream) in self.streams.iter_mut().enumerate() {
                if stream.rows.is_empty()
                    && let Some(next) = stream.next.take()
                {
                    wanted.push((number, stream.asked.clone(), next));
                }
            }
            // A page may be empty and not the last.
            if wanted.is_empty() {
                return Ok(());
            }
            let client = Arc::clone(self.tables.cql.client());
            let pages = pages(client, self.statement.clone(), self.what, wanted);
            for (number, rows, next) in self.tables.cql.wait(pages)? {
                if let Some(stream) = self.streams.get_mut(number) {
                    stream.rows = rows;
                    stream.next = next;
                }
            }
        }
    }

    /// The next row of one partition.
    pub(super) fn next_of(&mut self, number: usize) -> Result<Option<R>, StoreError> {
        let has_none = |stream: &Stream<V, R>| stream.rows.is_empty() && stream.next.is_some();
        if self.streams.get(number).is_some_and(has_none) {
            self.fill()?;
        }
        let stream = self.streams.get_mut(number);
        Ok(stream.and_then(|stream| stream.rows.pop_front()))
    }

    /// The row with the smallest key of some partitions, whose own rows rise by that key.
    pub(super) fn next_by<K: Ord>(
        &mut self,
        among: Range<usize>,
        key: impl Fn(&R) -> K,
    ) -> Result<Option<R>, StoreError> {
        let is_short = |stream: &Stream<V, R>| stream.rows.is_empty() && stream.next.is_some();
        let some = self.streams.get(among.clone()).unwrap_or_default();
        if some.iter().any(is_short) {
            self.fill()?;
        }
        let heads = self.streams.get_mut(among).unwrap_or_default();
        let first = heads
            .iter_mut()
            .filter_map(|stream| Some((key(stream.rows.front()?), stream)))
            .min_by(|(a, _), (b, _)| a.cmp(b));
        Ok(first.and_then(|(_, stream)| stream.rows.pop_front()))
    }

    /// The rows of one partition that are left.
    pub(super) fn all_of(&mut self, number: usize) -> Result<Vec<R>, StoreError> {
        let mut rows = Vec::new();
        while let Some(row) = self.next_of(number)? {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Every row of every partition, one partition after another.
    pub(super) fn all(mut self) -> Result<Vec<R>, StoreError> {
        let mut rows = Vec::new();
        for number in 0..self.streams.len() {
            rows.extend(self.all_of(number)?);
        }
        Ok(rows)
    }
}

type Page<R> = (usize, VecDeque<R>, Option<PagingState>);

async fn pages<V: Asked, R: Cells>(
    client: Arc<Client>,
    statement: PreparedStatement,
    what: &'static str,
    wanted: Vec<(usize, V, PagingState)>,
) -> Result<Vec<Page<R>>, CqlError> {
    let mut under_way = JoinSet::new();
    let mut found = Vec::with_capacity(wanted.len());
    for (number, asked, from) in wanted {
        if under_way.len() >= IN_FLIGHT
            && let Some(done) = under_way.join_next().await
        {
            found.push(finished(done)?);
        }
        let (client, statement) = (Arc::clone(&client), statement.clone());
        under_way.spawn(async move {
            let (rows, next) = page(&client, &statement, what, asked, from).await?;
            Ok((number, rows, next))
        });
    }
    while let Some(done) = under_way.join_next().await {
        found.push(finished(done)?);
    }
    Ok(found)
}

pub(super) async fn page<V: Asked, R: Cells>(
    client: &Client,
    statement: &PreparedStatement,
    what: &'static str,
    asked: V,
    from: PagingState,
) -> Result<(VecDeque<R>, Option<PagingState>), CqlError> {
    let session = client.session();
    let answer = session.execute_single_page(statement, asked, from).await;
    let (answer, next) = answer.map_err(|error| CqlError::statement(what, error))?;
    let next = match next {
        PagingStateResponse::HasMorePages { state } => Some(state),
        PagingStateResponse::NoMorePages => None,
    };
    let answer = answer.into_rows_result();
    let answer = answer.map_err(|error| CqlError::answer(what, error))?;
    let rows = answer.rows::<R>();
    let rows = rows.map_err(|error| CqlError::answer(what, error))?;
    let rows: Result<VecDeque<R>, _> = rows.collect();
    Ok((rows.map_err(|error| CqlError::answer(what, error))?, next))
}

impl Tables {
    /// The first row of an answer that has few.
    pub(super) fn first<V: Asked, R: Cells>(
        &self,
        statement: &PreparedStatement,
        what: &'static str,
        asked: V,
    ) -> Result<Option<R>, StoreError> {
        let mut rows = self.few::<V, R>(statement, what, asked)?;
        Ok(rows.pop_front())
    }

    /// The rows of an answer that fits one page.
    pub(super) fn few<V: Asked, R: Cells>(
        &self,
        statement: &PreparedStatement,
        what: &'static str,
        asked: V,
    ) -> Result<VecDeque<R>, StoreError> {
        let (client, statement) = (Arc::clone(self.cql.client()), statement.clone());
        let found = self.cql.wait(async move {
            let from = PagingState::start();
            page(&client, &statement, what, asked, from).await
        });
        Ok(found?.0)
    }

    /// The first row of each of many answers, in the order in which they were asked for. Sixty-four are under way at a
    /// time.
    pub(super) fn many<V: Asked, R: Cells>(
        &self,
        statement: &PreparedStatement,
        what: &'static str,
        asked: impl IntoIterator<Item = V>,
    ) -> Result<Vec<Option<R>>, StoreError> {
        let asked = asked.into_iter().enumerate();
        let asked = asked.map(|(number, asked)| (number, asked, PagingState::start()));
        let wanted: Vec<_> = asked.collect();
        let mut found: Vec<Option<R>> = Vec::new();
        found.resize_with(wanted.len(), || None);
        let client = Arc::clone(self.cql.client());
        let pages = pages(client, statement.clone(), what, wanted);
        for (number, mut rows, _) in self.cql.wait(pages)? {
            if let Some(partition) = found.get_mut(number) {
                *partition = rows.pop_front();
            }
        }
        Ok(found)
    }
}
