//! One stream: a Hello, then frames in and acks out, until either side ends it.
//!
//! A reader and a writer share the [`Session`](till_runtime::Session). Whatever is wrong with the bytes ends this stream with a reason, and no
//! other. Nothing is held for a stream but one unfinished frame, whose bytes come out of common budgets; before the Hello,
//! nothing but a Hello.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quinn::{RecvStream, SendStream};
use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::reply::{Bye, Hello, Message};
use till_runtime::{End, FrameBatch, Inlet, ended};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use crate::abuse_control::AbuseControl;
use crate::ending::{arrived, finish, refuse, write};
use crate::hall::Hall;
use crate::hello::{KnownFamilies, authorised};
use crate::patience::Holding;
use crate::pki::Authorisation;
use crate::reader::{Reader, TICK, no_room};
use crate::unfinished::Held;

/// What a stream has of its connection.
pub(crate) struct Seat {
    /// What the engine holds back of the connection.
    pub(crate) holding: Arc<Holding>,
    /// What the connection does to no effect.
    pub(crate) abuse: Arc<AbuseControl>,
    /// The room that an unfinished frame takes.
    pub(crate) held: Held,
    /// Nobody has said Hello on it yet.
    pub(crate) unnamed: Option<OwnedSemaphorePermit>,
}

/// Serves a stream until it ends.
pub(crate) async fn serve(
    hall: Arc<Hall>,
    authorisation: Arc<Authorisation>,
    seat: Seat,
    send: SendStream,
    recv: RecvStream,
) {
    let streams = &hall.intake.figures().streams;
    streams.fetch_add(1, Ordering::Relaxed);
    // In a place of its own: each future that it is handed on to would have room for it, and twice.
    let mut reader = Box::new(Reader::new(recv, seat.held, seat.holding, seat.abuse));
    let hello = reader.hello(hall.network.hello_timeout).await;
    drop(seat.unnamed);
    match hello {
        Ok(hello) => Box::pin(live(&hall, &authorisation, hello, reader, send)).await,
        Err(End::Bye(reason, text)) => {
            let text = text.unwrap_or_else(|| reason.sentence().to_owned());
            reader.charge(&hall, None, reader.wasted(reason));
            refuse(&hall.intake, reader, send, Bye { reason, text }.into()).await;
        }
        Err(_) => {}
    }
    streams.fetch_sub(1, Ordering::Relaxed);
}

async fn live(
    hall: &Hall,
    authorisation: &Authorisation,
    hello: Box<Hello>,
    mut reader: Box<Reader>,
    mut send: SendStream,
) {
    let terminal = hello.terminal;
    let known_families = KnownFamilies::of(&hello);
    let opened = authorised(authorisation, terminal).and_then(|()| hall.intake.open(hello));
    let knocking = match opened {
        Ok(knocking) => knocking,
        Err(last) => {
            if let Message::Bye(bye) = &last {
                reader.charge(hall, Some(terminal), ended(bye.reason));
            }
            return refuse(&hall.intake, reader, send, last).await;
        }
    };
    let abuse = Arc::clone(&reader.abuse);
    abuse.authorisation(&hall.limited_terminals, terminal, Instant::now());
    let entered = {
        let _held = reader.holding.hold();
        knocking.enter(hall.network.hello_timeout).await
    };
    let inlet = match entered {
        Ok(inlet) => inlet,
        Err(bye) => return refuse(&hall.intake, reader, send, bye.into()).await,
    };
    let session = Arc::clone(inlet.session());
    let mut writer = tokio::spawn({
        let session = Arc::clone(&session);
        async move {
            write(&session, &mut send).await;
            send
        }
    });
    let holding = Arc::clone(&reader.holding);
    let line = StreamLine {
        hall,
        inlet: &inlet,
        known_families,
        holding: &holding,
        abuse: &abuse,
    };
    let end = frames(&mut reader, line).await;
    line.charge(match &end {
        End::Bye(reason, _) => reader.wasted(*reason),
        // The device itself has cut a frame off: a line that breaks ends the connection.
        End::Goodbye if !reader.is_at_boundary() => reader.wasted(Reason::Truncated),
        End::Gone | End::Goodbye | End::Draining | End::Over => 0,
    });
    reader.ignore_until(inlet.end(end)).await;
    // The writer ends with the session, after its last word; that may wait for a commit, but not so long that a drain is over.
    let wait = hall.drain_timeout / 2;
    let reported = reader.ignore_until(timeout(wait, &mut writer)).await;
    let reported = match reported {
        Ok(reported) => reported,
        Err(_) => {
            session.let_go();
            reader.ignore_until(writer).await
        }
    };
    if let Ok(mut send) = reported {
        finish(&mut send, &mut reader.recv);
        if hall.intake.is_draining() {
            arrived(&send).await;
        }
    }
    inlet.leave();
}

