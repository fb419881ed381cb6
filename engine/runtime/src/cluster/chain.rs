//! Which chain a data folder belongs to, where its engine shares a store with others.
//!
//! Records that are in no commit are handed off to the other engines of a store, so that those of another chain must
//! never get there.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use till_storage::cluster::ChainId;
use till_storage::disk::Disk;

use crate::cluster::note;

/// The file in a data folder that names its chain.
const FILE: &str = "chain";

/// Why a folder does not fit to a shared store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The journal has records of another chain, which are in no commit there.
    #[error(
        "{} holds events of another chain that its shared store does not have yet; name the keyspace that it worked on, or give this engine another folder",
        .0.display()
    )]
    Other(PathBuf),
    /// The file that names the chain cannot be read or written.
    #[error("{}: {cause}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: io::Error,
    },
}

/// The chain of a data folder; `None` where its engine has never shared a store.
///
/// # Errors
/// [`ChainError::File`] when the file is there and cannot be read.
pub(crate) fn chain_of(disk: &dyn Disk, data_dir: &Path) -> Result<Option<ChainId>, ChainError> {
    let file = data_dir.join(FILE);
    let text = match note::read(disk, &file) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(cause) => return Err(ChainError::File { file, cause }),
    };
    let odd = |()| io::Error::other("it names no chain; copy it from another engine of the chain");
    let chain = text.trim().parse().map_err(odd);
    chain
        .map(Some)
        .map_err(|cause| ChainError::File { file, cause })
}

/// Says in a folder that its journal is of this chain from now on.
///
/// # Errors
/// [`ChainError::Other`] when it is another's and has something left for that; [`ChainError::File`].
pub(crate) fn bind(
    disk: &dyn Disk,
    data_dir: &Path,
    chain: ChainId,
    is_anything_left: impl FnOnce() -> bool,
) -> Result<(), ChainError> {
    match chain_of(disk, data_dir)? {
        Some(known) if known == chain => return Ok(()),
        Some(_) if is_anything_left() => return Err(ChainError::Other(data_dir.to_path_buf())),
        Some(_) | None => {}
    }
    let file = data_dir.join(FILE);
    // It outlives a loss of power: a file that names no chain would keep the engine from starting.
    note::keep(disk, &file, &format!("{chain}\n")).map_err(|cause| ChainError::File { file, cause })
}

#[cfg(test)]
mod tests {
    use till_storage::disk::{SimDisk, StdDisk};

    use super::*;

    #[test]
    fn a_folder_stays_with_its_chain_as_long_as_it_has_something_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (ChainId::of(&[1; 32]), ChainId::of(&[2; 32]));
        assert_eq!(chain_of(&StdDisk, dir.path()).unwrap(), None);
        bind(&StdDisk, dir.path(), one, || true).unwrap();
        assert_eq!(chain_of(&StdDisk, dir.path()).unwrap(), Some(one));
        bind(&StdDisk, dir.path(), one, || true).unwrap();
        let error = bind(&StdDisk, dir.path(), other, || true).unwrap_err();
        assert!(matches!(error, ChainError::Other(_)), "{error}");
        bind(&StdDisk, dir.path(), other, || false).unwrap();
        assert_eq!(chain_of(&StdDisk, dir.path()).unwrap(), Some(other));
        std::fs::write(dir.path().join(FILE), "what is this").unwrap();
        let error = chain_of(&StdDisk, dir.path()).unwrap_err().to_string();
        assert!(error.contains("names no chain"), "{error}");
    }

    #[test]
    fn a_folder_names_its_chain_after_a_loss_of_power() {
        let (disk, dir) = (SimDisk::new(0), Path::new("/data"));
        disk.make_dir(dir).unwrap();
        let chain = ChainId::of(&[1; 32]);
        bind(&disk, dir, chain, || true).unwrap();
        assert_eq!(chain_of(&disk.crash(), dir).unwrap(), Some(chain));
    }
}
