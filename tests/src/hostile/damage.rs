//! Ways in which bytes are no honest frame.

use anyhow::{Context as _, Result};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _};
use till_protocol::code::Reason;
use till_protocol::header::HEADER_BYTES;
use till_protocol::id::{Seq, TerminalId};
use till_protocol::limits::{FRAME_BYTES_MAX, FRAME_EVENTS_MAX};
use till_protocol::reply::Nack;

use super::line::{archive, good, header, hello};

/// Events of a frame that is then damaged.
const EVENTS: u32 = 20;

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// One bit of a frame.
    BitFlip,
    /// The stream ends inside a frame.
    Cut,
    /// A length above the limit.
    Oversize,
    /// A version that does not exist.
    Version,
    /// A family that does not exist.
    Family,
    /// Other first bytes.
    Magic,
    /// A flag or reserved byte.
    Reserved,
    /// The checksum.
    Crc,
    /// Another number of events than the archive holds, under a good checksum.
    Count,
    /// More events than a frame may announce.
    TooMany,
    /// A sequence number far ahead, under a good checksum.
    Ahead,
    /// The archive's root points and counts elsewhere, under a good checksum.
    Root,
    /// Bytes anywhere in the archive, under a good checksum.
    Archive,
    /// An archive of noise, under a good checksum.
    NoArchive,
    /// What only a server says.
    ServersMessage,
    /// A second Hello.
    SecondHello,
    /// Events before a Hello.
    NoHello,
    /// A damaged Hello.
    BadHello,
    /// Noise from the first byte.
    Noise,
}

impl Damage {
    /// Each.
    pub const ALL: &[Self] = &[
        Self::BitFlip,
        Self::Cut,
        Self::Oversize,
        Self::Version,
        Self::Family,
        Self::Magic,
        Self::Reserved,
        Self::Crc,
        Self::Count,
        Self::TooMany,
        Self::Ahead,
        Self::Root,
        Self::Archive,
        Self::NoArchive,
        Self::ServersMessage,
        Self::SecondHello,
        Self::NoHello,
        Self::BadHello,
        Self::Noise,
    ];

    /// Whether it comes instead of a handshake.
    pub const fn is_before_hello(self) -> bool {
        matches!(self, Self::NoHello | Self::BadHello | Self::Noise)
    }

    /// Reasons of which one must be given. None: what is left may be a frame, and any answer to it will do.
    pub const fn reasons(self) -> &'static [Reason] {
        match self {
            Self::BitFlip => &[
                Reason::BadMagic,
                Reason::BadHeader,
                Reason::Unsupported,
                Reason::TooLarge,
                Reason::BadCrc,
                Reason::Truncated,
            ],
            Self::Cut => &[Reason::Truncated],
            Self::Oversize | Self::TooMany => &[Reason::TooLarge],
            Self::Version | Self::Family => &[Reason::Unsupported],
            Self::Magic | Self::Noise => &[Reason::BadMagic],
            Self::Reserved => &[Reason::BadHeader],
            Self::Crc => &[Reason::BadCrc],
            Self::ServersMessage | Self::SecondHello | Self::NoHello => &[Reason::BadMessage],
            Self::BadHello => &[
                Reason::BadMagic,
                Reason::BadHeader,
                Reason::Unsupported,
                Reason::TooLarge,
                Reason::BadCrc,
                Reason::Truncated,
                Reason::BadHello,
                Reason::BadMessage,
            ],
            Self::Count | Self::Ahead | Self::Root | Self::Archive | Self::NoArchive => &[],
        }
    }
}

