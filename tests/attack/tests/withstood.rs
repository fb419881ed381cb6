//! A share of the attacks, where other work may be on the machine: what is asked for is memory, answers and honest events,
//! not throughput.

use std::path::PathBuf;
use std::time::Duration;

use till_attack::{Options, run};

#[test]
fn hostile_devices_cost_neither_memory_nor_an_honest_event() {
    till_tests::commands_are(PathBuf::from(env!("CARGO_BIN_EXE_attack")));
    let names = [
        "broken-frames",
        "unreadable-frames",
        "small-promises",
        "half-open",
        "certificates",
        "admin",
    ];
    let options = Options {
        duration: Duration::from_secs(1),
        connections: 200,
        rate: 500,
        only: names.map(str::to_owned).to_vec(),
        measures: false,
        handshakes: 200,
        ..Options::default()
    };
    let report = run(&options, &mut |line| println!("{line}")).unwrap();
    assert!(report.passed, "{report:#?}");
    assert_eq!(report.attacks.len(), names.len());
}
