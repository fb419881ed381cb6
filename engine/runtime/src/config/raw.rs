//! Settings as they were written, with where each came from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use till_protocol::currency::Currency;

use crate::config::Config;
use crate::config::key::{KEYS, Key, Kind, find};
use crate::config::near::nearest;
use crate::config::variable;
use crate::config::variable::Meaning;
use crate::config::zone_name;

/// Where a value came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// It was not set.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// What is wrong with a setting.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("could not read {}: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The file is no TOML.
    #[error("{} is not TOML: {cause}", file.display())]
    Toml {
        /// The file.
        file: PathBuf,
        /// What is wrong, with its line.
        cause: String,
    },
    /// No such key.
    #[error("unknown setting {key} in {origin}{}", suggestion(*nearest))]
    Unknown {
        /// What was written.
        key: String,
        /// Where.
        origin: Origin,
        /// The nearest known key.
        nearest: Option<&'static str>,
    },
    /// No such environment variable.
    #[error("unknown environment variable {name}{}", suggestion(nearest.as_deref()))]
    Variable {
        /// What was set.
        name: String,
        /// The nearest that would be understood.
        nearest: Option<String>,
    },
    /// A value that is not of the key's kind, or out of its range.
    #[error("{key} = {value} in {origin}: must be {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value as written.
        value: String,
        /// Where.
        origin: Origin,
        /// What is allowed.
        allowed: String,
    },
    /// Two settings that do not go together.
    #[error("{key} (from {origin}) contradicts {other} (from {other_origin}): {text}")]
    Contradiction {
        /// One of them.
        key: &'static str,
        /// Where it came from.
        origin: Origin,
        /// The other.
        other: &'static str,
        /// Where that came from.
        other_origin: Origin,
        /// Why, and what to do.
        text: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; `tillstream check-config` lists all".to_owned(),
        |name| format!("; did you mean {name}?"),
    )
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub struct ConfigErrors(
    /// The errors, in the order in which they were found; never empty.
    pub Vec<ConfigError>,
);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Value {
    text: String,
    origin: Origin,
}

/// Settings as they were written. Later sources win: file, then environment, then flags.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    values: BTreeMap<&'static str, Value>,
    errors: Vec<ConfigError>,
}

impl RawConfig {
    /// Nothing but defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the settings of a TOML file. What is wrong with it is told by [`parse`](Self::parse).
    pub fn file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.toml(path, &text),
            Err(error) => self.errors.push(ConfigError::Read {
                file: path.to_path_buf(),
                cause: error.to_string(),
            }),
        }
    }

    /// Takes the settings of a text in TOML that was read from `path`.
    pub fn toml(&mut self, path: &Path, text: &str) {
        let origin = Origin::File(path.to_path_buf());
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                self.errors.push(ConfigError::Toml {
                    file: path.to_path_buf(),
                    cause: error.to_string().trim_end().to_owned(),
                });
                return;
            }
        };
        for (section, content) in table {
            match content {
                toml::Value::Table(keys) => {
                    for (key, value) in keys {
                        self.toml_value(&format!("{section}.{key}"), &value, &origin);
                    }
                }
                other => self.toml_value(&section, &other, &origin),
            }
        }
    }

    /// Takes variables `TILLSTREAM_SECTION__KEY`. Another name that begins with `TILLSTREAM_` is an error, unless the
    /// command line knows it or a cluster sets it by itself; all other variables are none of its business.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, text) in variables {
            match variable::meaning(&name) {
                Meaning::Setting(key) => self.put(&key, text, Origin::Environment(name)),
                Meaning::Unknown(nearest) => {
                    self.errors.push(ConfigError::Variable { name, nearest });
                }
                Meaning::NotOurs => {}
            }
        }
    }

    /// Takes one setting of the command line; `flag` is what the person wrote.
    pub fn set(&mut self, key: &str, value: &str, flag: &str) {
        self.put(key, value.to_owned(), Origin::Flag(flag.to_owned()));
    }

    /// Every setting with its value as text and where it came from, in the order of [`KEYS`].
    pub fn explain(&self) -> Vec<(&'static str, String, Origin)> {
        let rows = KEYS.iter().map(|key| {
            let value = self.values.get(key.name);
            value.map_or_else(
                || (key.name, key.default.to_owned(), Origin::Default),
                |value| (key.name, value.text.clone(), value.origin.clone()),
            )
        });
        rows.collect()
    }

    // Whether something that somebody meant to set is not among the values.
    fn is_unclear(&self) -> bool {
        self.errors.iter().any(|error| match error {
            ConfigError::Read { .. }
            | ConfigError::Toml { .. }
            | ConfigError::Unknown { .. }
            | ConfigError::Variable { .. } => true,
            ConfigError::Value { .. } | ConfigError::Contradiction { .. } => false,
        })
    }

    fn toml_value(&mut self, name: &str, value: &toml::Value, origin: &Origin) {
        let text = match (value, find(name)) {
            (toml::Value::String(text), Some(key))
                if matches!(key.kind, Kind::Number { .. } | Kind::Bool) =>
            {
                // A number in quotes is a mistake somewhere; better told than guessed.
                self.refuse(key, format!("{text:?}"), origin.clone());
                return;
            }
            (toml::Value::String(text), _) => text.clone(),
            (toml::Value::Integer(number), _) => number.to_string(),
            (toml::Value::Boolean(truth), _) => truth.to_string(),
            (other, Some(key)) => {
                self.refuse(key, other.to_string(), origin.clone());
                return;
            }
            (_, None) => String::new(),
        };
        self.put(name, text, origin.clone());
    }

    fn put(&mut self, name: &str, text: String, origin: Origin) {
        match find(name) {
            Some(key) => {
                self.values.insert(key.name, Value { text, origin });
            }
            None => self.errors.push(ConfigError::Unknown {
                key: name.to_owned(),
                origin,
                nearest: nearest(name),
            }),
        }
    }

    fn refuse(&mut self, key: &Key, value: String, origin: Origin) {
        self.errors.push(ConfigError::Value {
            key: key.name,
            value,
            origin,
            allowed: key.kind.allowed(),
        });
    }
}

