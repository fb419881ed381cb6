//! Which chain a data folder belongs to, where its engine shares a store with others.
//!
//! Records that are in no commit are handed over to the other engines of a store, so that those of another chain must
//! never get there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use till_storage::cluster::ChainId;

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
pub(crate) fn chain_of(data_dir: &Path) -> Result<Option<ChainId>, ChainError> {
    let file = data_dir.join(FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
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
    data_dir: &Path,
    chain: ChainId,
    is_anything_left: impl FnOnce() -> bool,
) -> Result<(), ChainError> {
    match chain_of(data_dir)? {
        Some(known) if known == chain => return Ok(()),
        Some(_) if is_anything_left() => return Err(ChainError::Other(data_dir.to_path_buf())),
        Some(_) | None => {}
    }
    let (file, new) = (data_dir.join(FILE), data_dir.join("chain.new"));
    let written = fs::write(&new, format!("{chain}\n")).and_then(|()| fs::rename(&new, &file));
    written.map_err(|cause| ChainError::File { file, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stays_with_its_chain_as_long_as_it_has_something_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (ChainId::of(&[1; 32]), ChainId::of(&[2; 32]));
        assert_eq!(chain_of(dir.path()).unwrap(), None);
        bind(dir.path(), one, || true).unwrap();
        assert_eq!(chain_of(dir.path()).unwrap(), Some(one));
        bind(dir.path(), one, || true).unwrap();
        let error = bind(dir.path(), other, || true).unwrap_err();
        assert!(matches!(error, ChainError::Other(_)), "{error}");
        bind(dir.path(), other, || false).unwrap();
        assert_eq!(chain_of(dir.path()).unwrap(), Some(other));
        fs::write(dir.path().join(FILE), "what is this").unwrap();
        let error = chain_of(dir.path()).unwrap_err().to_string();
        assert!(error.contains("names no chain"), "{error}");
    }
}
