//! Users and TLS. Needs a server at TILL_CQL_SECURE=HOST:PORT that asks for a user, knows cassandra/cassandra and speaks TLS
//! beside plain text, and the PEM file of its authority in TILL_CQL_CA; `tests/cql/run` starts one.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on stops; helpers of tests are not seen as tests"
)]

use std::env;
use std::io::Write as _;
use std::net::TcpListener;
use std::process;
use std::thread;
use std::time::Duration;

use till_scylla::schema::{self, SchemaRequest};
use till_scylla::{Cql, CqlError, Credentials, ScyllaConfig};

/// How often a login is tried: the server makes its first user some time after it takes connections.
const TRIES: u32 = 60;

fn variable(name: &str) -> String {
    env::var(name).expect("TILL_CQL_SECURE and TILL_CQL_CA name a server; see tests/cql/run")
}

fn config() -> ScyllaConfig {
    let address = variable("TILL_CQL_SECURE");
    let keyspace = format!("secure_{}", process::id());
    let mut config = ScyllaConfig::new([address.as_str()], &keyspace).unwrap();
    config.credentials = Some(user("cassandra"));
    config.ca_file = Some(variable("TILL_CQL_CA").into());
    config
}

fn user(password: &str) -> Credentials {
    Credentials::new("cassandra".to_owned(), password.to_owned())
}

fn connected(config: &ScyllaConfig) -> Cql {
    let mut tries = 0;
    loop {
        match Cql::connect(config) {
            Ok(cql) => return cql,
            Err(_) if tries < TRIES => tries += 1,
            Err(error) => panic!("{error}"),
        }
        thread::sleep(Duration::from_millis(500));
    }
}

fn refused(config: &ScyllaConfig) -> String {
    let error = Cql::connect(config).unwrap_err();
    assert!(matches!(error, CqlError::Unreachable(_)), "{error}");
    let words = error.to_string();
    assert!(words.contains(&variable("TILL_CQL_SECURE")), "{words}");
    words
}

#[test]
fn tables_are_made_over_tls_by_a_user_with_a_password() {
    let cql = connected(&config());
    let request = SchemaRequest {
        replication: Some(1),
        slots: Some(2),
    };
    schema::apply(&cql, request).unwrap();
    assert_eq!(schema::check(&cql).unwrap(), 2);
    // The same tables without TLS, where the server lets one.
    let mut plain = config();
    plain.ca_file = None;
    assert_eq!(schema::check(&connected(&plain)).unwrap(), 2);
}

#[test]
fn a_wrong_password_or_none_is_told_and_never_shown() {
    drop(connected(&config()));
    let mut wrong = config();
    wrong.credentials = Some(user("0penSesame"));
    let words = refused(&wrong);
    assert!(
        words.contains("user `cassandra`") && words.contains("password"),
        "{words}"
    );
    assert!(!words.contains("0penSesame"), "{words}");
    let mut none = config();
    none.credentials = None;
    let words = refused(&none);
    assert!(words.contains("asks for a user"), "{words}");
}

#[test]
fn the_certificate_of_another_authority_is_told_with_the_file() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut other = rcgen::CertificateParams::new(Vec::new()).unwrap();
    other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let other = other.self_signed(&key).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(other.pem().as_bytes()).unwrap();
    let mut config = config();
    config.ca_file = Some(file.path().to_owned());
    let words = refused(&config);
    assert!(
        words.contains(&file.path().display().to_string()),
        "{words}"
    );
    assert!(words.contains("certificate"), "{words}");
}

#[test]
fn a_server_without_tls_is_told_where_tls_is_asked_for() {
    // Answers whatever it is told in words that are no TLS.
    let odd = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = odd.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in odd.incoming().flatten() {
            // The other side may have hung up.
            let _gone = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let mut config = config();
    config.hosts = vec![address.clone()];
    let words = Cql::connect(&config).unwrap_err().to_string();
    assert!(
        words.contains(&address) && words.contains("does not speak TLS"),
        "{words}"
    );
}
