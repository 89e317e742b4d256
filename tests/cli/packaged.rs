//! What is shipped to watch over barkeep speaks of metrics that there are.

use std::collections::BTreeSet;

use barkeep::status::metrics::{self, METRICS};
use serde_json::Value;

use crate::documents::{compare, read};

/// The names of metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("barkeep_"));
    names.map(str::to_owned).collect()
}

fn known() -> BTreeSet<String> {
    METRICS.iter().map(metrics::Metric::full_name).collect()
}

#[test]
fn the_page_of_metrics_is_what_is_served() {
    compare("docs/metrics.md", &metrics::reference());
}

#[test]
fn names_tell_units_and_kinds() {
    let mut seen = BTreeSet::new();
    for metric in &METRICS {
        let name = metric.name;
        assert!(seen.insert(name), "{name} is there twice");
        assert!(name.starts_with("barkeep_"), "{name}");
        assert!(!name.ends_with("_total"), "{name}: the format adds that");
        let time = name.contains("timestamp");
        assert_eq!(time, name.ends_with("_timestamp_seconds"), "{name}");
        assert!(!metric.help.ends_with('.'), "{name}: {}", metric.help);
    }
}

#[test]
fn alert_rules_are_about_metrics_that_there_are() {
    let text = read("packaging/prometheus/barkeep.rules.yml");
    let mut alerts = 0;
    for line in text.lines().map(str::trim) {
        if line.starts_with("- alert: ") {
            alerts += 1;
        }
        if let Some(expression) = line.strip_prefix("expr: ") {
            let named = named(expression);
            assert!(
                !named.is_empty() || expression.starts_with("up{"),
                "{expression}"
            );
            assert!(named.is_subset(&known()), "{expression}");
        }
    }
    for key in [
        "expr: ",
        "for: ",
        "labels: ",
        "annotations:",
        "summary: ",
        "description: ",
    ] {
        let count = text
            .lines()
            .filter(|line| line.trim().starts_with(key))
            .count();
        assert_eq!(count, alerts, "every alert has its `{key}`");
    }
}

#[test]
fn the_dashboard_is_about_metrics_that_there_are() {
    let board: Value = serde_json::from_str(&read("packaging/grafana/barkeep.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: an id twice");
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            let named = named(expression);
            assert!(
                !named.is_empty() && named.is_subset(&known()),
                "{title}: {expression}"
            );
        }
    }
    for variable in board["templating"]["list"].as_array().expect("variables") {
        let query = variable["query"].as_str().expect("a query");
        assert!(named(query).is_subset(&known()), "{query}");
    }
}
