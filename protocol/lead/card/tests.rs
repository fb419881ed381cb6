use super::{ScreenKey, is_barcode, mask_text, screen, token_code};
use crate::family::text;
use crate::id::SkuId;

const TEST_CARDS: [&str; 10] = [
    "4111111111111111", "5555555555554444", "378282246310005", "6011111111111117",
    "3530111333300000", "30569309025904", "2223003122003222", "4222222222222", "6304000000000000",
    "6200000000000005",
];

fn key() -> ScreenKey {
    ScreenKey::from_bytes([7; 32])
}

/// The digits 1 to n of a barcode with the check digit behind them.
fn barcode(body: &str) -> String {
    let find = |check: u8| {
        let mut digits: Vec<u8> = body.bytes().map(|byte| byte - b'0').collect();
        digits.push(check);
        is_barcode(&digits)
    };
    let check = (0..10).find(|check| find(*check)).unwrap();
    format!("{body}{check}")
}

#[test]
fn every_test_card_is_masked_in_free_text_with_its_last_four_kept() {
    for card in TEST_CARDS {
        for dressed in [
            card.to_owned(),
            format!("paid with {card}, thanks"),
            format!("{}-{}", &card[..4], &card[4..]),
            format!("{} {} {}", &card[..4], &card[4..8], &card[8..]),
        ] {
            let masked = mask_text(&dressed).unwrap_or_else(|| panic!("{dressed} was not masked"));
            assert_eq!(masked.len(), dressed.len());
            let left: String = masked.chars().filter(char::is_ascii_digit).collect();
            assert_eq!(left, card[card.len() - 4..], "{dressed} became {masked}");
        }
    }
}

#[test]
fn digits_of_other_scripts_are_digits() {
    let wide: String = "4111111111111111"
        .bytes()
        .map(|byte| char::from_u32(0xff10 + u32::from(byte - b'0')).unwrap())
        .collect();
    assert_eq!(mask_text(&wide).unwrap().len(), wide.len());
}

#[test]
fn track_data_is_blanked() {
    let masked = mask_text("a ;4111111111111111=25121010000012345678? b").unwrap();
    assert_eq!(masked, format!("a {} b", "*".repeat(39)));
    assert!(!mask_text("%B4111111111111111^DOE/JOHN^2512101?").unwrap().contains("DOE"));
}

#[test]
fn numbers_that_are_no_cards_stay() {
    for text in ["4111111111111112", "9111111111111111", "1234", "order 20260301-0007", ""] {
        assert_eq!(mask_text(text), None, "{text}");
    }
}

#[test]
fn ten_thousand_barcodes_are_not_mistaken_for_cards() {
    for n in 0..10_000_u64 {
        let body = 400_000_000_000 + n * 7_919_333;
        for code in [
            barcode(&format!("{:07}", n * 613 % 10_000_000)),
            barcode(&format!("{:011}", body % 100_000_000_000)),
            barcode(&format!("{body:012}")),
            barcode(&format!("{:013}", body * 3)),
            barcode(&format!("{:017}", body * 40_961)),
        ] {
            assert_eq!(screen(text::SKU_CODE, &code, &key()), None, "{code}");
        }
    }
}

#[test]
fn a_code_that_looks_like_a_card_becomes_a_token_of_its_length() {
    let tokens: Vec<String> =
        TEST_CARDS.iter().filter_map(|card| token_code(&key(), card)).collect();
    assert!(tokens.len() >= TEST_CARDS.len() - 1, "{tokens:?}"); // one of them may pass for a GTIN
    for (token, other) in tokens.iter().zip(tokens.iter().skip(1)) {
        assert_ne!(token, other);
        assert_ne!(SkuId::of_code(token), SkuId::of_code(other));
    }
    let token = token_code(&key(), "4111111111111111").unwrap();
    assert_eq!(token.len(), 16);
    assert_eq!(token_code(&key(), "4111111111111111").unwrap(), token, "not deterministic");
    assert_ne!(token_code(&ScreenKey::from_bytes([8; 32]), "4111111111111111").unwrap(), token);
    assert_eq!(token_code(&key(), &token), None, "a token is screened again");
}
