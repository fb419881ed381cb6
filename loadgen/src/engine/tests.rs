use super::*;

#[test]
fn usage_of_this_very_process_is_readable() {
    let usage = usage(std::process::id()).unwrap();
    assert!(usage.rss_mb > 0.0, "{usage:?}");
}

#[test]
fn a_program_name_with_brackets_does_not_shift_the_fields() {
    let stat = "7 (till) stream) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0 1 1 1";
    assert_eq!(cpu_s(stat), Some(3.0));
}

#[test]
fn an_engine_that_ends_at_once_is_reported_and_reaped() {
    struct Broken;
    impl EngineStarter for Broken {
        fn command(&self) -> io::Result<Command> {
            Ok(Command::new("false"))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        data: folder.path().to_owned(),
        ..EngineOptions::default()
    };
    let error = Engine::start(&Broken, &options).unwrap_err().to_string();
    assert!(error.contains("before it accepted"), "{error}");
}

#[test]
fn the_engine_of_an_identity_is_found_beside_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let pki = folder.path().join("pki");
    fs::create_dir(&pki).unwrap();
    let text = r#"{"quic":"127.0.0.1:4433","admin":"http://127.0.0.1:8080","pid":7}"#;
    fs::write(folder.path().join("engine.json"), text).unwrap();
    let ready = beside(&pki.join("device.pem")).unwrap();
    assert_eq!(
        (ready.pid, ready.admin.as_str()),
        (7, "http://127.0.0.1:8080")
    );
}