/// The bytes of a damaged stream, from where its next event would be.
///
/// # Errors
/// When an archive cannot be made.
pub fn damaged(
    kind: Damage,
    next_seq: u64,
    terminal: TerminalId,
    chance: &mut SmallRng,
) -> Result<Vec<u8>> {
    let mut frame = good(EVENTS, next_seq)?;
    match kind {
        Damage::BitFlip => {
            let len = frame.len();
            flip(&mut frame, chance, 0..len)?;
        }
        Damage::Cut => frame.truncate(chance.random_range(1..frame.len())),
        Damage::Oversize => {
            let length = chance.random_range(FRAME_BYTES_MAX + 1..=u32::MAX);
            put(&mut frame, 8, &length.to_le_bytes())?;
        }
        Damage::Version => put(&mut frame, 5, &[chance.random_range(2..=u8::MAX)])?,
        Damage::Family => put(&mut frame, 4, &[chance.random_range(200..=u8::MAX)])?,
        Damage::Magic => flip(&mut frame, chance, 0..4)?,
        Damage::Reserved => flip(&mut frame, chance, 6..8)?,
        Damage::Crc => flip(&mut frame, chance, 28..HEADER_BYTES)?,
        Damage::TooMany => {
            let count = chance.random_range(FRAME_EVENTS_MAX + 1..=u32::MAX);
            put(&mut frame, 12, &count.to_le_bytes())?;
        }
        Damage::Count | Damage::Ahead | Damage::Root | Damage::Archive | Damage::NoArchive => {
            return under_a_good_checksum(kind, next_seq, chance);
        }
        Damage::ServersMessage => {
            let expected = Seq::new(next_seq)?;
            return Ok(Nack { expected }.encode().to_vec());
        }
        Damage::SecondHello => return Ok(hello(terminal).to_vec()),
        Damage::NoHello => {}
        Damage::BadHello => {
            let mut hello = hello(terminal).to_vec();
            let len = hello.len();
            flip(&mut hello, chance, 0..len)?;
            return Ok(hello);
        }
        Damage::Noise => {
            frame.resize(chance.random_range(HEADER_BYTES..4_096), 0);
            chance.fill_bytes(&mut frame);
        }
    }
    Ok(frame)
}

// The checksum is no proof of good will: whoever can send can compute it.
fn under_a_good_checksum(kind: Damage, next_seq: u64, chance: &mut SmallRng) -> Result<Vec<u8>> {
    let mut payload = archive(EVENTS)?;
    let (mut count, mut first_seq) = (EVENTS, next_seq);
    match kind {
        Damage::Count => {
            count = chance.random_range(1..=FRAME_EVENTS_MAX);
            if count == EVENTS {
                count += 1;
            }
        }
        Damage::Ahead => first_seq += chance.random_range(1..1_u64 << 40),
        Damage::Root => {
            // The root stands last: its vectors are pairs of a relative place and a length.
            let root = payload.len().saturating_sub(48);
            for _ in 0..chance.random_range(1..4) {
                let at = chance.random_range(root..payload.len() - 4);
                let wild: u32 = match chance.random_range(0..4) {
                    0 => u32::MAX,
                    1 => 1 << 31,
                    2 => chance.random_range(0..1 << 20),
                    _ => chance.next_u32(),
                };
                put(&mut payload, at, &wild.to_le_bytes())?;
            }
        }
        Damage::NoArchive => {
            payload.truncate(chance.random_range(1..payload.len()));
            chance.fill_bytes(&mut payload);
        }
        _ => {
            for _ in 0..chance.random_range(1..16) {
                let len = payload.len();
                flip(&mut payload, chance, 0..len)?;
            }
        }
    }
    let length = u32::try_from(payload.len())?;
    let mut frame = header(length, count, first_seq, &payload).to_vec();
    frame.extend_from_slice(&payload);
    Ok(frame)
}

fn flip(bytes: &mut [u8], chance: &mut SmallRng, within: std::ops::Range<usize>) -> Result<()> {
    let at = chance.random_range(within);
    let byte = bytes.get_mut(at).context("flip beyond the end")?;
    *byte ^= 1 << chance.random_range(0..8);
    Ok(())
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) -> Result<()> {
    let place = bytes
        .get_mut(at..at + new.len())
        .context("put beyond the end")?;
    place.copy_from_slice(new);
    Ok(())
}
