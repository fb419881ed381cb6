//! What the disk alone can do: sequential writes of one size, each followed by a sync.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::{FallocateFlags, fallocate};

use crate::engine::to_f64;

/// How much is written at most, and for how long.
const BYTES_MAX: u64 = 1 << 30;
const TIME_MAX: Duration = Duration::from_secs(10);

/// Sequential write + fdatasync of groups of `group_bytes` in a folder, in MB/s (10^6 bytes). Writes as much as
/// `bytes`, at most 1 GiB or 10 s, into a preallocated file that is removed again.
///
/// # Errors
/// Fails when the file cannot be written.
pub(super) fn raw_mb_s(folder: &Path, group_bytes: usize, bytes: u64) -> Result<f64> {
    let path = folder.join("raw-disk.tmp");
    let result = measure(
        &path,
        group_bytes.max(4_096),
        bytes.clamp(64 << 20, BYTES_MAX),
    );
    fs::remove_file(&path).ok();
    result.with_context(|| format!("could not measure the disk with {}", path.display()))
}

fn measure(path: &Path, group_bytes: usize, bytes: u64) -> Result<f64> {
    let mut file = File::create(path)?;
    // As the journal does: the size is settled before the first write, so that a sync moves data only.
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()?;
    let group: Vec<u8> = (0..group_bytes)
        .map(|at| u8::try_from(at % 251).unwrap_or(0))
        .collect();
    let (start, mut written) = (Instant::now(), 0_u64);
    while written < bytes && start.elapsed() < TIME_MAX {
        file.write_all(&group)?;
        file.sync_data()?;
        written += u64::try_from(group.len())?;
    }
    Ok(to_f64(written) / start.elapsed().as_secs_f64() / 1e6)
}
