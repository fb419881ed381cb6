//! Session messages.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use till_protocol::code::Reason;
use till_protocol::codec::{Frame, encode_frame};
use till_protocol::id::TerminalId;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello { pub versions: Vec<(u8,u8)>, pub terminal: u64, pub epoch: u32, pub clock_us: i64, pub currency: u16, pub zone: String }
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome { pub terminal: u64, pub epoch: u32, pub latest_epoch: u32, pub next_seq: u64, pub mark: u64, pub credit_frames: u32, pub frame_bytes_max: u32, pub frame_events_max: u32, pub time_us: i64, pub flags: u32 }
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check { pub epoch: u32, pub first_seq: u64, pub marks: Vec<u64> }
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked { pub epoch: u32, pub first_seq: u64, pub matched: u16, pub known: u16 }
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack { pub journalled: u64, pub committed: u64, pub refusals: Vec<(u64, Reason)> }
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply { Welcome(Welcome), Ack(Ack), Nack(Nack), Slow(Slow), Redirect(Redirect), Bye(Bye), Checked(Checked) }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack { pub expected: u64 }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow { pub wait_ms: u32 }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect { pub address: String }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bye { pub reason: Reason, pub text: String }

fn msg(kind: u8, f: impl FnOnce(&mut BytesMut)) -> Bytes { let mut b = BytesMut::new(); f(&mut b); encode_frame(0, kind, 0, 0, &b) }
pub fn goodbye() -> Bytes { msg(3, |_| {}) }
impl Welcome {
    pub fn closed(&self) -> bool { self.flags & 1 != 0 }
    pub fn clock_suspect(&self) -> bool { self.flags & 2 != 0 }
}
impl Hello {
    pub fn of_device(t: TerminalId, epoch: u32, clock_us: i64, currency: u16, zone: &str) -> Self { Self{versions: vec![(1,1),(4,1),(5,1),(9,1)], terminal: t.to_u64(), epoch, clock_us, currency, zone: zone.into()} }
    pub fn encode(&self) -> Bytes { msg(1, |b| { b.put_u16_le(1); b.put_u8(4); for (f,v) in &self.versions { b.put_u8(*f); b.put_u8(*v);} b.put_u64_le(self.terminal); b.put_u32_le(self.epoch); b.put_i64_le(self.clock_us); b.put_u16_le(self.currency); b.put_u8(self.zone.len().try_into().unwrap_or(0)); b.put_slice(self.zone.as_bytes()); }) }
    pub fn decode(f: &Frame) -> Self { let mut p = f.payload.clone(); p.advance(11); Self{ terminal: p.get_u64_le(), epoch: p.get_u32_le(), ..Self::default() } }
}
impl Check {
    pub fn encode(&self) -> Bytes { msg(2, |b| { b.put_u32_le(self.epoch); b.put_u64_le(self.first_seq); b.put_u16_le(self.marks.len().try_into().unwrap_or(0)); for m in &self.marks { b.put_u64_le(*m);} }) }
    pub fn decode(f: &Frame) -> Self { let mut p = f.payload.clone(); let epoch=p.get_u32_le(); let first_seq=p.get_u64_le(); let n=p.get_u16_le(); Self{epoch, first_seq, marks:(0..n).map(|_|p.get_u64_le()).collect()} }
}
impl Reply {
    pub fn encode(&self) -> Bytes { match self {
        Self::Welcome(w) => msg(16, |b| { b.put_u64_le(w.terminal); b.put_u32_le(w.epoch); b.put_u32_le(w.latest_epoch); b.put_u64_le(w.next_seq); b.put_u64_le(w.mark); b.put_u32_le(w.credit_frames); b.put_u32_le(w.frame_bytes_max); b.put_u32_le(w.frame_events_max); b.put_i64_le(w.time_us); b.put_u32_le(w.flags); }),
        Self::Ack(a) => msg(17, |b| { b.put_u64_le(a.journalled); b.put_u64_le(a.committed); b.put_u16_le(a.refusals.len().try_into().unwrap_or(0)); for (s,r) in &a.refusals { b.put_u64_le(*s); b.put_u16_le(r.code()); b.put_u16_le(0);} }),
        Self::Nack(n) => msg(18, |b| b.put_u64_le(n.expected)),
        Self::Slow(s) => msg(19, |b| b.put_u32_le(s.wait_ms)),
        Self::Redirect(r) => msg(20, |b| { b.put_u8(r.address.len().try_into().unwrap_or(0)); b.put_slice(r.address.as_bytes()); }),
        Self::Bye(y) => msg(21, |b| { b.put_u16_le(y.reason.code()); b.put_u8(y.text.len().try_into().unwrap_or(0)); b.put_slice(y.text.as_bytes()); }),
        Self::Checked(c) => msg(22, |b| { b.put_u32_le(c.epoch); b.put_u64_le(c.first_seq); b.put_u16_le(c.matched); b.put_u16_le(c.known); }),
    } }
    pub fn decode(f: &Frame) -> Result<Self, till_protocol::header::WireError> { let mut p = f.payload.clone(); Ok(match f.header.version {
        16 => Self::Welcome(Welcome{ terminal: p.get_u64_le(), epoch: p.get_u32_le(), latest_epoch: p.get_u32_le(), next_seq: p.get_u64_le(), mark: p.get_u64_le(), credit_frames: p.get_u32_le(), frame_bytes_max: p.get_u32_le(), frame_events_max: p.get_u32_le(), time_us: p.get_i64_le(), flags: p.get_u32_le() }),
        17 => { let journalled=p.get_u64_le(); let committed=p.get_u64_le(); let n=p.get_u16_le(); Self::Ack(Ack{journalled, committed, refusals:(0..n).map(|_|{let s=p.get_u64_le(); let r=p.get_u16_le(); p.advance(2); (s,Reason::from_code(r))}).collect()}) }
        18 => Self::Nack(Nack{expected:p.get_u64_le()}),
        19 => Self::Slow(Slow{wait_ms:p.get_u32_le()}),
        20 => Self::Redirect(Redirect{address: String::from_utf8_lossy(&p[1..]).into_owned()}),
        21 => { let r=p.get_u16_le(); Self::Bye(Bye{reason:Reason::from_code(r), text:String::from_utf8_lossy(&p[1..]).into_owned()}) }
        _ => Self::Checked(Checked{epoch:p.get_u32_le(), first_seq:p.get_u64_le(), matched:p.get_u16_le(), known:p.get_u16_le()}),
    }) }
}
