use super::*;

fn variables(dialect: Dialect, version: &str) -> Variables {
    Variables {
        keyspace: Keyspace::new("till").unwrap(),
        datacenter: "datacenter1".to_owned(),
        replication: 3,
        server: Server {
            dialect,
            version: version.to_owned(),
        },
    }
}

fn rendered(variables: &Variables) -> String {
    shown(&statements(0, variables))
}

// What leads from the version before to this one.
fn one(version: i32, variables: &Variables) -> String {
    let (since, later) = (
        statements(version - 1, variables),
        statements(version, variables),
    );
    shown(&since[..since.len() - later.len()])
}

fn shown(statements: &[String]) -> String {
    statements
        .iter()
        .map(|statement| format!("{statement};\n\n"))
        .collect()
}

#[test]
fn what_each_server_is_told_is_frozen() {
    let scylla = variables(Dialect::Scylla, "2025.4.1");
    let cassandra = variables(Dialect::Cassandra, "5.0.8");
    for (version, variables, golden) in [
        (4, &scylla, include_str!("../golden/v4.scylla.cql")),
        (4, &cassandra, include_str!("../golden/v4.cassandra.cql")),
        (5, &scylla, include_str!("../golden/v5.scylla.cql")),
        (5, &cassandra, include_str!("../golden/v5.cassandra.cql")),
    ] {
        assert_eq!(one(version, variables), golden);
    }
}

#[test]
fn no_variable_is_left_and_a_quote_cannot_end_a_text() {
    let mut variables = variables(Dialect::Scylla, "2025.1.0");
    "o'hare".clone_into(&mut variables.datacenter);
    let text = rendered(&variables);
    assert!(!text.contains("${"), "{text}");
    assert!(text.contains("'o''hare': 3}"), "{text}");
    assert!(text.contains("tablets = {'enabled': false}"), "{text}");
}

#[test]
fn nothing_is_to_be_done_from_the_newest_version() {
    let variables = variables(Dialect::Cassandra, "5.0.8");
    assert_eq!(statements(super::super::VERSION, &variables), [""; 0]);
    let newest = MIGRATIONS.last().map(|(version, _)| *version);
    assert_eq!(newest, Some(super::super::VERSION));
    assert!(MIGRATIONS.is_sorted_by_key(|(version, _)| *version));
}

#[test]
fn a_migration_makes_its_keyspace_and_version_table_first_and_can_be_repeated() {
    let all = statements(0, &variables(Dialect::Cassandra, "5.0.8"));
    assert!(all[0].starts_with("CREATE KEYSPACE IF NOT EXISTS \"till\""));
    assert!(all[1].starts_with("CREATE TABLE IF NOT EXISTS \"till\".schema_version"));
    for statement in &all {
        let sets = statement.starts_with("ALTER TABLE ") && statement.contains(" WITH ");
        assert!(sets || statement.contains(" IF NOT EXISTS "), "{statement}");
    }
}

#[test]
fn every_table_is_read_with_its_columns_and_key() {
    let tables = tables();
    let all = statements(0, &variables(Dialect::Scylla, "2025.4.1"));
    let made = |statement: &&String| statement.starts_with("CREATE TABLE ");
    assert_eq!(tables.len(), all.iter().filter(made).count());
    for table in &tables {
        let key = table.key.trim_matches(|c| c == '(' || c == ')');
        for part in key.split([',', '(', ')']).map(str::trim) {
            let known = part.is_empty() || table.columns.iter().any(|column| column.name == part);
            assert!(known, "{}: no column {part}", table.name);
        }
        assert!(!key.is_empty(), "{}", table.name);
    }
    let runs = tables.iter().find(|table| table.name == "run_index");
    let runs = runs.unwrap();
    assert_eq!(runs.key, "((terminal, epoch, bucket), first_seq, position)");
    assert_eq!(runs.columns[1].kind, "int");
}
