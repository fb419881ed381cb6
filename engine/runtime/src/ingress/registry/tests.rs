use super::*;

fn registry(auto: bool, text: &str) -> Result<Registry, RegistryError> {
    let mut registry = Registry {
        auto,
        currency: Currency::from_code("USD").unwrap(),
        zone: "UTC".to_owned(),
        stores: BTreeMap::new(),
    };
    registry.read(Path::new("stores.toml"), text)?;
    Ok(registry)
}

fn terminal(store: u64, till: u64) -> TerminalId {
    TerminalId::from_u64(store << 32 | till).unwrap()
}

const FILE: &str = "[[store]]\nnumber = 7\ncurrency = \"EUR\"\ntime_zone = \"Europe/Vienna\"\nterminals = [1, 2]\n";

#[test]
fn without_auto_register_only_listed_terminals_are_taken_in() {
    let registry = registry(false, FILE).unwrap();
    let listing = registry.admit(terminal(7, 2), None, "").unwrap();
    assert_eq!(
        (listing.currency, listing.zone.as_str()),
        (978, "Europe/Vienna")
    );
    assert_eq!(
        registry.admit(terminal(7, 3), None, ""),
        Err(Reason::UnknownTerminal)
    );
    assert_eq!(
        registry.admit(terminal(8, 1), None, ""),
        Err(Reason::UnknownTerminal)
    );
}

#[test]
fn on_first_sight_a_store_gets_what_the_device_states_or_the_default() {
    let registry = registry(true, FILE).unwrap();
    let plain = registry.admit(terminal(9, 1), None, "").unwrap();
    assert_eq!((plain.currency, plain.zone.as_str()), (840, "UTC"));
    let yen = Currency::from_code("JPY").ok();
    let stated = registry.admit(terminal(9, 1), yen, "Asia/Tokyo").unwrap();
    assert_eq!((stated.currency, stated.zone.as_str()), (392, "Asia/Tokyo"));
    // The file wins over the device; the difference is told when the shard compares.
    let listed = registry.admit(terminal(7, 9), yen, "Asia/Tokyo").unwrap();
    assert_eq!(listed.currency, 978);
}

#[test]
fn a_wrong_file_names_the_store_or_line() {
    for (text, part) in [
        (
            "[[store]]\nnumber = 7\ncurrency = \"EUX\"\ntime_zone = \"UTC\"\n",
            "store 7",
        ),
        (
            "[[store]]\nnumber = 7\ncurrency = \"EUR\"\ntime_zone = \"Nowhere\"\n",
            "store 7",
        ),
        (
            "[[store]]\nnumber = 0\ncurrency = \"EUR\"\ntime_zone = \"UTC\"\nterminals = [1]\n",
            "store 0",
        ),
        ("[[store]]\nnumber = 7\ncolour = 1\n", "colour"),
    ] {
        let error = registry(false, text).unwrap_err().to_string();
        assert!(
            error.contains(part) && error.contains("stores.toml"),
            "{error}"
        );
    }
    let twice = FILE.to_owned() + FILE;
    assert!(
        registry(false, &twice)
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
}
