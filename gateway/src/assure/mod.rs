//! What a policy means, proven over every packet rather than tried on some. Pure.
//!
//! A compiled image has finitely many classes of addresses and services, and all packets of the same
//! classes are decided alike. [`space`] lists the addresses of an image by class, [`packets`] its
//! protocols and ports; [`reach`] asks the image's own tables about every combination, so an answer
//! is exact, and is about what the kernel will run. [`invariant`] and [`expectation`] hold claims
//! against it, [`explain`] says in words what it found; [`hops`] follows one connection after the other.
//! [`difference`] compares two policies, by their rules; [`cut`] says which running connections a change
//! would end.

pub mod cut;
pub mod difference;
pub mod expectation;
pub mod explain;
pub mod hops;
pub mod invariant;
mod naming;
pub mod packets;
pub mod reach;
pub mod space;

#[cfg(test)]
mod tests;
