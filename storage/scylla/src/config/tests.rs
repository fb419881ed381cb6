use super::*;

#[test]
fn takes_names_and_addresses() {
    let hosts = ["127.0.0.1:9042", " db-1.example:19042", "[::1]:9042"];
    let config = ScyllaConfig::new(hosts, "till").unwrap();
    assert_eq!(
        config.hosts,
        ["127.0.0.1:9042", "db-1.example:19042", "[::1]:9042"]
    );
    assert_eq!(config.keyspace.quoted(), "\"till\"");
}

#[test]
fn says_which_address_is_none() {
    for wrong in [
        "127.0.0.1",
        ":9042",
        "a:b",
        "a:0",
        "a:70000",
        "::1:9042",
        "",
    ] {
        let error = ScyllaConfig::new(["127.0.0.1:9042", wrong], "till").unwrap_err();
        assert_eq!(error, ScyllaConfigError::Host(wrong.to_owned()));
    }
    let none = ScyllaConfig::new([], "till").unwrap_err();
    assert_eq!(none, ScyllaConfigError::NoHosts);
}

#[test]
fn a_keyspace_is_a_plain_word() {
    let long = "a".repeat(49);
    let wrong = [
        "",
        "1a",
        "_a",
        "Till",
        "a-b",
        "a\"b",
        "a b",
        "system",
        "system_auth",
        "kasse\u{e9}",
        &long,
    ];
    for name in wrong {
        assert!(Keyspace::new(name).is_err(), "{name} was taken");
    }
    for name in ["a", "till_2", "systematic", "table"] {
        assert_eq!(Keyspace::new(name).unwrap().name(), name);
    }
}

#[test]
fn credentials_are_shown_nowhere() {
    let mut config = ScyllaConfig::new(["127.0.0.1:9042"], "till").unwrap();
    config.credentials = Some(Credentials::new("alice".to_owned(), "wonder".to_owned()));
    let shown = format!("{config:?} {config:#?}");
    assert!(
        !shown.contains("alice") && !shown.contains("wonder"),
        "{shown}"
    );
}
