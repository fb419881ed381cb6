use till_protocol::id::{StoreId, TerminalId, TillId};

use super::Speaks;

fn terminal(store: u32, till: u32) -> TerminalId {
    TerminalId::new(StoreId::new(store).unwrap(), TillId::new(till).unwrap())
}

fn speaks(uris: &[&str]) -> Speaks {
    let mut speaks = Speaks::default();
    uris.iter().for_each(|uri| speaks.add(uri));
    speaks
}

#[test]
fn a_certificate_speaks_for_the_terminals_that_it_names_and_no_others() {
    let one = speaks(&["till://7/3"]);
    assert!(one.may(terminal(7, 3)));
    assert!(!one.may(terminal(7, 4)) && !one.may(terminal(3, 7)));
    let store = speaks(&["till://7/*"]);
    assert!(store.may(terminal(7, 999)) && !store.may(terminal(8, 1)));
    assert!(speaks(&["till://*"]).may(terminal(1, 1)));
}

#[test]
fn uris_that_name_no_terminal_give_nothing() {
    for uri in [
        "till://",
        "till://0/1",
        "till://x/1",
        "till://1/",
        "http://*",
        "till://1",
        "till://**",
    ] {
        assert_eq!(speaks(&[uri]), Speaks::default(), "{uri}");
    }
    assert_eq!(
        Speaks::of_certificate(b"not a certificate"),
        Speaks::default()
    );
}
