use super::*;

#[test]
fn codes_rise_and_lead_back_to_their_reason() {
    assert!(Reason::ALL.is_sorted_by(|a, b| a.code() < b.code()));
    for reason in Reason::ALL {
        assert_eq!(Reason::from_code(reason.code()), *reason);
        assert_eq!(reason.name(), reason.name().to_lowercase());
        assert!(reason.sentence().ends_with('.'));
    }
}

#[test]
fn a_reason_of_a_newer_server_is_kept_as_its_number() {
    let reason = Reason::from_code(9_999);
    assert_eq!((reason, reason.code()), (Reason::Other(9_999), 9_999));
    assert_eq!(reason.to_string(), "reason 9999");
}

#[test]
fn the_ranges_say_what_happens_to_the_event() {
    assert!(Reason::Unreadable.is_refusal() && !Reason::Unreadable.is_quarantine());
    assert!(Reason::Conflict.is_quarantine() && !Reason::Conflict.is_refusal());
    assert!(!Reason::BadCrc.is_refusal() && !Reason::Other(300).is_quarantine());
}
