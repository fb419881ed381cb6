use super::*;

fn letter(seq: u64) -> DeadLetter {
    DeadLetter {
        terminal: (7 << 32) | 1,
        epoch: 2,
        seq,
        cause: Cause::Refused(Reason::BadTime),
        frame: Bytes::from_static(b"TILL and some bytes \x00\xff"),
    }
}

#[test]
fn a_dead_letter_survives_a_restart_with_its_reason_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.jsonl");
    DeadLetterFile::open(&path)
        .unwrap()
        .put(&letter(3))
        .unwrap();
    let file = DeadLetterFile::open(&path).unwrap();
    assert_eq!(file.letters().unwrap(), [letter(3)]);
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .contains("refused: bad time")
    );
}

#[test]
fn the_same_event_is_kept_once_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.jsonl");
    DeadLetterFile::open(&path)
        .unwrap()
        .put(&letter(3))
        .unwrap();
    let mut file = DeadLetterFile::open(&path).unwrap();
    file.put(&letter(3)).unwrap();
    file.put(&letter(4)).unwrap();
    assert_eq!(file.letters().unwrap(), [letter(3), letter(4)]);
}

#[test]
fn a_line_that_a_crash_cut_short_is_removed_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.jsonl");
    let mut file = DeadLetterFile::open(&path).unwrap();
    file.put(&letter(1)).unwrap();
    let whole = fs::read(&path).unwrap().len();
    file.put(&letter(2)).unwrap();
    drop(file);
    let text = fs::read(&path).unwrap();
    for cut in whole..text.len() {
        fs::write(&path, &text[..cut]).unwrap();
        let mut file = DeadLetterFile::open(&path).unwrap();
        assert_eq!(file.letters().unwrap(), [letter(1)], "cut at {cut}");
        file.put(&letter(2)).unwrap();
        assert_eq!(file.letters().unwrap(), [letter(1), letter(2)]);
    }
}

#[test]
fn resend_hands_every_letter_over_before_the_file_forgets_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.jsonl");
    let mut file = DeadLetterFile::open(&path).unwrap();
    file.put(&letter(1)).unwrap();
    file.put(&letter(2)).unwrap();
    let mut sent = Vec::new();
    let failed: Result<usize, Box<dyn std::error::Error>> = file.resend(|letter| {
        if letter.seq == 2 {
            return Err("the outbox is full".into());
        }
        Ok(())
    });
    assert!(failed.is_err());
    assert_eq!(file.letters().unwrap().len(), 2);
    let resent: Result<usize, DeadLetterError> = file.resend(|letter| {
        sent.push(letter.seq);
        Ok(())
    });
    assert_eq!(resent.unwrap(), 2);
    assert_eq!(sent, [1, 2]);
    assert!(
        DeadLetterFile::open(&path)
            .unwrap()
            .letters()
            .unwrap()
            .is_empty()
    );
}
