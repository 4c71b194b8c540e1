//! Resolved model to tables. Pure.
pub mod image;
