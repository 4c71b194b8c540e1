//! A hospital in network namespaces, and what talks through it.
//!
//! Nothing here touches the machine's own interfaces: every packet starts and ends in a
//! namespace that a [`run::Run`] made and removes again.

pub mod dicom;
pub mod frames;
pub mod grafana;
pub mod hospital;
pub mod metrics;
pub mod namespace;
pub mod peers;
pub mod policy;
pub mod prometheus;
pub mod proxy;
pub mod repository;
pub mod run;
pub mod service;
pub mod slowness;
pub mod switch;
pub mod traffic;
pub mod tun;
