use super::*;
use crate::testing::frame_of_moves;

#[test]
fn a_part_of_a_frame_carries_the_same_events() {
    let whole = frame_of_moves(10, 5, 3);
    let part = part(&whole, 1, 3).unwrap();
    assert_eq!(range(&part).unwrap(), (1, 3));
    for index in 0..3 {
        assert_eq!(digest(&part, index), digest(&whole, index + 1));
        // Texts and references go with their event.
        let of_part = single(&part, index).unwrap();
        assert_eq!(of_part, single(&whole, index + 1).unwrap());
        let note = format!("note 3/{}", index + 1);
        assert!(
            of_part
                .windows(note.len())
                .any(|bytes| bytes == note.as_bytes())
        );
    }
}

#[test]
fn other_numbers_leave_the_events_alone() {
    let frame = renumbered(&frame_of_moves(10, 2, 3), 77).unwrap();
    assert_eq!(frame, frame_of_moves(77, 2, 3));
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let frame = frame_of_moves(1, 2, 3);
    for at in 0..frame.len() {
        let mut damaged = frame.to_vec();
        damaged[at] ^= 1;
        assert!(range(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn an_event_that_is_not_there_is_an_error() {
    let frame = frame_of_moves(1, 2, 3);
    assert_eq!(
        digest(&frame, 2),
        Err(FrameError::Index { count: 2, index: 2 })
    );
    assert!(part(&frame, 1, 2).is_err());
}
