//! The registry file: stores that are registered before their tills speak.
//!
//! ```toml
//! [stores.12]
//! currency = "EUR"
//! time_zone = "Europe/Berlin"
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use till_protocol::currency::Currency;
use till_protocol::id::StoreId;

/// A store of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) currency: Currency,
    pub(crate) zone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    stores: BTreeMap<String, Store>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Store {
    currency: String,
    time_zone: String,
}

/// Reads a registry file; the error says where it is wrong.
pub(crate) fn read(path: &Path) -> Result<Vec<(StoreId, Entry)>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse(text: &str) -> Result<Vec<(StoreId, Entry)>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    file.stores
        .into_iter()
        .map(|(number, store)| entry(&number, store))
        .collect()
}

fn entry(number: &str, store: Store) -> Result<(StoreId, Entry), String> {
    let id = number
        .parse()
        .map_err(|_| format!("stores.{number}: a store is a number"))
        .and_then(|number| {
            StoreId::new(number).map_err(|error| format!("stores.{number}: {error}"))
        })?;
    let currency = Currency::from_code(&store.currency).map_err(|_| {
        format!(
            "stores.{number}.currency: {} is not in ISO 4217",
            store.currency
        )
    })?;
    let zone = till_core::Zone::new(&store.time_zone)
        .map_err(|error| format!("stores.{number}.time_zone: {error}"))?;
    Ok((
        id,
        Entry {
            currency,
            zone: zone.name().to_owned(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_store_has_a_currency_and_a_zone() {
        let stores =
            parse("[stores.12]\ncurrency = \"EUR\"\ntime_zone = \"Europe/Berlin\"\n").unwrap();
        assert_eq!(stores.len(), 1);
        assert_eq!(stores[0].0.get(), 12);
        assert_eq!(stores[0].1.zone, "Europe/Berlin");
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, word) in [
            (
                "[stores.0]\ncurrency = \"EUR\"\ntime_zone = \"UTC\"",
                "stores.0",
            ),
            (
                "[stores.1]\ncurrency = \"EURO\"\ntime_zone = \"UTC\"",
                "currency",
            ),
            (
                "[stores.1]\ncurrency = \"EUR\"\ntime_zone = \"Mars/Base\"",
                "time_zone",
            ),
            ("[stores.1]\ncurrency = \"EUR\"\nzone = \"UTC\"", "zone"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{error} does not name {word}");
        }
    }
}
