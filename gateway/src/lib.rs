//! Clinigate: a hospital's segmentation policy, compiled into XDP programs on a router's NICs.
//!
//! The way of the data: [`policy`] (text to resolved model), [`compile`] (model to tables),
//! [`dataplane`] (tables into the kernel), `telemetry` (counters and events out of it).
//! [`replay`] runs captures through a trial of the dataplane. [`cli`] is what the binary calls.

pub mod assure;
pub mod audit;
pub mod cli;
pub mod compile;
pub mod daemon;
pub mod dataplane;
pub mod duration;
pub mod export;
mod git;
pub mod oracle;
pub mod orders;
pub mod packet;
pub mod policy;
pub mod replay;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
