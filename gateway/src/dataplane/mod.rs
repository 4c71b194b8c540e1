//! Tables into the kernel, and what the kernel says back: the only place that touches bpf(2),
//! netlink and the BPF filesystem.

mod connections;
mod counters;
mod error;
mod generation;
mod object;
mod pins;
mod shared;
mod sys;
mod tables;
pub mod trial;

pub use connections::{ConnectionSummary, LiveConnection};
pub use counters::{Counters, PairKey};
pub use error::DataplaneError;
