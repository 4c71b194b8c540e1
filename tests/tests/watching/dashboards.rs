//! The dashboards as text: what they ask Prometheus.

use std::collections::BTreeSet;
use std::fs;

use clinigate_tests::prometheus::deploy;
use serde_json::Value;

/// A query of a dashboard.
pub(crate) struct Query {
    /// Dashboard and panel.
    pub(crate) place: String,
    /// As it stands there, with variables.
    pub(crate) text: String,
}

/// Every query of every panel.
pub(crate) fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for (name, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            let place = format!("{name}: {}", panel["title"].as_str().unwrap());
            for target in panel["targets"].as_array().unwrap() {
                let text = target["expr"].as_str().unwrap().to_owned();
                queries.push(Query { place: place.clone(), text });
            }
        }
    }
    queries
}

/// What each variable offers, as a query and the label that it takes: `label_values(METRIC, LABEL)`.
pub(crate) fn variables() -> BTreeSet<(String, String)> {
    let mut variables = BTreeSet::new();
    for (_, dashboard) in dashboards() {
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inner = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
            let (metric, label) = inner.rsplit_once(", ").unwrap();
            variables.insert((metric.to_owned(), label.to_owned()));
        }
    }
    variables
}

fn dashboards() -> Vec<(String, Value)> {
    let directory = deploy().join("grafana/dashboards");
    let mut dashboards: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect();
    dashboards.sort_by(|(one, _), (other, _)| one.cmp(other));
    dashboards
}

/// What Grafana needs to take them: identifiers of their own, panels that do not overlap, known variables.
#[test]
fn dashboards_are_whole() {
    let dashboards = dashboards();
    assert!(dashboards.len() >= 4);
    let mut identifiers = BTreeSet::new();
    for (name, dashboard) in &dashboards {
        assert!(
            identifiers.insert(dashboard["uid"].as_str().unwrap().to_owned()),
            "{name}: its uid is taken"
        );
        let variables: BTreeSet<&str> = dashboard["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{name}: {title} is too wide");
            for (x, y) in
                (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                assert!(taken.insert((x, y)), "{name}: {title} covers another panel");
            }
            for target in panel["targets"].as_array().unwrap() {
                for word in target["expr"].as_str().unwrap().split('$').skip(1) {
                    let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
                    let known = variables.contains(&word[..end]) || word[..end].starts_with("__");
                    assert!(known, "{name}: {title} asks for the variable {}", &word[..end]);
                }
            }
        }
    }
    for provisioned in ["dashboards", "datasources"] {
        let path = deploy().join("grafana/provisioning").join(provisioned).join("clinigate.yml");
        assert!(fs::read_to_string(path).unwrap().contains("apiVersion: 1"));
    }
}
