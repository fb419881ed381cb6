use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use serde_json::json;

use super::*;

#[test]
fn quantities_keep_every_decimal() {
    for (text, raw) in [
        ("0", 0),
        ("12.5", 1_250_000),
        ("-0.00001", -1),
        ("-3", -300_000),
    ] {
        assert_eq!(quantity(text).unwrap(), raw, "{text}");
    }
    assert!(quantity("1.000001").is_err() && quantity("x").is_err());
}

#[test]
fn terminals_are_read_with_sums_inside_or_beside() {
    let row = json!({"store": 3, "terminal": 4, "epochs": [{"epoch": 1, "next_seq": 9}],
        "applied": 8, "quarantined": 1, "totals": {"transactions": 5, "net_minor": -7}});
    let row = terminal_row(&row).unwrap();
    assert_eq!((row.epochs.as_slice(), row.net_minor), (&[(1, 9)][..], -7));
    assert_eq!((row.transactions, row.quarantined), (5, 1));
}

/// A port that gives one answer to every question, as often as it is asked; counts the questions.
fn port(status: &'static str, body: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    drop(std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4_096];
            if stream.read(&mut request).unwrap_or(0) == 0 {
                continue;
            }
            count.fetch_add(1, Ordering::Relaxed);
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
        }
    }));
    (base, asked)
}

/// An address where nobody listens; it is bound, so that nobody else is given it.
fn nobody() -> (String, OwnedFd) {
    let bound = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = SocketAddr::try_from(getsockname(&bound).unwrap()).unwrap();
    (addr.to_string(), bound)
}

const SOLD: &str = r#"{"rows":[{"store":3,"transactions":2,"lines":2,"quantity":"2","net_minor":7,"discount_minor":0,"tax_minor":0}]}"#;

#[test]
fn any_engine_that_answers_is_asked() {
    let (alive, asked) = port("200 OK", SOLD);
    let (nobody, _held) = nobody();
    let admin = Admin::new(&format!("{nobody},http://{alive}/"));
    assert_eq!(admin.sales("store", None).unwrap()[0].net_minor, 7);
    // It is asked first from now on.
    assert_eq!(admin.base(), format!("http://{alive}"));
    assert_eq!(admin.sales("store", None).unwrap().len(), 1);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(Admin::new(&nobody).sales("store", None).is_err());
}

#[test]
fn every_engine_that_is_there_flushes() {
    let (one, first) = port("200 OK", "{}");
    let (other, second) = port("200 OK", "{}");
    let (nobody, _held) = nobody();
    let all = format!("{one},{nobody},{other}");
    Admin::new(&all).flush().unwrap();
    let counts = (
        first.load(Ordering::Relaxed),
        second.load(Ordering::Relaxed),
    );
    assert_eq!(counts, (1, 1));
    assert!(Admin::new(&nobody).flush().is_err());
    // One that is there and cannot flush is not passed over.
    let (full, _) = port("503 Service Unavailable", "{}");
    assert!(Admin::new(&format!("{one},{full}")).flush().is_err());
}

#[test]
fn an_engine_that_does_not_answer_is_quoted() {
    let body = r#"{"error":{"code":"bad_parameter","message":"there is no store 11"}}"#;
    let (engine, _) = port("400 Bad Request", body);
    let error = Admin::new(&engine).stock(11).unwrap_err();
    let words = format!("{error:#}");
    assert!(
        words.contains(&format!("{engine}/api/v1/stock?store=11")),
        "{words}"
    );
    assert!(
        words.contains("(HTTP 400): there is no store 11"),
        "{words}"
    );
    let full = r#"{"error":{"code":"failed","message":"the disk is full"}}"#;
    let (full, _) = port("503 Service Unavailable", full);
    let error = Admin::new(&full).flush().unwrap_err();
    assert!(
        format!("{error:#}").contains("the disk is full"),
        "{error:#}"
    );
}
