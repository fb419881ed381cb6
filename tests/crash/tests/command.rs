//! The command itself: what it takes, and with what it ends when there is nothing to run.

use std::io;
use std::process::Command;

/// Its code and what it says.
fn crash(args: &[&str]) -> io::Result<(Option<i32>, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_crash"))
        .args(args)
        .output()?;
    let text = String::from_utf8(output.stdout).map_err(io::Error::other)?;
    Ok((output.status.code(), text))
}

#[test]
fn what_is_not_understood_ends_with_two_and_help_with_nothing() {
    let (code, usage) = crash(&["--help"]).unwrap();
    assert_eq!(code, Some(0));
    assert!(usage.starts_with("cargo crash -- "), "{usage}");
    let wrongs: [&[&str]; 6] = [
        &["--kills", "0"],
        &["--kills", "many"],
        &["--faults"],
        &["--only"],
        &["--only", "disk full", "--faults", "0"],
        &["--typo"],
    ];
    for wrong in wrongs {
        let (code, text) = crash(wrong).unwrap();
        assert_eq!(code, Some(2), "{wrong:?}");
        assert!(text.ends_with(&usage), "{wrong:?}: {text}");
    }
}

#[test]
fn a_trouble_that_does_not_exist_is_refused_and_those_that_do_are_named() {
    let (code, text) = crash(&["--faults", "1", "--only", "typo"]).unwrap();
    assert_eq!(code, Some(2));
    let names: Vec<&str> = till_crash::troubles().collect();
    assert!(names.contains(&"disk full"), "{names:?}");
    for name in names {
        assert!(text.contains(name), "{name}: {text}");
    }
}
