//! Golden bytes: what was once sent can be read for ever.

use std::path::PathBuf;

use bytes::Bytes;
use till_protocol::codec::Frame;
use till_protocol::safe;
use till_protocol::verified::Verified;

use crate::samples::{self, KEY, rebuild};

pub(crate) fn read(name: &str) -> Bytes {
    Bytes::from(
        std::fs::read(path(name)).unwrap_or_else(|error| panic!("golden file {name}: {error}")),
    )
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.bin"))
}

#[test]
fn every_sample_is_written_as_its_golden_bytes() {
    for (name, frame) in samples::all() {
        assert_eq!(
            frame.encode(),
            read(name),
            "{name}: a frozen shape has changed; a new shape is a new version"
        );
    }
}

#[test]
fn golden_bytes_are_read_by_both_decoders_as_the_same_sample() {
    for (name, sample) in samples::all() {
        let frame = Frame::decode(read(name)).unwrap();
        assert_eq!(frame, sample, "{name}");
        let batch = safe::decode(&frame.header, &frame.payload).unwrap();
        let verified = Verified::check(frame, &KEY).unwrap();
        assert_eq!(rebuild(&verified.view()), batch, "{name}");
        assert_eq!(verified.refusals(), [], "{name}");
        assert!(
            verified.masked().is_empty() && verified.renamed().is_empty(),
            "{name}"
        );
    }
}

#[test]
fn golden_payloads_are_what_rkyv_itself_writes() {
    use rkyv::rancor::Failure;
    for (name, frame) in samples::all() {
        let bytes = match safe::decode(&frame.header, &frame.payload).unwrap() {
            safe::SafeBatch::Sale(batch) => rkyv::to_bytes::<Failure>(&batch),
            safe::SafeBatch::Stock(batch) => rkyv::to_bytes::<Failure>(&batch),
            safe::SafeBatch::Sensor(batch) => rkyv::to_bytes::<Failure>(&batch),
            safe::SafeBatch::Device(batch) => rkyv::to_bytes::<Failure>(&batch),
        };
        assert_eq!(&bytes.unwrap()[..], &frame.payload[..], "{name}");
    }
}

/// Writes the files: for a new version only. Run with `--ignored`.
/// A new family or version gets its file by `TILL_WRITE_GOLDEN=1 cargo test -p till-protocol`; a file that is there is
/// never written again.
#[test]
fn every_sample_has_its_golden_file() {
    for (name, frame) in samples::all() {
        if std::env::var_os("TILL_WRITE_GOLDEN").is_some() && !path(name).exists() {
            std::fs::write(path(name), frame.encode()).unwrap();
        }
        assert!(path(name).exists(), "{name} has no golden file");
    }
}
