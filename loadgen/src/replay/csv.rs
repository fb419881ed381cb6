//! RFC 4180 records out of a stream of bytes, with the line on which each begins.
//!
//! Memory stays bounded whatever the file holds, and one broken row never swallows the rows behind it: a quote that is
//! opened and not closed within [`ROW_BYTES_MAX`], or closed by the quote of a later row, costs its own line only.

use std::io::{self, Read};

/// Longest row, in bytes.
pub const ROW_BYTES_MAX: usize = 64 * 1_024;
const CHUNK: usize = 256 * 1_024;
const _: () = assert!(CHUNK > ROW_BYTES_MAX + 2);
const BOM: &[u8] = b"\xef\xbb\xbf";

/// One row: its fields without quotes, reused from row to row.
#[derive(Debug, Default)]
pub struct Row {
    line: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Row {
    /// Number of the line on which the row begins, from 1.
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// Number of fields.
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no field at all.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A field's bytes.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    /// Whether there is a CR in it that no LF follows: the only line break of very old files.
    pub fn has_bare_return(&self) -> bool {
        self.bytes.contains(&b'\r')
    }

    /// The first field with a line break in it.
    pub fn broken_field(&self) -> Option<usize> {
        let at = self.bytes.iter().position(|byte| *byte == b'\n')?;
        Some(self.ends.partition_point(|end| *end <= at))
    }

    /// A field as text; `None` when it is not there or not UTF-8.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.get(index).and_then(|bytes| str::from_utf8(bytes).ok())
    }

    fn clear(&mut self, line: u64) {
        self.line = line;
        self.bytes.clear();
        self.ends.clear();
    }

    fn end_field(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

/// What came next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// A row of fields.
    Row,
    /// A row that breaks RFC 4180, and why. It holds the fields before the break.
    Broken(&'static str),
    /// The end of the file.
    End,
}

/// Rows of a stream. Empty lines are no rows.
#[derive(Debug)]
pub struct Rows<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    at_end: bool,
    line: u64,
    /// Where the row that came last begins in the buffer, and its line.
    last: (usize, u64),
}

enum Scan {
    /// Bytes up to and with the line break.
    Row(usize),
    Broken(usize, &'static str),
    /// The buffer ends before the row does.
    More,
}

impl<R: Read> Rows<R> {
    /// Rows of a source; a byte order mark at its start is skipped.
    ///
    /// # Errors
    /// Returns the source's error.
    pub fn new(source: R) -> io::Result<Self> {
        let buffer = Vec::with_capacity(2 * CHUNK);
        let mut rows = Self {
            source,
            buffer,
            start: 0,
            at_end: false,
            line: 1,
            last: (0, 1),
        };
        while rows.buffer.len() < BOM.len() && !rows.at_end {
            rows.fill()?;
        }
        if rows.buffer.starts_with(BOM) {
            rows.start = BOM.len();
        }
        Ok(rows)
    }

    /// Reads the next row into `row`.
    ///
    /// # Errors
    /// Returns the source's error.
    pub fn next(&mut self, row: &mut Row) -> io::Result<Next> {
        loop {
            row.clear(self.line);
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            if rest.is_empty() && self.at_end {
                return Ok(Next::End);
            }
            let near = rest
                .get(..rest.len().min(ROW_BYTES_MAX + 2))
                .unwrap_or(rest);
            let (bytes, next) = match scan(near, row) {
                Scan::More if !self.at_end && rest.len() <= ROW_BYTES_MAX => {
                    self.fill()?;
                    continue;
                }
                Scan::More if self.at_end && is_complete(rest, row) => (rest.len(), Next::Row),
                Scan::More => (first_line(rest), Next::Broken(too_long(rest.len()))),
                Scan::Row(bytes) if bytes > ROW_BYTES_MAX => {
                    (first_line(rest), Next::Broken("longer than 64 KiB"))
                }
                Scan::Row(bytes) => (bytes, Next::Row),
                Scan::Broken(bytes, why) => (bytes, Next::Broken(why)),
            };
            if bytes == 0 {
                self.skip_line()?;
                return Ok(next);
            }
            self.take(bytes);
            let is_blank = next == Next::Row && row.len() == 1 && row.bytes.is_empty();
            if !is_blank {
                return Ok(next);
            }
        }
    }

