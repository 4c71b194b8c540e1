//! Text to resolved model. Pure: no kernel, no clock, no network.

pub mod catalogue;
pub mod diagnostic;
pub mod lints;
pub mod model;
pub mod ranges;
