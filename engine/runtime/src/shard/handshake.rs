//! Accepts terminals, and registers stores on first sight.

use crate::shard::message::HelloRequest;
use std::sync::Arc;

use till_core::{HelloError, SessionKey, Shard, ShardConfig};
use till_protocol::code::Reason;
use till_protocol::id::Seq;
use till_protocol::reply::{Welcome, welcome_flag};
use till_storage::cluster::Found;
use till_storage::rebuild::FactRows;

use crate::commit::Companion;
use crate::ingress::session::Established;
use crate::shard::state::Stop;
use crate::shard::state::{Done, ShardState};

/// Frames that a device may have in flight.
const CREDIT_FRAMES: u32 = 128;

impl ShardState {
    pub(super) fn handshake(&mut self, mut request: HelloRequest, known: &Found) -> Done {
        let terminal = request.hello.terminal;
        if let Some(cause) = self.slot.why_parked(terminal) {
            self.refuse(&request.session, Reason::TerminalParked, &cause);
            return Ok(());
        }
        if let Some(last) = self.engine.not_served(terminal.store()) {
            request.session.end_committed(last);
            return Ok(());
        }
        if let Some(records) = self.engine.waiting.records(terminal.store()) {
            return self.register_again(&request, records);
        }
        let Some(handshake_state) = self.handshake_state(&request, known)? else {
            return Ok(());
        };
        let key = SessionKey {
            terminal,
            epoch: handshake_state.epoch,
            clock_suspect: handshake_state.clock_suspect,
        };
        let session = Arc::clone(&request.session);
        session.established(Established {
            key,
            known: handshake_state.next_seq.saturating_sub(1),
            has_refusals: handshake_state.has_refusals,
        });
        self.slot.enter(&session);
        let welcome = self.welcome(&handshake_state, key);
        self.marker(Companion::Welcome(session, welcome, request.permit.take()));
        Ok(())
    }

    // `None`: it was refused, and told why.
    fn handshake_state(
        &mut self,
        request: &HelloRequest,
        known: &Found,
    ) -> Result<Option<till_core::HandshakeState>, Stop> {
        let HelloRequest { session, hello, .. } = request;
        let messages = till_core::Hello {
            terminal: hello.terminal,
            epoch: hello.epoch.map_or(0, till_protocol::id::Epoch::get),
            clock: hello.clock,
            currency: hello.currency.map_or(0, |currency| currency.numeric()),
            zone: &hello.zone,
        };
        let now = self.engine.now();
        let mut established =
            self.with_known(known, |shard, rows| shard.hello(now, &messages, rows));
        if matches!(
            established,
            Err(HelloError::Refused(Reason::UnregisteredStore))
        ) {
            if !self.register(request)? {
                return Ok(None);
            }
            established = self.with_rows(|shard, rows| shard.hello(now, &messages, rows));
        }
        match established {
            Ok(handshake_state) => return Ok(Some(handshake_state)),
            Err(HelloError::Refused(reason)) => {
                self.refuse(session, reason, reason.sentence());
            }
            Err(error) => self.not_served(request, &error),
        }
        Ok(None)
    }

    /// What must be known of a terminal is not; it comes again.
    pub(super) fn not_served(&self, request: &HelloRequest, error: &HelloError) {
        tracing::warn!(terminal = %request.hello.terminal, %error, "a terminal could not be accepted");
        self.refuse(
            &request.session,
            Reason::Internal,
            Reason::Internal.sentence(),
        );
    }

    // False: the store was refused, and the device told why.
    fn register(&mut self, request: &HelloRequest) -> Result<bool, Stop> {
        let HelloRequest {
            session, listing, ..
        } = request;
        let store = request.hello.terminal.store();
        let now = self.engine.now();
        let registered = self.with_rows(|shard, rows| {
            shard.register_store(now, store, listing.currency, &listing.zone, rows)
        });
        match registered {
            Ok(Some(record)) => self.append(&record, |shard| Companion::Registered { shard })?,
            Ok(None) => {}
            Err(error) => {
                self.refuse(session, refusal_of(&error), &error.to_string());
                return Ok(false);
            }
        }
        Ok(true)
    }

    // Records of the store wait in the journal for the registration that it has lost. This Hello brings one, which is
    // journalled; nobody is let in before a start has applied what waits, as the rows do not know which sequence numbers
    // the journal holds.
    fn register_again(&self, request: &HelloRequest, records: u64) -> Done {
        let HelloRequest {
            session, listing, ..
        } = request;
        let store = request.hello.terminal.store();
        let waiting = &self.engine.waiting;
        if !waiting.is_registered(store) {
            let rows = FactRows::new(self.engine.views.as_ref(), self.engine.facts.as_ref());
            // The shard itself must not know the store: it would take its events in.
            let mut quarantined = Shard::new(ShardConfig::default());
            let (currency, zone) = (listing.currency, &listing.zone);
            match quarantined.register_store(self.engine.now(), store, currency, zone, &rows) {
                Ok(Some(record)) => {
                    self.append(&record, |shard| Companion::Registered { shard })?;
                    tracing::warn!(%store, records, zone, "a store whose registration was lost is registered again");
                    waiting.register(store);
                }
                Ok(None) => {}
                Err(error) => {
                    self.refuse(session, refusal_of(&error), &error.to_string());
                    return Ok(());
                }
            }
        }
        let text = format!(
            "The journal had lost the registration of store {store} and holds {records} records of it; it is registered again, \
             and its terminals are let in when the engine has been started again."
        );
        self.refuse(session, Reason::TerminalParked, &text);
        Ok(())
    }

    fn welcome(&self, handshake_state: &till_core::HandshakeState, key: SessionKey) -> Welcome {
        let mut flags = 0;
        if handshake_state.is_closed {
            flags |= welcome_flag::CLOSED;
        }
        if handshake_state.clock_suspect {
            flags |= welcome_flag::CLOCK_SUSPECT;
        }
        let latest = till_protocol::id::Epoch::new(handshake_state.latest_epoch);
        Welcome {
            terminal: key.terminal,
            epoch: handshake_state.epoch,
            latest_epoch: latest.unwrap_or(handshake_state.epoch),
            next_seq: Seq::new(handshake_state.next_seq).unwrap_or(Seq::FIRST),
            digest: handshake_state.digest,
            credit_frames: CREDIT_FRAMES.min(self.engine.config.permits_frames),
            frame_bytes_max: till_protocol::limits::FRAME_BYTES_MAX,
            frame_events_max: till_protocol::limits::FRAME_EVENTS_MAX,
            time: self.engine.now(),
            flags,
        }
    }
}

const fn refusal_of(error: &till_core::RegisterError) -> Reason {
    use till_core::RegisterError as E;
    match error {
        E::Currency { .. } => Reason::CurrencyMismatch,
        E::Zone { .. } => Reason::ZoneMismatch,
        E::UnknownCurrency(_) => Reason::UnknownCurrency,
        E::UnknownZone(_) => Reason::UnknownZone,
        _ => Reason::Internal,
    }
}
