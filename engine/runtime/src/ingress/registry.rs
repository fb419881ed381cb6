//! Who may open a session: stores with currency and time zone, and their terminals.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use till_core::Zone;
use till_protocol::code::Reason;
use till_protocol::currency::Currency;
use till_protocol::id::TerminalId;

use crate::config::RegistryConfig;

/// Why a registry file is of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It could not be read.
    #[error("could not read the registry {}: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is not TOML of the right shape.
    #[error("registry {}: {cause}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong, with line or store.
        cause: String,
    },
}

/// Stores and terminals, as far as they are known from outside the data.
#[derive(Debug)]
pub(crate) struct Registry {
    auto: bool,
    currency: Currency,
    zone: String,
    stores: BTreeMap<u32, Store>,
}

#[derive(Debug)]
struct Store {
    currency: Currency,
    zone: String,
    /// `None`: every terminal.
    terminals: Option<BTreeSet<u32>>,
}

/// What a store is to be registered with, if it is not yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Listing {
    /// ISO 4217 number.
    pub(crate) currency: u16,
    /// IANA name.
    pub(crate) zone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    store: Vec<RegisteredStore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisteredStore {
    number: u32,
    currency: String,
    time_zone: String,
    terminals: Option<Vec<u32>>,
}

impl Registry {
    /// Reads the registry file, if there is one.
    pub(crate) fn open(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let mut registry = Self {
            auto: config.auto_register,
            currency: config.currency,
            zone: config.zone.clone(),
            stores: BTreeMap::new(),
        };
        if let Some(path) = &config.file {
            let text = std::fs::read_to_string(path).map_err(|cause| RegistryError::Read {
                file: path.clone(),
                cause,
            })?;
            registry.read(path, &text)?;
        }
        Ok(registry)
    }

    fn read(&mut self, path: &Path, text: &str) -> Result<(), RegistryError> {
        let wrong = |cause: String| RegistryError::Content {
            file: path.to_path_buf(),
            cause,
        };
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        for entry in file.store {
            let number = entry.number;
            let of_store = |cause: String| wrong(format!("store {number}: {cause}"));
            let currency = Currency::from_code(&entry.currency)
                .map_err(|error| of_store(error.to_string()))?;
            let zone = Zone::new(&entry.time_zone).map_err(|error| of_store(error.to_string()))?;
            for till in entry.terminals.iter().flatten() {
                let packed = u64::from(number) << 32 | u64::from(*till);
                TerminalId::from_u64(packed).map_err(|error| of_store(error.to_string()))?;
            }
            let store = Store {
                currency,
                zone: zone.name().to_owned(),
                terminals: entry.terminals.map(BTreeSet::from_iter),
            };
            if self.stores.insert(number, store).is_some() {
                return Err(of_store("it is listed twice".to_owned()));
            }
        }
        Ok(())
    }

    /// What the store of a terminal is to be registered with, if it is not yet.
    ///
    /// A device may state currency and zone; what the file says counts, and the shard compares the two.
    pub(crate) fn admit(
        &self,
        terminal: TerminalId,
        currency: Option<Currency>,
        zone: &str,
    ) -> Result<Listing, Reason> {
        if let Some(store) = self.stores.get(&terminal.store().get()) {
            let listed = store.terminals.as_ref();
            let known = listed.is_none_or(|tills| tills.contains(&terminal.till().get()));
            if !known && !self.auto {
                return Err(Reason::UnknownTerminal);
            }
            return Ok(Listing {
                currency: store.currency.numeric(),
                zone: store.zone.clone(),
            });
        }
        if !self.auto {
            return Err(Reason::UnknownTerminal);
        }
        let zone = if zone.is_empty() { &self.zone } else { zone };
        Ok(Listing {
            currency: currency.unwrap_or(self.currency).numeric(),
            zone: zone.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