    /// Gives back all but the first line of the row that came last: it holds rows of its own.
    pub fn only_first_line(&mut self) {
        let (start, line) = self.last;
        let row = self.buffer.get(start..self.start).unwrap_or_default();
        let bytes = first_line(row);
        if bytes > 0 {
            (self.start, self.line) = (start + bytes, line + 1);
        }
    }

    fn take(&mut self, bytes: usize) {
        self.last = (self.start, self.line);
        let taken = self
            .buffer
            .get(self.start..self.start + bytes)
            .unwrap_or_default();
        let breaks = taken.iter().filter(|byte| **byte == b'\n').count();
        self.line += u64::try_from(breaks).unwrap_or(u64::MAX);
        self.start += bytes;
    }

    /// Drops what is left of a line that is longer than the buffer.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let bytes = first_line(rest);
            if bytes > 0 {
                self.take(bytes);
                return Ok(());
            }
            self.start = self.buffer.len();
            if self.at_end {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Takes what the source has, and no more: a pipe may have nothing else to say for long.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let before = self.buffer.len();
        self.buffer.resize(before + CHUNK, 0);
        let read = loop {
            let room = self.buffer.get_mut(before..).unwrap_or_default();
            match self.source.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let bytes = read.as_ref().copied().unwrap_or(0);
        self.buffer.truncate(before + bytes);
        self.at_end = read? == 0;
        Ok(())
    }
}

const fn too_long(rest: usize) -> &'static str {
    if rest > ROW_BYTES_MAX {
        "a quote is not closed, or the row is longer than 64 KiB"
    } else {
        "a quote is not closed"
    }
}

/// Bytes of the first line with its break; 0 when there is no break.
fn first_line(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1)
}

/// At the end of the file the last row needs no line break, but its quotes must be closed.
fn is_complete(rest: &[u8], row: &mut Row) -> bool {
    let mut closed = rest.to_vec();
    closed.push(b'\n');
    row.clear(row.line);
    matches!(scan(&closed, row), Scan::Row(bytes) if bytes == closed.len())
}

fn scan(bytes: &[u8], row: &mut Row) -> Scan {
    row.clear(row.line);
    let mut at = 0;
    loop {
        if bytes.get(at) == Some(&b'"') {
            match quoted(bytes, at + 1, row) {
                Some(next) => at = next,
                None => return Scan::More,
            }
            let after = match bytes.get(at) {
                Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => at + 1,
                _ => at,
            };
            if after < bytes.len() && !matches!(bytes.get(after), Some(b',' | b'\n')) {
                if bytes.get(after) == Some(&b'\r') && after + 1 == bytes.len() {
                    return Scan::More;
                }
                // The quote may be that of a later row, which closed one that was left open on the first line.
                return match first_line(bytes) {
                    0 => Scan::More,
                    line => Scan::Broken(line, "text behind a closing quote"),
                };
            }
            at = after;
        } else {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(len) = rest.iter().position(|byte| matches!(byte, b',' | b'\n')) else {
                return Scan::More;
            };
            let field = rest.get(..len).unwrap_or_default();
            let is_last = rest.get(len) == Some(&b'\n');
            let field = if is_last {
                field.strip_suffix(b"\r").unwrap_or(field)
            } else {
                field
            };
            row.bytes.extend_from_slice(field);
            at += len;
        }
        row.end_field();
        match bytes.get(at) {
            Some(b'\n') => return Scan::Row(at + 1),
            Some(_) => at += 1,
            None => return Scan::More,
        }
    }
}

/// Copies a quoted field; gives the place behind its closing quote.
fn quoted(bytes: &[u8], mut at: usize, row: &mut Row) -> Option<usize> {
    loop {
        let rest = bytes.get(at..)?;
        let len = rest.iter().position(|byte| *byte == b'"')?;
        row.bytes.extend_from_slice(rest.get(..len)?);
        at += len + 1;
        if bytes.get(at) != Some(&b'"') {
            return Some(at);
        }
        row.bytes.push(b'"');
        at += 1;
    }
}

#[cfg(test)]
mod tests;
