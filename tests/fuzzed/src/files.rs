//! Files that people write: the configuration, and transaction lines to be replayed.

use std::io::Cursor;
use std::path::Path;

use till_loadgen::replay::{Builder, Reader, Receipt};
use till_protocol::card::ScreenKey;
use till_protocol::codec::Frame;
use till_protocol::verified::Verified;
use till_runtime::RawConfig;

/// A configuration in TOML. It is understood whole, or every error names what is wrong; explained, it is the same again.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let path = Path::new("tillstream.toml");
    let mut raw = RawConfig::new();
    raw.toml(path, text);
    match raw.parse() {
        Ok(config) => {
            let mut again = RawConfig::new();
            for (key, value, _) in raw.explain() {
                again.set(key, &value, "--set");
            }
            let said = again.parse().map(|again| format!("{again:?}"));
            assert_eq!(said.ok(), Some(format!("{config:?}")));
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

/// Transaction lines, in a currency with as many decimals as the first byte says. Every row is part of a receipt or left out
/// with a reason, once; every receipt is an event that no engine refuses.
pub(crate) fn csv(bytes: &[u8]) {
    let Some((decimals, text)) = bytes.split_first() else {
        return;
    };
    let source = Box::new(Cursor::new(text.to_vec()));
    let Ok(mut reader) = Reader::new(source, decimals % 4) else {
        return;
    };
    let mut rows = 0;
    let mut on_skip = |_: u64, reason: &str| assert!(!reason.is_empty());
    loop {
        let receipts = reader.step(&mut on_skip);
        assert!(receipts.is_ok(), "bytes in memory can be read");
        let Ok(Some(receipts)) = receipts else { break };
        for receipt in receipts {
            rows += u64::try_from(receipt.lines.len()).unwrap_or(u64::MAX);
            sold(&receipt);
        }
    }
    let counts = reader.counts;
    assert_eq!(rows + counts.rows_skipped, counts.rows_read);
}

fn sold(receipt: &Receipt) {
    let mut builder = Builder::default();
    let sums = builder.push(receipt, |_| false);
    assert_eq!(sums.net, receipt.net());
    let sealed = builder
        .seal(1)
        .and_then(|(bytes, _)| Ok(Frame::decode(bytes)?));
    assert!(sealed.is_ok(), "{receipt:?}");
    let Ok(frame) = sealed else { return };
    let verified = Verified::check(frame, &ScreenKey::new([7; 32]));
    assert!(
        verified.is_ok_and(|verified| verified.refusals().is_empty()),
        "{receipt:?}"
    );
}
