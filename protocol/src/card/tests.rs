use super::*;

/// Numbers that card schemes publish for tests.
const CARDS: [&str; 14] = [
    "4111111111111111",
    "4012888888881881",
    "4222222222222",
    "5555555555554444",
    "5105105105105100",
    "2223003122003222",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
    "3530111333300000",
    "30569309025904",
    "38520000023237",
    "6200000000000005",
];

const KEY: ScreenKey = ScreenKey::new([7; 32]);

fn dressed(card: &str) -> Vec<String> {
    let spread = |parts: &str| {
        card.chars()
            .map(String::from)
            .collect::<Vec<_>>()
            .join(parts)
    };
    vec![
        card.to_owned(),
        format!("paid with {card}, thanks"),
        format!("{} {} {}", &card[..4], &card[4..8], &card[8..]),
        format!("{}-{}", &card[..6], &card[6..]),
        format!("no{}.{}no", &card[..4], &card[4..]),
        format!("{card} 12/26 123"),
        format!("order 17 {card}"),
        format!("12345678{card}90123"),
        format!("{}\u{a0}{}", &card[..5], &card[5..]),
        spread(" "),
        spread(" - "),
        format!("{card}123"),
        format!("{card}1234"),
        card.chars()
            .map(|c| char::from_u32(0xff10 + c.to_digit(10).unwrap()).unwrap())
            .collect(),
        card.chars()
            .map(|c| char::from_u32(0x0660 + c.to_digit(10).unwrap()).unwrap())
            .collect(),
        card.chars()
            .map(|c| char::from_u32(0x1d7ce + c.to_digit(10).unwrap()).unwrap())
            .collect(),
    ]
}

#[test]
fn every_test_card_is_masked_however_it_is_dressed() {
    for text in CARDS.iter().flat_map(|card| dressed(card)) {
        let masked = mask_text(&text).unwrap_or_else(|| panic!("{text} was not masked"));
        assert_eq!(masked.len(), text.len(), "{text} became {masked}");
        assert!(!is_suspect(&masked), "{text} became {masked}");
        assert_eq!(mask_text(&text), Some(masked), "not deterministic");
    }
}

#[test]
fn the_last_four_digits_and_the_separators_stay() {
    assert_eq!(
        mask_text("card 4111 1111-1111 1111.").unwrap(),
        "card **** ****-**** 1111."
    );
}

// Digits of a masked text that still show, behind so many bytes.
fn shown(masked: &str, behind: usize) -> usize {
    masked[behind..]
        .chars()
        .filter(char::is_ascii_digit)
        .count()
}

#[test]
fn a_number_by_chance_before_a_card_hides_nothing_of_it() {
    let card = "4929007651843281";
    assert!(is_suspect(card));
    let mut by_chance = 0;
    for n in 0..20_000_u32 {
        let before = format!("4{:07}", n * 7);
        for text in [
            format!("{before}{card}"),
            format!(
                "{before} {} {} {} {}",
                &card[..4],
                &card[4..8],
                &card[8..12],
                &card[12..]
            ),
        ] {
            let reach = before.clone() + &card[..8];
            by_chance += u32::from(is_suspect(&reach));
            let masked = mask_text(&text).unwrap();
            assert!(shown(&masked, before.len()) <= 4, "{text} became {masked}");
        }
    }
    assert!(by_chance > 100, "the numbers by chance were not tried");
}

#[test]
fn a_security_code_written_behind_or_named_is_masked() {
    for (text, masked) in [
        ("4111111111111111123", "************1111***"),
        ("41111111111111111234", "********************"),
        ("4111111111111111 123", "************1111 ***"),
        (
            "4111 1111 1111 1111 12/26 123",
            "**** **** **** **** **/** ***",
        ),
        ("3782822463100051234", "***********0005****"),
        ("CVV: 123", "CVV: ***"),
        ("cvc2=1234 ok", "cvc2=**** ok"),
    ] {
        assert_eq!(mask_text(text).as_deref(), Some(masked), "{text}");
    }
    for text in ["cvv 12", "cvv 12345", "csc", "cvvx123"] {
        assert_eq!(mask_text(text), None, "{text}");
    }
}

