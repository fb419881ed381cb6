use std::thread;

use super::*;

fn engine(pid: u32) -> Holder {
    Holder {
        quic: "127.0.0.1:1".to_owned(),
        admin: "127.0.0.1:2".to_owned(),
        pid,
    }
}

#[test]
fn a_folder_is_held_by_one_and_says_by_whom() {
    let dir = tempfile::tempdir().unwrap();
    let mut lock = DirLock::take(dir.path(), Role::Engine).unwrap();
    let error = DirLock::take(dir.path(), Role::Engine).unwrap_err();
    assert!(error.to_string().contains("not up yet"), "{error}");
    let me = engine(std::process::id());
    lock.announce(&me).unwrap();
    let error = DirLock::take(dir.path(), Role::Engine).unwrap_err();
    let named = format!("process {} (admin port 127.0.0.1:2)", me.pid);
    assert!(error.to_string().contains(&named), "{error}");
    assert_eq!(engine_of(dir.path()), Some(me));
    drop(lock);
    assert_eq!(engine_of(dir.path()), None);
    DirLock::take(dir.path(), Role::Visitor).unwrap();
    assert!(holder(dir.path()).is_none());
}

#[test]
fn the_note_of_an_engine_that_was_killed_names_nobody() {
    let dir = tempfile::tempdir().unwrap();
    drop(DirLock::take(dir.path(), Role::Engine).unwrap());
    let dead = serde_json::to_vec(&engine(42)).unwrap();
    fs::write(note(dir.path()), &dead).unwrap();
    let visitor = DirLock::take(dir.path(), Role::Visitor).unwrap();
    assert!(!note(dir.path()).exists());
    fs::write(note(dir.path()), &dead).unwrap();
    let error = DirLock::take(dir.path(), Role::Engine).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("which asks or repairs it"), "{text}");
    assert!(!text.contains("42)"), "{text}");
    drop(visitor);
}

#[test]
fn whoever_asks_and_whoever_starts_wait_for_one_who_asks() {
    let dir = tempfile::tempdir().unwrap();
    for role in [Role::Engine, Role::Visitor] {
        let visitor = DirLock::take(dir.path(), Role::Visitor).unwrap();
        let path = dir.path().to_path_buf();
        let waiting = thread::spawn(move || DirLock::wait_blocking(&path, role).map(drop));
        thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        drop(visitor);
        waiting.join().unwrap().unwrap();
    }
}

#[test]
fn whoever_asks_waits_for_an_engine_to_come_up_and_a_second_engine_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut lock = DirLock::take(dir.path(), Role::Engine).unwrap();
    let path = dir.path().to_path_buf();
    let asking = thread::spawn(move || DirLock::wait_blocking(&path, Role::Visitor).map(drop));
    DirLock::wait_blocking(dir.path(), Role::Engine).unwrap_err();
    // It gave up first.
    assert!(!asking.is_finished());
    lock.announce(&engine(std::process::id())).unwrap();
    let error = asking.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("ask it"), "{error}");
}
