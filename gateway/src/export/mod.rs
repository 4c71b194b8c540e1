//! A policy in other firewalls' words: [`nftables`].
//!
//! An independent reading of the resolved model: nothing here comes from `compile`, the oracle or
//! the datapath. Pure: no kernel, no clock, no network.

pub mod nftables;
