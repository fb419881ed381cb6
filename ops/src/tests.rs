use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::*;

/// An engine that stands still.
#[derive(Default)]
pub(crate) struct Still {
    full: AtomicBool,
}

impl Engine for Still {
    fn figures(&self) -> Figures {
        Figures {
            now_us: 2_000_000,
            started_at_us: 1_000_000,
            events: EventFigures {
                received: 9,
                acked: 7,
                applied: 6,
                duplicates: 1,
                refused: 1,
                quarantined: 1,
                ..EventFigures::default()
            },
            ack: AckFigures {
                count: 3,
                sum_us: 3_500,
                buckets: vec![(1_000, 2)],
                ..AckFigures::default()
            },
            sales: vec![SalesFigures {
                currency: "USD".to_owned(),
                decimals: 2,
                transactions: 3,
                net_minor: 1_250,
            }],
            shards: vec![ShardFigures::default()],
            ..Figures::default()
        }
    }

    fn health(&self) -> Health {
        let full = self.full.load(Ordering::Relaxed);
        Health {
            checks: vec![Check {
                name: "disk",
                ok: !full,
                reason: "the disk is full".to_owned(),
                since_us: 5,
                hint: "make room",
            }],
        }
    }

    fn answer(&self, question: &Question) -> Result<Answer, EngineError> {
        match question {
            Question::Stock { .. } => Err(EngineError::Failed("rows are gone".to_owned())),
            question => {
                Ok(Answer::new(&[format!("{question:?}")], &json!({ "applied": 1 })).unwrap())
            }
        }
    }

    fn flush(&self) -> Result<u64, EngineError> {
        Ok(42)
    }

    fn retry_quarantine(&self) -> Result<(u64, u64), EngineError> {
        Ok((2, 1))
    }

    fn stranded(&self) -> Result<Vec<Value>, EngineError> {
        Ok(vec![json!({ "record": "3.aa.1.0" })])
    }

    fn release(&self, record: &str) -> Result<u32, EngineError> {
        match record {
            "3.aa.1.0" => Ok(7),
            other => Err(EngineError::Failed(format!("nothing waits as {other}"))),
        }
    }
}

/// A port with an engine that stands still behind it.
struct Served {
    runtime: Runtime,
    address: SocketAddr,
    engine: Arc<Still>,
    stop: Option<oneshot::Sender<()>>,
}

impl Served {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let engine = Arc::new(Still::default());
        let port = runtime
            .block_on(Port::bind("127.0.0.1:0".parse().unwrap()))
            .unwrap();
        let address = port.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let shared: Arc<dyn Engine> = Arc::<Still>::clone(&engine);
        runtime.spawn(serve(port, shared, async move {
            stopped.await.ok();
        }));
        Self {
            runtime,
            address,
            engine,
            stop: Some(stop),
        }
    }

    /// Sends a request as it stands and gives status, head and body.
    fn raw(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let (status, _, body) = self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            self.address
        ));
        (
            status,
            serde_json::from_str(&body).unwrap_or_else(|_| json!(body)),
        )
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        let _guard = self.runtime.enter();
    }
}

#[test]
fn readiness_says_why_and_since_when_and_what_to_do() {
    let served = Served::start();
    let (status, body) = served.ask("GET", "/readyz");
    assert_eq!((status, &body["reasons"]), (200, &json!([])));
    served.engine.full.store(true, Ordering::Relaxed);
    let (status, body) = served.ask("GET", "/readyz");
    assert_eq!(status, 503);
    assert_eq!(
        body["reasons"],
        json!([{"name": "disk", "ok": false, "reason": "the disk is full", "since_us": 5, "hint": "make room"}])
    );
    assert_eq!(served.ask("GET", "/livez").0, 200);
}

#[test]
fn a_wrong_parameter_is_a_400_that_names_it() {
    let served = Served::start();
    let (status, body) = served.ask("GET", "/api/v1/sales?stores=1");
    assert_eq!(status, 400);
    assert_eq!(body["error"]["code"], "bad_parameter");
    assert_eq!(body["error"]["parameter"], "stores");
    let (status, body) = served.ask("GET", "/api/v1/stock");
    assert_eq!(
        (status, &body["error"]["parameter"]),
        (400, &json!("store"))
    );
}

