//! Who this node is: a new life with each start, and the life before, which has surely ended.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use rustls::crypto::aws_lc_rs;
use till_storage::cluster::NodeId;

/// The file in the data folder that names the last life.
const FILE: &str = "node";

/// Whether an engine that shares a store with others has ever run in this folder.
pub(crate) fn has_joined(data_dir: &Path) -> bool {
    data_dir.join(FILE).exists()
}

/// A new life, and the one before. The data folder is locked by this process, so that the one before has ended.
///
/// # Errors
/// What the file system says; also when the system gives no random bytes.
pub(crate) fn begin(data_dir: &Path) -> io::Result<(NodeId, Option<NodeId>)> {
    let path = data_dir.join(FILE);
    let former = match fs::read_to_string(&path) {
        Ok(text) => parse(text.trim()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut bytes = [0_u8; 16];
    let random = aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
    random.map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let mut text = String::with_capacity(33);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _written = write!(text, "{byte:02x}");
    }
    text.push('\n');
    let new = data_dir.join("node.new");
    fs::write(&new, text)?;
    fs::rename(&new, &path)?;
    Ok((NodeId::from_bytes(bytes), former))
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
    use super::*;

    #[test]
    fn each_start_is_a_new_life_that_knows_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (first, none) = begin(dir.path()).unwrap();
        assert_eq!(none, None);
        let (second, former) = begin(dir.path()).unwrap();
        assert_eq!(former, Some(first));
        assert_ne!(second, first);
        fs::write(dir.path().join(FILE), "what is this").unwrap();
        assert_eq!(begin(dir.path()).unwrap().1, None);
    }
}
