//! What the XDP programs and the controller share: keys, values, verdicts, reasons and the
//! layout version. Every type here is `#[repr(C)]`, has no padding that is not named, and is
//! read by both sides as it stands in memory: change one and [`layout::VERSION`] goes up.
//!
//! Addresses and ports are kept in network byte order as they stand in the packet unless a
//! field says otherwise.
#![no_std]
#![allow(clippy::inline_always, reason = "the programs in the kernel must inline these")]

pub mod bench;
pub mod condition;
pub mod connection;
pub mod counter;
pub mod event;
pub mod forward;
pub mod fragment;
pub mod layout;
pub mod place;
pub mod reason;
pub mod table;
pub mod tunnel;
