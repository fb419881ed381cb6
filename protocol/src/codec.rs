//! Chunks of a stream become frames, and frames become bytes.
//!
//! The decoder does no I/O: push what arrived, pull what is complete. A frame that lies in one chunk is handed out in
//! place; any other is gathered once. A length is checked against its limit before anything is kept, and memory grows only
//! with bytes that really arrived, also when they come one by one.

use bytes::{Bytes, BytesMut};

use crate::header::{FrameHeader, HEADER_BYTES, WireError};

/// A header with the payload that it describes. The checksum matched when it came from a [`FrameDecoder`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// What the frame says of itself.
    pub header: FrameHeader,
    /// The payload, shared with the chunk or the gathering buffer.
    pub payload: Bytes,
}

impl Frame {
    /// A frame around a payload, with its length and checksum filled in.
    ///
    /// # Errors
    /// [`WireError`] when the parts break a limit of the header.
    pub fn new(
        family: u8,
        version: u8,
        count: u32,
        first_seq: u64,
        payload: Bytes,
    ) -> Result<Self, WireError> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut header = FrameHeader {
            family,
            version,
            length,
            count,
            first_seq,
            crc: 0,
        };
        header.check()?;
        header.crc = header.crc_of(&payload);
        Ok(Self { header, payload })
    }

    /// Header and payload in one piece, ready to be sent.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + self.payload.len());
        bytes.extend_from_slice(&self.header.encode());
        bytes.extend_from_slice(&self.payload);
        bytes.freeze()
    }

    /// Reads exactly one frame from bytes that hold nothing else.
    ///
    /// # Errors
    /// [`WireError`] as from the decoder; trailing bytes are out of step.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let length = bytes.len();
        let mut decoder = FrameDecoder::new();
        decoder.push(bytes);
        let frame = decoder.next()?.ok_or_else(|| decoder.truncated())?;
        if frame.payload.len() + HEADER_BYTES != length {
            let max = frame.header.length;
            return Err(WireError::TooLarge {
                bytes: u32::try_from(length - HEADER_BYTES).unwrap_or(u32::MAX),
                max,
            });
        }
        Ok(frame)
    }
}

/// Bytes of a frame around a payload. Out of range values make a frame that no decoder takes; builders check first.
pub fn encode_frame(family: u8, version: u8, count: u32, first_seq: u64, payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut header = FrameHeader {
        family,
        version,
        length,
        count,
        first_seq,
        crc: 0,
    };
    header.crc = header.crc_of(payload);
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// Turns chunks of one stream into frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    // Bytes of frames that did not lie in one chunk; they come before those of `chunk`.
    gathered: BytesMut,
    chunk: Bytes,
    // The checked header of the frame that is being read.
    head: Option<FrameHeader>,
    failed: Option<WireError>,
}

impl FrameDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next chunk of the stream. Pull frames until there is none before pushing again: then nothing is copied
    /// that lies in one chunk, and at most one frame is held.
    pub fn push(&mut self, chunk: Bytes) {
        if !self.chunk.is_empty() {
            let rest = std::mem::take(&mut self.chunk);
            self.gathered.extend_from_slice(&rest);
        }
        self.chunk = chunk;
    }

    /// The next complete frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are no frame. There is no way back into step, so each later call gives the same error.
    #[expect(
        clippy::should_implement_trait,
        reason = "a stream of results, not an iterator: None means more bytes"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance().inspect_err(|error| {
            self.failed = Some(*error);
            self.gathered = BytesMut::new();
            self.chunk = Bytes::new();
        })
    }

    /// Whether the stream may end here: no frame has begun.
    pub fn is_at_boundary(&self) -> bool {
        self.gathered.is_empty() && self.chunk.is_empty()
    }

    /// The header of the frame that is being read, once all of it is there. Its checksum was not looked at yet.
    pub const fn head(&self) -> Option<&FrameHeader> {
        self.head.as_ref()
    }

    /// Bytes that are held for a frame that is not complete.
    pub fn held(&self) -> usize {
        self.gathered.len() + self.chunk.len()
    }

    /// The error for a stream that ended here, inside a frame.
    pub fn truncated(&self) -> WireError {
        let missing = self.need().saturating_sub(self.held());
        WireError::Truncated {
            missing: u32::try_from(missing).unwrap_or(u32::MAX),
        }
    }

    fn advance(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            let need = self.need();
            if self.gathered.is_empty() && self.chunk.len() >= need {
                match self.head {
                    None => self.read_head_of_chunk()?,
                    Some(head) => {
                        let bytes = self.chunk.split_to(need);
                        return self.finish(head, bytes).map(Some);
                    }
                }
                continue;
            }
            if !self.gather(need) {
                return Ok(None);
            }
            match self.head {
                None => self.read_head_of_gathered()?,
                Some(head) => {
                    let bytes = self.gathered.split_to(need).freeze();
                    if self.gathered.is_empty() {
                        // A frame of a device that then falls silent must not keep its buffer here too.
                        self.gathered = BytesMut::new();
                    }
                    return self.finish(head, bytes).map(Some);
                }
            }
        }
    }

    // Bytes of the frame that must be there before the next step.
    fn need(&self) -> usize {
        let payload = self
            .head
            .map_or(0, |head| usize::try_from(head.length).unwrap_or(usize::MAX));
        HEADER_BYTES.saturating_add(payload)
    }

    fn gather(&mut self, need: usize) -> bool {
        let wanted = need.saturating_sub(self.gathered.len());
        let taken = self.chunk.split_to(wanted.min(self.chunk.len()));
        if self.gathered.capacity() - self.gathered.len() < taken.len() {
            // Doubles at most, so that growth is paid for by bytes that came; never above what the frame needs.
            let extra = wanted.min(self.gathered.len().max(taken.len()));
            self.gathered.reserve(extra.max(taken.len()));
        }
        self.gathered.extend_from_slice(&taken);
        if self.chunk.is_empty() {
            // An empty view would still hold the whole chunk.
            self.chunk = Bytes::new();
        }
        self.gathered.len() >= need
    }

    fn read_head_of_chunk(&mut self) -> Result<(), WireError> {
        if let Some(bytes) = self.chunk.first_chunk() {
            self.head = Some(FrameHeader::decode(bytes)?);
        }
        Ok(())
    }

    fn read_head_of_gathered(&mut self) -> Result<(), WireError> {
        if let Some(bytes) = self.gathered.first_chunk() {
            self.head = Some(FrameHeader::decode(bytes)?);
        }
        Ok(())
    }

    fn finish(&mut self, header: FrameHeader, mut bytes: Bytes) -> Result<Frame, WireError> {
        self.head = None;
        if self.chunk.is_empty() {
            self.chunk = Bytes::new();
        }
        let payload = bytes.split_off(HEADER_BYTES);
        let found = header.crc_of(&payload);
        if found != header.crc {
            return Err(WireError::BadCrc {
                stated: header.crc,
                found,
            });
        }
        Ok(Frame { header, payload })
    }
}

#[cfg(test)]
mod tests;