#[test]
fn questions_reach_the_engine_with_their_parameters() {
    let served = Served::start();
    let (status, body) = served.ask("GET", "/api/v1/transactions?receipt=A%2F1&store=7");
    assert_eq!(status, 200);
    let text = body["rows"][0].as_str().unwrap();
    assert!(
        text.contains("\"A/1\"") && text.contains("Some(7)"),
        "{text}"
    );
    assert_eq!(body["freshness"]["applied"], 1);
    let (status, body) = served.ask("GET", "/api/v1/stock?store=1");
    assert_eq!((status, &body["error"]["code"]), (500, &json!("failed")));
}

#[test]
fn only_a_post_changes_anything() {
    let served = Served::start();
    assert_eq!(served.ask("GET", "/api/v1/flush").0, 405);
    assert_eq!(
        served.ask("POST", "/api/v1/flush"),
        (200, json!({"applied": 42}))
    );
    assert_eq!(
        served.ask("POST", "/api/v1/quarantine/retry"),
        (200, json!({"applied": 2, "quarantined": 1}))
    );
    assert_eq!(
        served.ask("GET", "/api/v1/quarantine/stranded"),
        (200, json!({"rows": [{"record": "3.aa.1.0"}]}))
    );
    assert_eq!(
        served.ask("POST", "/api/v1/quarantine/release/3.aa.1.0"),
        (200, json!({"epoch": 7}))
    );
}

#[test]
fn pages_of_other_sites_may_not_post_and_foreign_names_are_not_served() {
    let served = Served::start();
    let address = served.address;
    let post = |host: &str, origin: &str| {
        let request = format!(
            "POST /api/v1/flush HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        served.raw(&request).0
    };
    let host = address.to_string();
    assert_eq!(post(&host, &format!("http://{host}")), 200);
    assert_eq!(post(&host, "http://example.com"), 403);
    assert_eq!(post(&host, "null"), 403);
    assert_eq!(post("example.com", "http://example.com"), 421);
    assert_eq!(post("127.0.0.1.example.com:80", "http://x"), 421);
    assert_eq!(
        post(&format!("localhost:{}", address.port()), "http://x"),
        403
    );
}

#[test]
fn the_page_and_its_files_come_with_a_strict_policy() {
    let served = Served::start();
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let (status, head, body) = served.raw(&format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        ));
        assert_eq!(status, 200, "{path}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(
            head.contains("content-security-policy: default-src 'none'"),
            "{head}"
        );
        assert!(!body.contains("https://"), "{path} reaches elsewhere");
        assert!(!body.contains("style=\""), "{path} has inline style");
    }
}

#[test]
fn every_link_of_the_page_leads_somewhere() {
    let served = Served::start();
    let (_, page) = served.ask("GET", "/");
    let page = page.as_str().unwrap().to_owned();
    let mut links = 0;
    for link in page.split("href=\"").skip(1) {
        let path = link.split('"').next().unwrap();
        let (status, body) = served.ask("GET", path);
        assert!(status == 200 || path.contains("/stock"), "{path}: {body}");
        links += 1;
    }
    assert!(links > 10, "{links}");
}

#[test]
fn an_unknown_path_says_where_to_look() {
    let served = Served::start();
    let (status, body) = served.ask("GET", "/api/v1/sale");
    assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")));
}

#[test]
fn metrics_are_served_as_text() {
    let served = Served::start();
    let (status, head, body) =
        served.raw("GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    assert_eq!(status, 200);
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(
        body.contains("tillstream_events_received_total 9"),
        "{body}"
    );
}

/// As many as there are places, and then one who asks whether the engine lives.
#[test]
fn guests_who_never_end_their_request_do_not_keep_others_out() {
    let served = Served::start();
    let mut slow = Vec::new();
    for _ in 0..300 {
        let mut guest = TcpStream::connect(served.address).unwrap();
        guest.write_all(b"GET /livez HTTP/1.1\r\nx: ").unwrap();
        slow.push(guest);
    }
    let (status, body) = served.ask("GET", "/livez");
    assert_eq!((status, &body["live"]), (200, &json!(true)));
    // Those who came first made room.
    let mut first = slow.swap_remove(0);
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0);
}
