use std::os::unix::fs::PermissionsExt as _;

use rustls::pki_types::CertificateRevocationListDer;
use till_runtime::PkiConfig;

use super::*;

fn terminal(store: u64, till: u64) -> TerminalId {
    TerminalId::from_u64(store << 32 | till).unwrap()
}

#[test]
fn authority_and_identity_are_made_once_and_kept_to_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = Files::find(&PkiConfig::Dev, None, dir.path()).unwrap();
    let identity = first.identity.unwrap();
    let text = fs::read(&identity).unwrap();
    assert_eq!(
        fs::metadata(&identity).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = Files::find(&PkiConfig::Dev, None, dir.path()).unwrap();
    again.read().unwrap().tls().unwrap();
    assert_eq!(fs::read(again.identity.unwrap()).unwrap(), text);
}

#[test]
fn the_made_identity_is_authorised_for_every_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::find(&PkiConfig::Dev, None, dir.path()).unwrap();
    let chain = certificates(&files.identity.unwrap()).unwrap();
    let authorisation = Authorisation::of_certificate(&chain[1]);
    assert!(authorisation.may(terminal(1, 1)) && authorisation.may(terminal(99, 7)));
    // The authority itself names nobody.
    assert_eq!(
        Authorisation::of_certificate(&chain[0]),
        Authorisation::default()
    );
}

#[test]
fn names_give_a_till_a_store_or_everything_and_nothing_else() {
    let mut authorisation = Authorisation::default();
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
        authorisation.add(uri);
    }
    assert!(authorisation.may(terminal(7, 3)) && authorisation.may(terminal(8, 200)));
    for (store, till) in [(7, 4), (7, 5), (1, 6), (7, 9), (7, 8), (9, 1)] {
        assert!(!authorisation.may(terminal(store, till)), "{store}/{till}");
    }
    authorisation.add("till://*");
    assert!(authorisation.may(terminal(9, 1)));
}

/// A folder with an authority of its own.
fn authority() -> (tempfile::TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::find(&PkiConfig::Dev, None, dir.path()).unwrap();
    (dir, files)
}

#[test]
fn an_authority_revokes_what_it_issued_and_says_so_again() {
    let (dir, files) = authority();
    let own = Authority::open(dir.path()).unwrap();
    let names = ["till://7/3".to_owned()];
    let file = dir.path().join("till.pem");
    let issued = own.issue(&names, 60, &file).unwrap();
    assert_eq!(own.serial(&file).unwrap(), issued.serial);
    assert!(
        own.issue(&names, 60, &file).is_err(),
        "it overwrites a file"
    );
    for name in ["till://", "till://7/0", "http://7/3", ""] {
        let file = dir.path().join("other.pem");
        assert!(own.issue(&[name.to_owned()], 60, &file).is_err(), "{name}");
    }
    assert_eq!(own.revoked().unwrap(), []);
    assert_eq!(files.read().unwrap().lists().map(Lists::revoked), None);
    assert!(own.revoke(&issued.serial).unwrap());
    assert!(!own.revoke(&issued.serial.to_uppercase()).unwrap());
    for (serial, is_one) in [("00:1F:02", true), ("1f02", false), ("7", true)] {
        assert_eq!(own.revoke(serial).unwrap(), is_one, "{serial}");
    }
    for serial in ["", "xyz", "1 2", &"ab".repeat(21)] {
        assert!(own.revoke(serial).is_err(), "{serial}");
    }
    let all = own.revoked().unwrap();
    let all: Vec<&str> = all.iter().map(|one| one.serial.as_str()).collect();
    assert_eq!(all, [issued.serial.as_str(), "1f02", "07"]);
    assert_eq!(files.read().unwrap().lists().map(Lists::revoked), Some(3));
}

#[test]
fn a_list_is_taken_where_each_authority_that_is_believed_has_signed_one() {
    let ((dir, files), (other, _)) = (authority(), authority());
    let named = |dir: &tempfile::TempDir, name: &str| dir.path().join("pki").join(name);
    for dir in [&dir, &other] {
        Authority::open(dir.path()).unwrap().revoke("7").unwrap();
    }
    let own = fs::read(named(&dir, "crl.pem")).unwrap();
    let foreign = fs::read(named(&other, "crl.pem")).unwrap();
    let ders = CertificateRevocationListDer::pem_slice_iter(&own);
    let der = ders.collect::<Result<Vec<_>, _>>().unwrap()[0].to_vec();
    let mut forged = der.clone();
    // The last byte of the serial number that it revokes.
    let at = der.windows(3).position(|part| part == [2, 1, 7]).unwrap();
    forged[at + 2] = 8;

    let list = named(&dir, "crl.pem");
    let read = |bytes: &[u8]| {
        fs::write(&list, bytes).unwrap();
        files.read().map_err(|error| error.to_string())
    };
    read(&der).unwrap();
    // Both authorities have the same name: the signature tells them apart.
    for (bytes, complaint) in [
        (&foreign, "is not signed by it"),
        (&forged, "is not signed by it"),
        (&[&der[..], b"x"].concat(), "there is more behind it"),
        (&vec![], "revocation list"),
        (
            &b"-----BEGIN NOTHING-----\n-----END NOTHING-----\n".to_vec(),
            "there is no list of",
        ),
    ] {
        let error = read(bytes).unwrap_err();
        assert!(error.contains(complaint), "{error}");
    }
    fs::remove_file(&list).unwrap();
    files.read().unwrap();
    let needed = Files::find(&PkiConfig::Dev, Some(&list), dir.path()).unwrap();
    assert!(needed.read().is_err(), "a list that was named is needed");
}

#[test]
fn what_was_revoked_does_not_come_back_by_an_older_list() {
    let (dir, files) = authority();
    let list = dir.path().join("pki/crl.pem");
    let own = Authority::open(dir.path()).unwrap();
    own.revoke("7").unwrap();
    let older = fs::read(&list).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    own.revoke("8").unwrap();
    let now = files.read().unwrap();
    assert!(files.read_after(&now).unwrap().is_same(&now));
    fs::write(&list, older).unwrap();
    let error = files.read_after(&now).unwrap_err().to_string();
    assert!(error.contains("older than the one in force"), "{error}");
    fs::remove_file(&list).unwrap();
    let error = files.read_after(&now).unwrap_err().to_string();
    assert!(error.contains("it is gone"), "{error}");
}

#[test]
fn a_file_that_was_just_written_is_looked_at_again() {
    let (dir, files) = authority();
    let first = files.stamps();
    assert!(
        files.stamps().may_differ(&first),
        "it may have been written since"
    );
    let old = SystemTime::now() - std::time::Duration::from_secs(60);
    for name in ["ca.pem", "server.pem"] {
        let path = dir.path().join("pki").join(name);
        fs::File::open(path).unwrap().set_modified(old).unwrap();
    }
    let passed = files.stamps();
    assert!(!files.stamps().may_differ(&passed));
    Authority::open(dir.path()).unwrap().revoke("7").unwrap();
    assert!(files.stamps().may_differ(&passed), "a list is new");
}
