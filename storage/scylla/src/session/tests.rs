use std::net::TcpListener;

use till_storage::testing::RefusingAddr;

use super::*;

fn config(hosts: &[&str]) -> ScyllaConfig {
    ScyllaConfig::new(hosts.iter().copied(), "till").unwrap()
}

#[test]
fn when_no_node_answers_every_address_is_named_with_its_cause() {
    // One refuses, one takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (silent.local_addr().unwrap().to_string(), silent);
    let held = RefusingAddr::bind().unwrap();
    let refusing = held.addr().to_string();
    let error = Cql::connect(&config(&[&refusing, &silent.0])).unwrap_err();
    let CqlError::Unreachable(tried) = &error else {
        panic!("{error}");
    };
    let tried: Vec<&str> = tried.0.iter().map(|(host, _)| host.as_str()).collect();
    assert_eq!(tried, [refusing.as_str(), silent.0.as_str()]);
    let words = error.to_string();
    assert!(
        words.contains(&refusing) && words.contains(&silent.0),
        "{words}"
    );
    assert!(words.contains("refused"), "{words}");
}

#[test]
fn an_address_that_refuses_is_told_as_one_that_does() {
    let held = RefusingAddr::bind().unwrap();
    let error = Cql::connect(&config(&[&held.addr().to_string()])).unwrap_err();
    let CqlError::Unreachable(tried) = &error else {
        panic!("{error}");
    };
    // Nobody waits for an answer that cannot come.
    let cause = tried.0[0].1.to_string();
    assert!(cause.contains("refused"), "{cause}");
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn waits_on_any_thread_even_on_one_of_another_runtime() {
    let (own, other) = (runtime(), runtime());
    let answer = other.block_on(async {
        let waited = wait_on(&own, async { Ok::<_, CqlError>(42) });
        own.shutdown_background();
        waited
    });
    assert_eq!(answer.unwrap(), 42);
}

#[test]
fn a_future_that_panics_is_an_error_and_no_hang() {
    let own = runtime();
    let answer = wait_on(&own, async {
        if true {
            panic!("a test");
        }
        Ok::<(), CqlError>(())
    });
    assert!(matches!(answer, Err(CqlError::Stopped)), "{answer:?}");
}
