//! Counters and events out of the kernel: to Prometheus, and to the log.
//!
//! Everything here works on plain values; who reads them from the kernel, and when, is the
//! daemon's business.

pub mod events;
pub mod logging;
pub mod metrics;
pub mod reading;
