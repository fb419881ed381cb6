use till_scylla::schema::{self, SchemaRequest};

use crate::world::World;

#[test]
fn every_query_of_the_page_runs() {
    let world = World::new("document");
    schema::apply(
        &world.cql,
        SchemaRequest {
            replication: Some(1),
            slots: Some(2),
        },
    )
    .unwrap();
    let page = include_str!("../../../storage/scylla/SCHEMA.md");
    let queries: Vec<&str> = page
        .split("```cql\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(queries.len() >= 20, "the page has lost its queries");
    let from = format!("FROM {}.", world.keyspace());
    for query in queries {
        let query = query.trim().trim_end_matches(';');
        world.run(&query.replacen("FROM ", &from, 1));
    }
}
