use std::path::Path;

use super::*;
use crate::config::raw::Origin;

fn raw(toml: &str) -> RawConfig {
    let mut raw = RawConfig::new();
    raw.set("pki.dev", "true", "--dev");
    raw.set("registry.auto_register", "true", "--dev");
    raw.toml(Path::new("till.toml"), toml);
    raw
}

fn errors(raw: &RawConfig) -> Vec<String> {
    match raw.parse() {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_defaults_with_an_own_authority_are_right() {
    let config = Config::dev(Path::new("here"));
    assert_eq!(config.data_dir, Path::new("here"));
    assert!(config.actors_max >= 1_000_000, "{}", config.actors_max);
    assert!(matches!(config.pki, PkiConfig::Dev));
}

#[test]
fn by_default_tills_that_drop_out_for_some_seconds_find_their_movements_in_memory() {
    let config = Config::dev(Path::new("here"));
    // 1.2 M events/s of the reference mix move stock 2.2 M times a second; an entry takes 16 bytes and its share of a span.
    let seconds = config.recent_bytes / 17 / 2_200_000;
    assert!(seconds >= 12, "{seconds}");
}

#[test]
fn the_reference_file_has_every_key_with_its_default() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/config/tillstream.toml"
    );
    let file = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        file,
        reference(),
        "write what `reference()` gives to {path}"
    );
    // With the comment signs off, the file says what the defaults say.
    let on: String = file
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(k, _)| !k.contains(' ')) =>
            {
                rest
            }
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let mut written = RawConfig::new();
    written.toml(Path::new(path), &on);
    let mut defaults = RawConfig::new();
    for raw in [&mut written, &mut defaults] {
        raw.set("pki.dev", "true", "--dev");
        raw.set("registry.auto_register", "true", "--dev");
    }
    let written = format!("{:?}", written.parse().unwrap());
    assert_eq!(written, format!("{:?}", defaults.parse().unwrap()));
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    let found = errors(&raw("[engine]\nshard = 4\n"));
    assert_eq!(
        found,
        ["unknown setting engine.shard in till.toml; did you mean engine.shards?"]
    );
    let mut other = RawConfig::new();
    other.set("pki.dev", "true", "--dev");
    other.environment([
        ("TILLSTREAM_JORNAL__DURABILITY".to_owned(), "os".to_owned()),
        ("TILLSTREAM_LOG".to_owned(), "debug".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
    ]);
    assert!(
        errors(&other)[0].contains(
            "jornal.durability in environment variable TILLSTREAM_JORNAL__DURABILITY; did you mean journal.durability?"
        ),
        "{:?}",
        errors(&other)
    );
}

#[test]
fn an_unknown_variable_is_an_error_that_names_the_one_that_was_meant() {
    let with = |name: &str, value: &str| {
        let mut raw = raw("");
        raw.environment([(name.to_owned(), value.to_owned())]);
        errors(&raw)
    };
    for (name, meant) in [
        ("TILLSTREAM_ENGINE_SHARDS", "TILLSTREAM_ENGINE__SHARDS"),
        (
            "TILLSTREAM_JOURNAL_SEGMENT_BYTES",
            "TILLSTREAM_JOURNAL__SEGMENT_BYTES",
        ),
        ("TILLSTREAM_ENGINE_SHARD", "TILLSTREAM_ENGINE__SHARDS"),
    ] {
        assert_eq!(
            with(name, "9999"),
            [format!(
                "unknown environment variable {name}; did you mean {meant}?"
            )]
        );
    }
    assert_eq!(
        with("TILLSTREAM_FOO", "3"),
        ["unknown environment variable TILLSTREAM_FOO; `tillstream check-config` lists all"]
    );
    // The command line's own, what a cluster sets for a service of this name, and what is not ours.
    for name in [
        "TILLSTREAM_CONFIG",
        "TILLSTREAM_LOG",
        "TILLSTREAM_SERVICE_HOST",
        "TILLSTREAM_SERVICE_PORT_ADMIN",
        "TILLSTREAM_PORT",
        "TILLSTREAM_PORT_7880_UDP_ADDR",
        "TILLSTREAM_ADMIN_PORT_7881_TCP",
        "TILL_SEED",
    ] {
        assert_eq!(with(name, "x"), [""; 0], "{name}");
    }
}

