//! `tillstream check-config`, and the configuration that `serve` runs with.

use std::net::SocketAddr;

use anyhow::Context;
use till_runtime::{Config, Origin, RawConfig, reference};

use crate::args::{CheckArgs, ServeArgs};
use crate::{output, table};

/// A configuration and which of its addresses somebody chose.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The configuration.
    pub(crate) config: Config,
    /// The address for devices, unless it is the default.
    pub(crate) listen: Option<SocketAddr>,
    /// The address of the admin port, unless it is the default.
    pub(crate) admin: Option<SocketAddr>,
}

/// Shows the configuration that `serve` would run with: every setting, its value, and where that came from.
///
/// # Errors
/// Returns everything that is wrong with the configuration, each with the name of its key.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<()> {
    if args.reference {
        return output::line(reference().trim_end());
    }
    let raw = raw(&args.serve);
    parse(&raw)?;
    let rows: Vec<_> = raw
        .explain()
        .into_iter()
        .map(|(key, value, origin)| {
            serde_json::json!({ "key": key, "value": value, "from": origin.to_string() })
        })
        .collect();
    if args.json {
        return output::json(&serde_json::json!({ "valid": true, "settings": rows }));
    }
    table::lines(&rows).iter().try_for_each(output::line)?;
    output::note("the configuration is valid");
    Ok(())
}

/// The configuration of these arguments: the file, under the environment, under the flags.
///
/// # Errors
/// Returns everything that is wrong with it, each with the name of its key.
pub(crate) fn config(args: &ServeArgs) -> anyhow::Result<Chosen> {
    let raw = raw(args);
    let config = parse(&raw)?;
    let chosen = |name: &str, address: SocketAddr| {
        let mut settings = raw.explain().into_iter();
        settings
            .any(|(key, _, origin)| key == name && origin != Origin::Default)
            .then_some(address)
    };
    Ok(Chosen {
        listen: chosen("network.listen", config.listen),
        admin: chosen("admin.listen", config.admin),
        config,
    })
}

fn parse(raw: &RawConfig) -> anyhow::Result<Config> {
    raw.parse().context("the configuration is wrong")
}

fn raw(args: &ServeArgs) -> RawConfig {
    let mut raw = RawConfig::new();
    if let Some(file) = &args.config {
        raw.file(file);
    }
    // A name or value that is no Unicode is none of ours.
    raw.environment(
        std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }),
    );
    if args.dev {
        raw.set("pki.dev", "true", "--dev");
        raw.set("registry.auto_register", "true", "--dev");
    }
    let data = args
        .data
        .as_ref()
        .map(|dir| dir.to_string_lossy().into_owned());
    for (key, value, flag) in [
        ("data.dir", data, "--data"),
        (
            "network.listen",
            args.listen.map(|at| at.to_string()),
            "--listen",
        ),
        (
            "admin.listen",
            args.admin.map(|at| at.to_string()),
            "--admin",
        ),
        ("engine.shards", args.shards.clone(), "--shards"),
        (
            "journal.durability",
            args.durability.clone(),
            "--durability",
        ),
        ("registry.time_zone", args.time_zone.clone(), "--time-zone"),
        ("registry.currency", args.currency.clone(), "--currency"),
        ("store.kind", args.store.clone(), "--store"),
        ("store.scylla", args.scylla.clone(), "--scylla"),
        ("store.keyspace", args.keyspace.clone(), "--keyspace"),
        (
            "cluster.lease_ms",
            args.lease.map(|lease| lease.as_millis().to_string()),
            "--lease",
        ),
        ("cluster.advertise", args.advertise.clone(), "--advertise"),
        (
            "pki.identity",
            args.identity
                .as_ref()
                .map(|file| file.to_string_lossy().into_owned()),
            "--identity",
        ),
    ] {
        if let Some(value) = value {
            raw.set(key, &value, flag);
        }
    }
    raw
}
