//! The running service: where policies come from, what is in force, and who may ask.

pub mod control;
pub mod http;
pub mod status;