#[test]
fn what_could_not_be_read_is_told_without_what_follows_from_it() {
    let mut missing = RawConfig::new();
    missing.file(Path::new("/no/such/till.toml"));
    let mut torn = RawConfig::new();
    torn.toml(Path::new("till.toml"), "[pki\ndev = true\n");
    let mut misspelt = RawConfig::new();
    misspelt.toml(Path::new("till.toml"), "[pki]\ndevv = true\n");
    for raw in [missing, torn, misspelt] {
        let found = errors(&raw);
        assert_eq!(found.len(), 1, "{found:?}");
    }
    // What was set is held against the rest all the same.
    let mut set = RawConfig::new();
    set.toml(
        Path::new("till.toml"),
        "[pki]\nca = \"ca.pem\"\n[engine]\nshard = 1\n",
    );
    set.set("pki.dev", "true", "--dev");
    let found = errors(&set);
    assert!(
        found
            .iter()
            .any(|text| text.contains("contradicts pki.dev")),
        "{found:?}"
    );
}

#[test]
fn a_value_of_the_wrong_kind_or_range_names_key_origin_and_range() {
    for (toml, part) in [
        (
            "[flush]\ninterval_ms = 5\n",
            "flush.interval_ms = 5 in till.toml: must be a number from 10 to 60000",
        ),
        (
            "[flush]\ninterval_ms = \"250\"\n",
            "flush.interval_ms = \"250\" in till.toml",
        ),
        (
            "[engine]\nshards = 0\n",
            "engine.shards = 0 in till.toml: must be auto or a number from 1 to 1024",
        ),
        (
            "[engine]\nmemory_bytes = \"2GB\"\n",
            "engine.memory_bytes = 2GB in till.toml: must be a size",
        ),
        ("[journal]\ndurability = \"maybe\"\n", "must be disk or os"),
        (
            "[registry]\ncurrency = \"XXQ\"\n",
            "registry.currency = XXQ",
        ),
        (
            "[registry]\ntime_zone = \"Mars/Phobos\"\n",
            "registry.time_zone = Mars/Phobos",
        ),
        ("[network]\nlisten = \"nowhere\"\n", "must be an address"),
        ("[network]\nlisten = [1]\n", "network.listen = [1]"),
        ("not toml", "till.toml is not TOML"),
    ] {
        let found = errors(&raw(toml));
        assert!(
            found.iter().any(|text| text.contains(part)),
            "{toml}: {found:?}"
        );
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let mut raw = raw("[engine]\nshards = 2\ndrain_timeout_s = 7\n");
    raw.environment([("TILLSTREAM_ENGINE__SHARDS".to_owned(), "3".to_owned())]);
    assert_eq!(raw.parse().unwrap().shards, 3);
    raw.set("engine.shards", "4", "--shards");
    let config = raw.parse().unwrap();
    assert_eq!((config.shards, config.drain_timeout.as_secs()), (4, 7));
    let explained = raw.explain();
    let row = explained
        .iter()
        .find(|row| row.0 == "engine.shards")
        .unwrap();
    assert_eq!(row.2, Origin::Flag("--shards".to_owned()));
}

#[test]
fn contradictions_name_both_settings() {
    let without = RawConfig::new();
    let found = errors(&without);
    assert!(
        found
            .iter()
            .any(|t| t.starts_with("pki.ca (from the default) contradicts pki.dev"))
    );
    assert!(
        found
            .iter()
            .any(|t| t.contains("no store could ever be taken in"))
    );
    let found = errors(&raw("[pki]\nca = \"ca.pem\"\n"));
    assert!(found[0].contains("pki.ca (from till.toml) contradicts pki.dev (from flag --dev)"));
    let found = errors(&raw("[engine]\nmemory_bytes = \"256MiB\"\n"));
    assert!(
        found[0].contains("leave no room for 100000 actors"),
        "{found:?}"
    );
    let found = errors(&raw(
        "[network]\nlisten = \"127.0.0.1:9\"\n[admin]\nlisten = \"127.0.0.1:9\"\n",
    ));
    assert!(found[0].contains("different ports"), "{found:?}");
}
