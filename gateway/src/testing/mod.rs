//! Random policies and packets for property tests, here and in the integration tests (feature
//! `testing`). Both lean towards the edges: of ranges, of address spaces, of port numbers. For
//! measurements: plausible hospitals of any size, the rule sets of `ClassBench`, and the programs of the benchmark.

pub mod changes;
pub mod classbench;
pub mod defects;
pub mod frames;
pub mod hospital;
pub mod packets;
pub mod policies;
pub mod script;
pub mod words;

/// The eBPF object of the benchmark: driver, baseline and floor.
#[cfg(feature = "testing")]
pub static BENCH_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/clinigate-bench.o"));
