//! Who this node is: a new incarnation with each start, and the incarnation before, which has surely ended.

use std::io;
use std::path::Path;

use rustls::crypto::aws_lc_rs;
use till_storage::cluster::NodeId;
use till_storage::disk::Disk;

use crate::cluster::note;

/// The file in the data folder that names the last life.
const FILE: &str = "node";

/// Whether an engine that shares a store with others has ever run in this folder.
pub(crate) fn has_joined(data_dir: &Path) -> bool {
    data_dir.join(FILE).exists()
}

/// The id of a new incarnation.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn new_incarnation() -> io::Result<NodeId> {
    let mut bytes = [0_u8; 16];
    let random = aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
    random.map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(NodeId::from_bytes(bytes))
}

/// Begins a new incarnation; the one before. The data folder is locked by this process, so that the one before has ended.
///
/// # Errors
/// What the file system says.
pub(crate) fn begin(disk: &dyn Disk, data_dir: &Path, me: NodeId) -> io::Result<Option<NodeId>> {
    let path = data_dir.join(FILE);
    let former = note::read(disk, &path)?;
    let number = u128::from_be_bytes(me.to_bytes());
    // A loss of power may take it: the slots of this life are then waited for.
    note::write(disk, &path, &format!("{number:032x}\n"))?;
    Ok(former.and_then(|text| parse(text.trim())))
}

// A file that is no such name says nothing of an earlier life: its slots are waited for.
fn parse(text: &str) -> Option<NodeId> {
    if text.len() != 32 {
        return None;
    }
    let number = u128::from_str_radix(text, 16).ok()?;
    Some(NodeId::from_bytes(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use till_storage::disk::StdDisk;

    use super::*;

    #[test]
    fn each_start_is_a_new_incarnation_that_knows_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, third] = [0; 3].map(|_| new_incarnation().unwrap());
        assert_ne!(second, first);
        assert_eq!(begin(&StdDisk, dir.path(), first).unwrap(), None);
        assert_eq!(begin(&StdDisk, dir.path(), second).unwrap(), Some(first));
        std::fs::write(dir.path().join(FILE), "what is this").unwrap();
        assert_eq!(begin(&StdDisk, dir.path(), third).unwrap(), None);
    }
}
