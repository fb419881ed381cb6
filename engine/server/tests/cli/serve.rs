use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::tempdir;

use crate::engine::{Running, code, errors, one_line, run, tillstream, until};

#[test]
fn an_engine_says_where_it_is_and_answers_there() {
    let dir = tempdir().unwrap();
    let engine = Running::start(dir.path());
    let ready = engine.ready_file().as_object().unwrap();
    let mut names: Vec<&str> = ready.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["admin", "identity", "pid", "quic"]);
    assert_eq!(ready["pid"], engine.pid());
    let identity = fs::read_to_string(engine.ready("identity")).unwrap();
    assert_eq!(identity.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(identity.contains("PRIVATE KEY"));
    assert_eq!(engine.get("/livez").0, 200);
    let (status, body) = engine.get("/readyz?verbose");
    assert_eq!(status, 200, "{body}");
    for path in [
        "/",
        "/version",
        "/healthz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/shards",
        "/api/v1/sales?by=hour",
        "/api/v1/stock?store=1",
        "/api/v1/transactions?receipt=1",
        "/api/v1/terminals",
        "/api/v1/stores",
        "/api/v1/quarantine",
    ] {
        let (status, body) = engine.get(path);
        assert_eq!(status, 200, "{path}: {body}");
    }
}

#[test]
fn an_empty_engine_has_no_rows_and_that_is_no_error() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let engine = Running::start(dir.path());
    for source in [["--data", data], ["--addr", engine.ready("admin")]] {
        let output = run(&[
            "query", "sales", source[0], source[1], "--by", "sku", "--json",
        ]);
        assert_eq!(code(&output), 0, "{}", errors(&output));
        let answer = one_line(&output);
        assert_eq!(answer["rows"], Value::Array(Vec::new()));
        assert!(answer["freshness"].is_object());
    }
}

#[test]
fn a_data_folder_answers_without_an_engine_too() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let mut engine = Running::start(dir.path());
    engine.close_stdin();
    assert!(engine.ended().success());
    let output = run(&["query", "stores", "--data", data, "--json"]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    assert_eq!(one_line(&output)["rows"], Value::Array(Vec::new()));
}

#[test]
fn keys_are_made_once_and_kept() {
    let dir = tempdir().unwrap();
    let mut first = Running::start(dir.path());
    let identity = fs::read(first.ready("identity")).unwrap();
    first.close_stdin();
    assert!(first.ended().success());
    let second = Running::start(dir.path());
    assert_eq!(fs::read(second.ready("identity")).unwrap(), identity);
}

#[test]
fn sigterm_drains_and_ends_with_zero() {
    let dir = tempdir().unwrap();
    for signal in ["TERM", "INT"] {
        let engine = Running::start(dir.path());
        engine.signal(signal);
        assert_eq!(engine.ended().code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn a_busy_default_port_is_replaced_and_a_busy_chosen_one_is_an_error() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap()];
    let first = Running::start_with(dirs[0].path(), &[]);
    let second = Running::start_with(dirs[1].path(), &[]);
    assert_ne!(first.ready("quic"), second.ready("quic"));
    assert_ne!(first.ready("admin"), second.ready("admin"));
    let data = dirs[2].path().to_str().unwrap();
    let admin = first.ready("admin").trim_start_matches("http://");
    for (flag, address) in [("--listen", first.ready("quic")), ("--admin", admin)] {
        let other = if flag == "--listen" {
            "--admin"
        } else {
            "--listen"
        };
        let output = run(&[
            "serve",
            "--dev",
            "--data",
            data,
            flag,
            address,
            other,
            "127.0.0.1:0",
        ]);
        assert_eq!(code(&output), 1, "{flag}: {}", errors(&output));
        assert!(errors(&output).contains(address), "{}", errors(&output));
    }
}

#[test]
fn a_second_engine_on_the_same_folder_is_refused() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let _engine = Running::start(dir.path());
    let output = run(&[
        "serve",
        "--dev",
        "--data",
        data,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    assert_eq!(code(&output), 1, "{}", errors(&output));
}

#[test]
fn an_engine_waits_for_one_who_asks_the_folder_and_its_old_ready_file_is_gone_meanwhile() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    let asking = fs::File::create(dir.path().join("data/lock")).unwrap();
    asking.lock().unwrap();
    let file = dir.path().join("ready.json");
    fs::write(&file, "{\"pid\": 1}").unwrap();
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut engine = tillstream(&["serve", "--dev", "--data", "data", "--ready-file"])
        .arg(&file)
        .args(free)
        .arg("--until-stdin-closes")
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    until("the old ready file is gone", || !file.exists());
    std::thread::sleep(Duration::from_millis(300));
    assert!(engine.try_wait().unwrap().is_none(), "it did not wait");
    drop(asking);
    until("the engine is ready", || file.exists());
    let ready: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let identity = Path::new(ready["identity"].as_str().unwrap());
    assert!(identity.is_absolute() && identity.exists(), "{ready}");
    drop(engine.stdin.take());
    assert!(engine.wait().unwrap().success());
}

#[test]
fn a_folder_answers_two_who_ask_at_a_time_and_while_its_engine_comes_up() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let mut first = Running::start(dir.path());
    first.close_stdin();
    assert!(first.ended().success());
    let ask = || {
        let asking = tillstream(&["query", "stores", "--json", "--data", data])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        asking.unwrap()
    };
    let asking: Vec<_> = (0..4).map(|_| ask()).collect();
    let _engine = Running::start(dir.path());
    let later = (0..2).map(|_| ask());
    for one in asking.into_iter().chain(later) {
        let output = one.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{}", errors(&output));
    }
}

#[test]
fn a_used_folder_without_its_key_is_not_opened_by_an_engine() {
    let dir = tempdir().unwrap();
    let mut first = Running::start(dir.path());
    first.close_stdin();
    assert!(first.ended().success());
    fs::remove_file(dir.path().join("chain.key")).unwrap();
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let output = tillstream(&["serve", "--dev"])
        .args(free)
        .arg("--data")
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(code(&output), 1, "{}", errors(&output));
    assert!(
        errors(&output).contains("chain.key is missing"),
        "{}",
        errors(&output)
    );
}

#[test]
fn nothing_in_a_data_folder_is_open_to_everyone() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let engine = Running::start(&data);
    for folder in ["", "journal", "rows"] {
        let mode = fs::metadata(data.join(folder))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o007, 0, "{folder:?}: {mode:o}");
    }
    drop(engine);
}

#[test]
fn rebuild_and_salvage_refuse_to_run_beside_an_engine() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let mut engine = Running::start(dir.path());
    for command in [
        &["rebuild", "--data", data][..],
        &["doctor", "--salvage", "--data", data],
    ] {
        let output = run(command);
        assert_eq!(code(&output), 1, "{}", errors(&output));
        assert!(
            errors(&output).contains("engine"),
            "says why: {}",
            errors(&output)
        );
    }
    engine.close_stdin();
    assert!(engine.ended().success());
    let output = run(&["rebuild", "--data", data, "--json"]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    one_line(&output);
}

#[test]
fn a_port_of_udp_that_another_program_has_is_seen_as_busy() {
    let dir = tempdir().unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = tillstream(&[
        "serve",
        "--dev",
        "--listen",
        &address,
        "--admin",
        "127.0.0.1:0",
    ])
    .arg("--data")
    .arg(dir.path())
    .output()
    .unwrap();
    assert_eq!(code(&output), 1, "{}", errors(&output));
    assert!(errors(&output).contains(&address), "{}", errors(&output));
}
