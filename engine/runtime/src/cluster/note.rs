//! Short texts in a data folder, which are replaced as a whole.

use std::io::{self, IoSlice};
use std::path::Path;

use till_storage::disk::Disk;

/// A text; `None` where there is none.
///
/// # Errors
/// What the file system says.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<String>> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        let offset = u64::try_from(read).map_err(io::Error::other)?;
        match file.read_at(rest, offset)? {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Puts a text in place of the one before. After a loss of power either is there, or what nobody wrote.
///
/// # Errors
/// What the file system says; the text before is there then.
pub(crate) fn write(disk: &dyn Disk, path: &Path, text: &str) -> io::Result<()> {
    put(disk, path, text, false)
}

/// As [`write`], and it stays there whatever happens.
///
/// # Errors
/// What the file system says; either text is there then.
pub(crate) fn keep(disk: &dyn Disk, path: &Path, text: &str) -> io::Result<()> {
    put(disk, path, text, true)?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
}

fn put(disk: &dyn Disk, path: &Path, text: &str, syncs: bool) -> io::Result<()> {
    let new = path.with_extension("new");
    let file = disk.create(&new)?;
    file.write_at(&[IoSlice::new(text.as_bytes())], 0)?;
    if syncs {
        file.sync()?;
    }
    disk.rename(&new, path)
}

#[cfg(test)]
mod tests {
    use till_storage::disk::StdDisk;

    use super::*;

    #[test]
    fn a_text_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain");
        assert_eq!(read(&StdDisk, &path).unwrap(), None);
        keep(&StdDisk, &path, "a longer text\n").unwrap();
        write(&StdDisk, &path, "short\n").unwrap();
        assert_eq!(read(&StdDisk, &path).unwrap().unwrap(), "short\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
