//! Random policies and packets for property tests, here and in the integration tests (feature
//! `testing`). Both lean towards the edges: of ranges, of address spaces, of port numbers.

pub mod frames;
pub mod packets;
pub mod policies;
pub mod script;
pub mod words;