#[test]
fn data_of_a_magnetic_stripe_is_blanked_whole() {
    let track_2 = mask_text("a ;4111111111111111=25121010000012345678? b").unwrap();
    assert_eq!(track_2, format!("a {} b", "*".repeat(39)));
    let track_1 = mask_text("%B4111111111111111^DOE/JOHN^2512101?").unwrap();
    assert!(
        !track_1.contains("DOE") && !track_1.contains("2512") && !track_1.contains("1111"),
        "{track_1}"
    );
    let bare = mask_text("4111111111111111=2512101").unwrap();
    assert!(!bare.contains("1111") && !bare.contains("2512"), "{bare}");
    // Also where the number itself fails the check, as track data never may be kept.
    assert!(mask_text(";4111111111111112=2512101000000?").is_some());
}

#[test]
fn what_is_no_card_stays() {
    for text in [
        "4111111111111112",
        "1234567890123",
        "order 20260301-0007",
        "",
        "2026-11-21 09:49:54.000123",
        "+49 30 901820",
        "0000000000000000",
        "DE89370400440532013000X",
        "£12.50 für zwei Stück",
        "٤١١١",
    ] {
        assert_eq!(mask_text(text), None, "{text}");
    }
}

fn with_check_digit(body: &str) -> String {
    (0..10)
        .map(|check| format!("{body}{check}"))
        .find(|code| is_gs1(code))
        .unwrap()
}

#[test]
fn ten_thousand_barcodes_of_each_kind_are_left_alone() {
    for n in 0..10_000_u64 {
        let number = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for length in [8, 12, 13, 14, 18_usize] {
            // Half of them begin like a card.
            let digits = format!("{:017}", number % 100_000_000_000_000_000);
            let body = if n % 2 == 0 {
                format!("4{digits}")
            } else {
                digits
            };
            let code = with_check_digit(&body[..length - 1]);
            assert_eq!(token_code(&KEY, &code), None, "{code}");
        }
    }
}

#[test]
fn known_barcodes_have_right_check_digits() {
    for code in [
        "96385074",
        "036000291452",
        "4006381333931",
        "10012345678902",
        "106141412345678908",
    ] {
        assert!(is_gs1(code), "{code}");
    }
    assert!(!is_gs1("4006381333932") && !is_gs1("400638133393") && !is_gs1("400638133393a"));
}

#[test]
fn a_code_that_looks_like_a_card_becomes_a_token_of_its_length() {
    for code in CARDS
        .iter()
        .flat_map(|card| [(*card).to_owned(), format!("SKU {card}")])
    {
        if is_gs1(&code) {
            continue;
        }
        let token = token_code(&KEY, &code).unwrap();
        assert_eq!(token.len(), code.len());
        assert!(token.bytes().all(|b| b.is_ascii_alphabetic()), "{token}");
        assert_eq!(
            token_code(&KEY, &code),
            Some(token.clone()),
            "not deterministic"
        );
        assert_eq!(token_code(&KEY, &token), None, "a token is screened again");
        assert_ne!(
            token_code(&ScreenKey::new([8; 32]), &code),
            Some(token),
            "the key has no effect"
        );
    }
}

#[test]
fn no_two_codes_share_a_token() {
    // All card-like numbers of one issuer range: many differ in a middle digit and the check digit alone.
    let codes = (0..200_000_u64)
        .map(|n| format!("4{:015}", n * 7_919))
        .filter(|code| is_suspect(code));
    let tokens: Vec<String> = codes.filter_map(|code| token_code(&KEY, &code)).collect();
    let distinct: std::collections::BTreeSet<&String> = tokens.iter().collect();
    assert!(tokens.len() > 10_000);
    assert_eq!(distinct.len(), tokens.len());
}

#[test]
fn a_reference_that_spells_a_card_becomes_a_token() {
    let token = screen_reference(b"4111111111111111", &KEY).unwrap();
    assert!(token.iter().all(|b| !b.is_ascii()));
    assert_eq!(screen_reference(&token, &KEY), None);
    assert!(screen_reference(b"378282246310005\0", &KEY).is_some());
    assert_eq!(screen_reference(b"4111111111111112", &KEY), None);
    assert_eq!(screen_reference(&[0xff; 16], &KEY), None);
}

#[test]
fn a_key_is_never_shown() {
    assert_eq!(format!("{KEY:?}"), "ScreenKey(..)");
}
