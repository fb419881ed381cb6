//! Environment variables: which setting a name means.

use crate::config::key::KEYS;
use crate::config::near::nearest;

/// What variables of ours begin with.
const PREFIX: &str = "TILLSTREAM_";
/// Those that name no setting: the command line reads them.
const OTHERS: [&str; 2] = ["CONFIG", "LOG"];

/// What a variable means.
pub(super) enum Meaning {
    /// A setting, as `section.key`; there may be none of that name.
    Setting(String),
    /// Nothing that is known; with the variable that may have been meant.
    Unknown(Option<String>),
    /// It is for somebody else.
    NotOurs,
}

/// What the variable of this name means.
pub(super) fn meaning(name: &str) -> Meaning {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Meaning::NotOurs;
    };
    if let Some((section, key)) = rest.split_once("__") {
        return Meaning::Setting(format!("{section}.{key}").to_ascii_lowercase());
    }
    if OTHERS.contains(&rest) || is_service_link(rest) {
        return Meaning::NotOurs;
    }
    Meaning::Unknown(nearest_variable(rest))
}

// A cluster tells each container where services are: NAME_SERVICE_HOST, NAME_PORT, NAME_PORT_7880_UDP_ADDR. One that is
// called tillstream makes such names of ours.
fn is_service_link(rest: &str) -> bool {
    let is_port = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().unwrap_or_default();
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    };
    rest == "PORT"
        || rest.ends_with("_PORT")
        || rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || rest
            .split_once("PORT_")
            .is_some_and(|(_, rest)| is_port(rest))
}

// The variable that was meant, where one is near: most often it lacks an underscore.
fn nearest_variable(rest: &str) -> Option<String> {
    let flat = |name: &str| name.replace('.', "_");
    let asked = rest.to_ascii_lowercase();
    let same = KEYS.iter().find(|key| flat(key.name) == asked);
    let known = same.map(|key| key.name).or_else(|| {
        let dotted = asked.replacen('_', ".", 1);
        nearest(&dotted)
    });
    known.map(|name| {
        format!(
            "{PREFIX}{}",
            name.replacen('.', "__", 1).to_ascii_uppercase()
        )
    })
}