/// The way of a stream's frames.
#[derive(Clone, Copy)]
struct StreamLine<'a> {
    hall: &'a Hall,
    inlet: &'a Inlet,
    /// What the stream may send.
    known_families: KnownFamilies,
    /// What the engine holds back of the connection.
    holding: &'a Holding,
    /// What the connection does to no effect.
    abuse: &'a AbuseControl,
}

impl StreamLine<'_> {
    // So much was done to no effect, beside what the shard has found to be.
    fn charge(self, points: u64) {
        let session = self.inlet.session();
        let points = points + session.take_useless();
        let terminal = Some(session.terminal());
        let all = &self.hall.limited_terminals;
        self.abuse.charge(all, terminal, points, Instant::now());
    }

    fn is_over(self) -> bool {
        self.inlet.session().is_over()
    }

    // Frames go to their shard, as many as came together.
    async fn submit(self, batch: FrameBatch) -> Result<(), End> {
        let submitted = self.inlet.submit(batch, || self.holding.hold()).await;
        self.charge(0);
        submitted
    }

    // A word of a device that has been accepted.
    async fn message(self, frame: &Frame) -> Result<(), End> {
        let message = Message::decode(frame)
            .map_err(|error| End::Bye(error.reason(), Some(error.to_string())))?;
        match message {
            Message::Goodbye => Err(End::Goodbye),
            Message::Check(check) => self.inlet.check(check, || self.holding.hold()).await,
            _ => Err(End::Bye(Reason::BadMessage, None)),
        }
    }
}

// Frames in, until the stream is over.
async fn frames(reader: &mut Reader, line: StreamLine<'_>) -> End {
    let mut cordoned = std::pin::pin!(line.hall.intake.cordoned());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let share = reader.held.share();
    let holding = Arc::clone(&reader.holding);
    loop {
        let holds = !reader.held.is_empty();
        // Whatever a stream waits for, it gives way meanwhile: who does not is in the way of all others.
        let taken = tokio::select! {
            biased;
            () = share.evicted(), if holds => return no_room(),
            taken = take(reader, line) => taken,
        };
        let is_all = match taken {
            Ok(is_all) => is_all,
            Err(end) => return end,
        };
        let holds = !reader.held.is_empty();
        // What was read and not taken must be taken before more is read.
        let wait = line.abuse.wait(Instant::now());
        let wait = wait.or_else(|| (!is_all).then_some(Duration::ZERO));
        // Nobody waits with room that all share.
        if wait.is_some() && holds {
            return no_room();
        }
        let held_back = wait.map(|_| holding.hold());
        tokio::select! {
            biased;
            () = sleep(wait.unwrap_or_default().min(TICK)), if wait.is_some() => {
                if line.is_over() {
                    return End::Over;
                }
            }
            filled = reader.fill(), if wait.is_none() => match filled {
                Ok(true) => {}
                Ok(false) => return End::Goodbye,
                Err(end) => return end,
            },
            _ = tick.tick() => {
                if line.is_over() {
                    return End::Over;
                }
                if reader.is_late(line.hall.network.frame_timeout) {
                    return End::Bye(Reason::Idle, Some("a frame took too long to arrive".to_owned()));
                }
            }
            () = &mut cordoned => return End::Draining,
            () = share.evicted(), if holds => return no_room(),
        }
        drop(held_back);
    }
}

// What is complete goes to the shard, and what is not gets room. `false`: as for `take_all`.
async fn take(reader: &mut Reader, line: StreamLine<'_>) -> Result<bool, End> {
    let is_all = take_all(reader, line).await?;
    reader.make_room(line.hall).await?;
    Ok(is_all)
}

// Every frame that is complete goes to the shard, as many as there are at a time. `false`: the connection has to wait
// before the rest of them.
async fn take_all(reader: &mut Reader, line: StreamLine<'_>) -> Result<bool, End> {
    let mut pending = FrameBatch::default();
    let end = loop {
        if pending.is_empty() {
            line.charge(0);
            if line.abuse.wait(Instant::now()).is_some() {
                break Ok(false);
            }
        }
        let frame = match reader.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => break Ok(true),
            Err(end) => break Err(end),
        };
        if frame.header.is_session() {
            line.submit(std::mem::take(&mut pending)).await?;
            line.message(&frame).await?;
            continue;
        }
        if !line.known_families.has(frame.header.family) {
            let text = format!(
                "the Hello does not list version 1 of family {}",
                frame.header.family
            );
            break Err(End::Bye(Reason::Unsupported, Some(text)));
        }
        pending.push(frame);
        if pending.is_full() {
            line.submit(std::mem::take(&mut pending)).await?;
        }
    };
    // What came before bytes that are no frame counts.
    line.submit(pending).await?;
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood opens as many streams as there may be: their number is bounded, and what each has in memory must be small.
    #[test]
    fn a_stream_is_small_in_memory() {
        fn size<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
            size_of::<F>()
        }
        let live = size::<&'static Hall, &'static Authorisation, _, _, _, _>(live);
        let all = size(serve) + live + size_of::<Reader>() + size_of::<till_runtime::Session>();
        assert!(all < 6 << 10, "{all} bytes");
    }
}
