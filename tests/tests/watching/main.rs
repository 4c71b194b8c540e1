//! What comes with the project for those who watch: rules, alerts and dashboards, on a real Prometheus that
//! scrapes a gateway; and the log of blocked flows as a file.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dashboards;
mod event_log;
mod prometheus;
mod rules;
