use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn terminal(store: u64, till: u64) -> TerminalId {
    TerminalId::from_u64(store << 32 | till).unwrap()
}

#[test]
fn authority_and_identity_are_made_once_and_kept_to_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open(&PkiConfig::Dev, dir.path()).unwrap();
    let identity = first.identity.unwrap();
    let text = fs::read(&identity).unwrap();
    assert_eq!(
        fs::metadata(&identity).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = Pki::open(&PkiConfig::Dev, dir.path()).unwrap();
    again.tls().unwrap();
    assert_eq!(fs::read(again.identity.unwrap()).unwrap(), text);
    let key = format!("{:?}", fs::read(dir.path().join("chain.key")).ok());
    screen_key(dir.path()).unwrap();
    let made = fs::read(dir.path().join("chain.key")).unwrap();
    screen_key(dir.path()).unwrap();
    assert_eq!(key, "None");
    assert_eq!(fs::read(dir.path().join("chain.key")).unwrap(), made);
}

#[test]
fn a_folder_that_was_used_is_not_given_another_key() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("journal")).unwrap();
    screen_key(dir.path()).unwrap();
    fs::write(dir.path().join("journal/00000000000000000000.till"), b"x").unwrap();
    let key = dir.path().join("chain.key");
    let kept = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let error = screen_key(dir.path()).unwrap_err().to_string();
    assert!(error.contains("chain.key is missing"), "{error}");
    assert!(error.contains("Restore it from a copy"), "{error}");
    assert!(!key.exists());
    fs::write(&key, kept).unwrap();
    screen_key(dir.path()).unwrap();
}

#[test]
fn the_made_identity_speaks_for_every_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(&PkiConfig::Dev, dir.path()).unwrap();
    let chain = certificates(&pki.identity.unwrap()).unwrap();
    let speaks = Speaks::of_certificate(&chain[1]);
    assert!(speaks.may(terminal(1, 1)) && speaks.may(terminal(99, 7)));
    // The authority itself names nobody.
    assert_eq!(Speaks::of_certificate(&chain[0]), Speaks::default());
}

#[test]
fn names_give_a_till_a_store_or_everything_and_nothing_else() {
    let mut speaks = Speaks::default();
    for uri in [
        "till://7/3",
        "till://8/*",
        "till://07/4",
        "till://7/+5",
        "till://0/1",
        "till://*/6",
        "http://7/9",
        "till://7",
        "till://7/8/9",
    ] {
        speaks.add(uri);
    }
    assert!(speaks.may(terminal(7, 3)) && speaks.may(terminal(8, 200)));
    for (store, till) in [(7, 4), (7, 5), (1, 6), (7, 9), (7, 8), (9, 1)] {
        assert!(!speaks.may(terminal(store, till)), "{store}/{till}");
    }
    speaks.add("till://*");
    assert!(speaks.may(terminal(9, 1)));
}
