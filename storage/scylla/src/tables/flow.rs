//! All rows of many partitions, in any order: pages are fetched and decoded while the caller takes in those that came before.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use till_storage::views::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Tables;
use super::read::{Asked, Cells, page};
use crate::client::Client;
use crate::error::CqlError;

/// Partitions that are read side by side. More than nodes can work at only fill their memory: one node took a third longer for
/// 64 pages of 5,000 rows than for 16 of 2,000.
const READERS: usize = 16;
/// Pages that are under way or wait for the caller at most.
const PAGES_MAX: usize = 2 * READERS;

/// A page of a partition.
struct FlowPage<R> {
    /// Which of the partitions that were asked for.
    number: usize,
    rows: VecDeque<R>,
    is_last: bool,
    /// Makes room for a further page once this one is taken in.
    room: OwnedSemaphorePermit,
}

/// What all readers of a flow share.
struct Flow<V, R> {
    client: Arc<Client>,
    statement: PreparedStatement,
    what: &'static str,
    asked: Arc<[V]>,
    /// The partition that nobody reads yet.
    next: AtomicUsize,
    room: Arc<Semaphore>,
    out: mpsc::Sender<Result<FlowPage<R>, CqlError>>,
}

impl<V: Asked, R: Cells> Flow<V, R> {
    // Reads one partition after another, until there is none or the caller has gone.
    async fn read(self: Arc<Self>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(asked) = self.asked.get(number) else {
                return;
            };
            if let Err(error) = self.partition(number, asked).await {
                // Nobody waits any more when this fails.
                drop(self.out.send(Err(error)));
                return;
            }
        }
    }

    async fn partition(&self, number: usize, asked: &V) -> Result<(), CqlError> {
        let mut from = PagingState::start();
        loop {
            let room = Arc::clone(&self.room).acquire_owned().await;
            let room = room.map_err(|_| CqlError::Stopped)?;
            let (client, asked) = (self.client.as_ref(), asked.clone());
            let (rows, next) = page(client, &self.statement, self.what, asked, from).await?;
            let page = FlowPage {
                number,
                rows,
                is_last: next.is_none(),
                room,
            };
            let sent = self.out.send(Ok(page));
            // The caller has gone: it has an error.
            sent.map_err(|_| CqlError::Stopped)?;
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }
}

impl Tables {
    /// Every row of many partitions, with what its partition was asked by. Rows of one partition come in its order, with those of
    /// others between.
    pub(super) fn each_row<V: Asked, R: Cells>(
        &self,
        statement: &PreparedStatement,
        what: &'static str,
        asked: Vec<V>,
        each: &mut dyn FnMut(&V, R) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let asked: Arc<[V]> = asked.into();
        let (out, pages) = mpsc::channel();
        let flow = Arc::new(Flow {
            client: Arc::clone(self.cql.client()),
            statement: statement.clone(),
            what,
            asked: Arc::clone(&asked),
            next: AtomicUsize::new(0),
            room: Arc::new(Semaphore::new(PAGES_MAX)),
            out,
        });
        for _ in 0..asked.len().min(READERS) {
            self.cql.start(Arc::clone(&flow).read())?;
        }
        drop(flow);
        let mut whole = 0;
        for page in pages {
            let FlowPage {
                number,
                rows,
                is_last,
                room,
            } = page?;
            if let Some(of) = asked.get(number) {
                rows.into_iter().try_for_each(|row| each(of, row))?;
            }
            whole += usize::from(is_last);
            drop(room);
        }
        // A reader that panicked has not sent all of its partition.
        match whole == asked.len() {
            true => Ok(()),
            false => Err(CqlError::Stopped.into()),
        }
    }
}