/// Parses settings one by one and gathers what is wrong.
pub(super) struct RawReader<'a> {
    raw: &'a RawConfig,
    errors: Vec<ConfigError>,
}

impl<'a> RawReader<'a> {
    pub(super) fn new(raw: &'a RawConfig) -> Self {
        Self {
            raw,
            errors: raw.errors.clone(),
        }
    }

    pub(super) fn finish(self, config: Config) -> Result<Config, ConfigErrors> {
        if self.errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors(self.errors))
        }
    }

    pub(super) fn contradiction(&mut self, key: &'static str, other: &'static str, text: &str) {
        // One that was refused already says enough.
        let refused = |name| {
            self.errors
                .iter()
                .any(|error| matches!(error, ConfigError::Value { key, .. } if *key == name))
        };
        // Two that nobody set say nothing while something that was set could not be understood: it may have been one of them.
        let is_set = |name| self.raw.values.contains_key(name);
        let is_guess = self.raw.is_unclear() && !is_set(key) && !is_set(other);
        if is_guess || refused(key) || refused(other) {
            return;
        }
        self.errors.push(ConfigError::Contradiction {
            key,
            origin: self.origin(key),
            other,
            other_origin: self.origin(other),
            text: text.to_owned(),
        });
    }

    pub(super) fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let text = self.text(name);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    pub(super) fn words(&mut self, name: &'static str) -> Option<String> {
        let text = self.text(name);
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    }

    pub(super) fn address(&mut self, name: &'static str) -> SocketAddr {
        let fallback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        self.read(name, fallback, |text, _| text.parse().ok())
    }

    pub(super) fn shards(&mut self, name: &'static str) -> u16 {
        self.read(name, 1, |text, kind| {
            if text == "auto" {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                return u16::try_from(cores.min(1_024)).ok();
            }
            let Kind::Shards { max } = kind else {
                return None;
            };
            let count: u64 = text.parse().ok()?;
            (1..=max).contains(&count).then_some(count)?.try_into().ok()
        })
    }

    pub(super) fn retention(&mut self, name: &'static str) -> Option<u32> {
        self.read(name, None, |text, _| {
            if text == "forever" {
                return Some(None);
            }
            let days: u32 = text.parse().ok()?;
            (1..=36_500).contains(&days).then_some(Some(days))
        })
    }

    pub(super) fn number(&mut self, name: &'static str) -> u32 {
        self.read(name, 1, |text, kind| {
            let Kind::Number { min, max } = kind else {
                return None;
            };
            let number: u64 = text.parse().ok()?;
            (min..=max)
                .contains(&number)
                .then_some(number)?
                .try_into()
                .ok()
        })
    }

    pub(super) fn seconds(&mut self, name: &'static str) -> Duration {
        Duration::from_secs(u64::from(self.number(name)))
    }

    pub(super) fn bytes(&mut self, name: &'static str) -> u64 {
        self.read(name, 0, |text, kind| {
            let Kind::Bytes { min, max } = kind else {
                return None;
            };
            let bytes = size(text)?;
            (min..=max).contains(&bytes).then_some(bytes)
        })
    }

    pub(super) fn bytes32(&mut self, name: &'static str) -> u32 {
        u32::try_from(self.bytes(name)).unwrap_or(u32::MAX)
    }

    pub(super) fn truth(&mut self, name: &'static str) -> bool {
        self.read(name, false, |text, _| text.parse().ok())
    }

    pub(super) fn word(&mut self, name: &'static str) -> String {
        self.read(name, String::new(), |text, kind| match kind {
            Kind::Choice(words) if words.contains(&text) => Some(text.to_owned()),
            _ => None,
        })
    }

    pub(super) fn currency(&mut self, name: &'static str) -> Currency {
        // 840 is USD; the fallback stands in for a refused value only.
        #[expect(clippy::expect_used, reason = "USD is in ISO 4217; a test reads it")]
        let fallback = Currency::from_code("USD").expect("USD is a currency");
        self.read(name, fallback, |text, _| Currency::from_code(text).ok())
    }

    pub(super) fn zone(&mut self, name: &'static str) -> String {
        self.read(name, String::new(), |text, _| zone_name(text))
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        fallback: T,
        parse: impl FnOnce(&str, Kind) -> Option<T>,
    ) -> T {
        let Some(key) = find(name) else {
            return fallback;
        };
        let text = self.text(name);
        if let Some(value) = parse(&text, key.kind) {
            return value;
        }
        self.errors.push(ConfigError::Value {
            key: key.name,
            value: text,
            origin: self.origin(name),
            allowed: key.kind.allowed(),
        });
        fallback
    }

    fn text(&self, name: &str) -> String {
        let value = self.raw.values.get(name);
        value.map_or_else(
            || find(name).map_or("", |key| key.default).to_owned(),
            |value| value.text.clone(),
        )
    }

    fn origin(&self, name: &str) -> Origin {
        let value = self.raw.values.get(name);
        value.map_or(Origin::Default, |value| value.origin.clone())
    }
}

// 67108864, "64MiB", "2GiB", "512KiB".
fn size(text: &str) -> Option<u64> {
    let units: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    for (unit, bytes) in units {
        if let Some(number) = text.strip_suffix(unit) {
            return number.trim().parse::<u64>().ok()?.checked_mul(bytes);
        }
    }
    text.parse().ok()
}
