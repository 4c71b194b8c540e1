//! A policy that comes from a repository, with real git, real signatures, and the service in its hospital.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the counts are meant to be read")]

mod commits;
mod confirm;
mod means;
mod trouble;
mod ward;
