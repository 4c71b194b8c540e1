//! The dataplane against the kernel: generations, pins, links, counters.
//!
//! Needs root. Everything happens in network namespaces and BPF filesystems of the tests' own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bare;
mod change;
mod checkup;
mod clinic;
mod exits;
mod life;
mod place;
mod traffic;
mod trial;
