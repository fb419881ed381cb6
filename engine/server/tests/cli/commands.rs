use std::fs;

use tempfile::tempdir;

use crate::engine::{code, errors, one_line, run};

#[test]
fn help_is_a_result_and_nonsense_a_usage_error() {
    assert_eq!(code(&run(&["--help"])), 0);
    assert_eq!(code(&run(&["--version"])), 0);
    for nonsense in [
        &["serv"][..],
        &["serve", "--shards", "many"],
        &["query", "sales"],
        &[],
    ] {
        let output = run(nonsense);
        assert_eq!(code(&output), 2, "{nonsense:?}: {}", errors(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_wrong_parameter_is_a_usage_error_that_names_it() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for (args, name) in [
        (&["query", "sales", "--by", "week"][..], "by"),
        (&["query", "sales", "--from", "yesterday"], "from"),
        (&["query", "stock", "--store", "x"], "store"),
    ] {
        let output = run(&[args, &["--data", data]].concat());
        assert_eq!(code(&output), 2, "{}", errors(&output));
        assert!(errors(&output).contains(name), "{}", errors(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    for command in [
        &["query", "stores"][..],
        &["rebuild"],
        &["doctor"],
        &["inspect", "journal"],
    ] {
        let output = run(&[command, &["--data", "/no/such/folder"]].concat());
        assert_eq!(code(&output), 1, "{command:?}: {}", errors(&output));
        assert!(
            errors(&output).contains("/no/such/folder"),
            "{}",
            errors(&output)
        );
    }
}

#[test]
fn a_configuration_error_names_the_key() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("tillstream.toml");
    let data = dir.path().to_str().unwrap();
    let path = file.to_str().unwrap();
    let check = |text: &str, more: &[&str]| {
        fs::write(&file, text).unwrap();
        run(&[
            &["check-config", "--dev", "--config", path, "--data", data],
            more,
        ]
        .concat())
    };
    let output = check("", &[]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    for (text, more, key) in [
        (
            "[journal]\ndurabilty = \"disk\"\n",
            &[][..],
            "journal.durability",
        ),
        ("[engine]\nshards = 0\n", &[], "engine.shards"),
        (
            "[registry]\ntime_zone = \"Mars/Olympus\"\n",
            &[],
            "registry.time_zone",
        ),
        ("", &["--currency", "XYW"], "registry.currency"),
    ] {
        let output = check(text, more);
        assert_eq!(code(&output), 1, "{text}: {}", errors(&output));
        assert!(errors(&output).contains(key), "{text}: {}", errors(&output));
    }
}

#[test]
fn the_sample_configuration_checks_out() {
    let sample = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/config/tillstream.toml"
    );
    let output = run(&["check-config", "--dev", "--config", sample]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    let text = fs::read_to_string(sample).unwrap();
    assert!(text.contains("--dev"), "it says what it needs");
}

#[test]
fn metrics_are_piped_with_their_whole_meaning() {
    let json = one_line(&run(&["metrics", "list", "--json"]));
    let text = String::from_utf8(run(&["metrics", "list"]).stdout).unwrap();
    for row in json["rows"].as_array().unwrap() {
        let meaning = row["meaning"].as_str().unwrap();
        assert!(text.contains(meaning), "{meaning}");
    }
}

#[test]
fn metrics_are_listed_with_their_meaning() {
    let output = run(&["metrics", "list", "--json"]);
    assert_eq!(code(&output), 0);
    let rows = one_line(&output)["rows"].clone();
    assert!(rows.as_array().unwrap().len() > 20);
    for row in rows.as_array().unwrap() {
        assert!(row["meaning"].as_str().unwrap().len() > 10, "{row}");
    }
}

#[test]
fn a_cluster_that_is_named_wrongly_is_a_usage_error() {
    let right = ["--scylla", "127.0.0.1:9042", "--keyspace", "till"];
    for (args, name) in [
        (
            &["--scylla", "127.0.0.1", "--keyspace", "till"][..],
            "127.0.0.1",
        ),
        (
            &["--scylla", "127.0.0.1:9042", "--keyspace", "Till"],
            "Till",
        ),
        (&["--keyspace", "till"], "--scylla"),
        (
            &[&right[..], &["--user", "alice"]].concat()[..],
            "--password-file",
        ),
    ] {
        let output = run(&[&["schema", "status"], args].concat());
        assert_eq!(code(&output), 2, "{}", errors(&output));
        assert!(errors(&output).contains(name), "{}", errors(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_cluster_that_does_not_answer_is_an_error_that_names_every_address() {
    // Nobody listens at ports this low.
    let (one, two) = ("127.0.0.1:1", "127.0.0.1:2");
    let both = format!("{one},{two}");
    let output = run(&["schema", "apply", "--scylla", &both, "--keyspace", "till"]);
    assert_eq!(code(&output), 1, "{}", errors(&output));
    for address in [one, two] {
        assert!(errors(&output).contains(address), "{}", errors(&output));
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn a_number_of_slots_that_cannot_be_is_told_with_the_one_range_that_there_is() {
    let place = ["--scylla", "127.0.0.1:1", "--keyspace", "till"];
    for slots in ["0", "4097", "5000", "-1", "many"] {
        let constraint = format!("--slots={slots}");
        let output = run(&[&["schema", "apply", &constraint], &place[..]].concat());
        let words = errors(&output);
        assert_eq!(code(&output), 2, "{slots}: {words}");
        assert!(
            words.contains("must be a number from 1 to 4096"),
            "{slots}: {words}"
        );
    }
    // Nobody listens there: the number was taken.
    let output = run(&[&["schema", "apply", "--slots=4096"], &place[..]].concat());
    assert_eq!(code(&output), 1, "{}", errors(&output));
}
