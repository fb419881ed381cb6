use super::*;
use crate::engine::Engine;
use crate::tests::Still;

fn rendered() -> String {
    render(&Still::default().figures()).unwrap()
}

#[test]
fn every_metric_has_a_help_sentence_and_a_name_of_ours() {
    for metric in METRICS {
        let name = metric.name;
        assert!(
            name.starts_with("tillstream_") || name.starts_with("pos_"),
            "{name}"
        );
        assert!(
            name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()),
            "{name}"
        );
        assert!(metric.help.len() > 15, "{name}: {}", metric.help);
        assert!(!metric.help.ends_with('.'), "{name}: {}", metric.help);
        assert!(!name.ends_with("_total"), "{name}: counters get it anyway");
        for unit in ["_us", "_ms", "_kb", "_mb", "_minor"] {
            assert!(!name.ends_with(unit), "{name} is not in a base unit");
        }
    }
}

#[test]
fn names_are_given_once() {
    let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METRICS.len());
}

#[test]
fn labels_have_few_values_and_name_nobody() {
    for metric in METRICS {
        if let Some(label) = metric.label() {
            assert!(
                ["version", "outcome", "shard", "currency", "state", "engine"].contains(&label),
                "{}: {label}",
                metric.name
            );
        }
    }
}

#[test]
fn the_text_shows_every_metric_with_its_help_and_value() {
    let text = rendered();
    for metric in METRICS {
        assert!(
            text.contains(&format!("# HELP {} {}", metric.name, metric.help)),
            "{}:\n{text}",
            metric.name
        );
        assert!(
            text.contains(&format!("# TYPE {} {}", metric.name, metric.kind())),
            "{}",
            metric.name
        );
    }
    assert!(text.contains("tillstream_events_acked_total 7\n"), "{text}");
    assert!(
        text.contains("tillstream_events_total{outcome=\"applied\"} 6\n"),
        "{text}"
    );
    assert!(
        text.contains("pos_sales_net{currency=\"USD\"} 12.5\n"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_histogram_counts_every_frame() {
    let text = rendered();
    assert!(
        text.contains("tillstream_ack_seconds_bucket{le=\"0.001024\"} 2\n"),
        "{text}"
    );
    assert!(
        text.contains("tillstream_ack_seconds_bucket{le=\"+Inf\"} 3\n"),
        "{text}"
    );
    assert!(text.contains("tillstream_ack_seconds_count 3\n"), "{text}");
}

#[test]
fn the_histogram_has_the_same_buckets_before_the_first_frame() {
    let bounds = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix("tillstream_ack_seconds_bucket{le="))
            .filter_map(|line| Some(line.split_once('}')?.0.to_owned()))
            .collect()
    };
    let mut idle = Still::default().figures();
    idle.ack = AckFigures::default();
    let idle = bounds(&render(&idle).unwrap());
    assert_eq!(idle.len(), 22, "{idle:?}");
    assert_eq!(idle, bounds(&rendered()));
}

#[test]
fn a_shared_store_is_shown_by_its_slots_commits_and_engines() {
    let mut figures = Still::default().figures();
    figures.cluster = Some(ClusterFigures {
        slots: 16,
        slots_open: 7,
        slots_wanted: 8,
        slots_free: 1,
        commit: AckFigures {
            count: 3,
            sum_us: 30_000,
            buckets: vec![(16_384, 3)],
            ..AckFigures::default()
        },
        project: AckFigures {
            count: 2,
            sum_us: 20_000,
            buckets: vec![(16_384, 2)],
            ..AckFigures::default()
        },
        rows: AckFigures {
            count: 7,
            sum_us: 70_000,
            buckets: vec![(16_384, 7)],
            ..AckFigures::default()
        },
        handoffs_waiting: 2,
        stranded: 41,
        names_unwritten: 6,
        redirects: 5,
        engines: vec![EngineFigures {
            address: "10.0.0.1:7880".to_owned(),
            slots: 8,
            lag_us: 1_500_000,
            leaving: false,
        }],
        ..ClusterFigures::default()
    });
    let text = render(&figures).unwrap();
    for line in [
        "tillstream_slots{state=\"all\"} 16.0",
        "tillstream_slots{state=\"open\"} 7.0",
        "tillstream_slots{state=\"wanted\"} 8.0",
        "tillstream_slots{state=\"free\"} 1.0",
        "tillstream_commit_seconds_count 3",
        "tillstream_project_seconds_count 2",
        "tillstream_rows_wait_seconds_count 7",
        "tillstream_handoffs_waiting 2.0",
        "tillstream_stranded 41.0",
        "tillstream_names_unwritten 6.0",
        "tillstream_redirects_total 5",
        "tillstream_engine_lag_seconds{engine=\"10.0.0.1:7880\"} 1.5",
        "tillstream_engine_slots{engine=\"10.0.0.1:7880\"} 8.0",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}:\n{text}");
    }
}
