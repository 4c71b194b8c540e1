//! What was ordered at the gateway itself, over its policy: quarantine, grants, break-glass. Pure.
//!
//! Orders are kept apart from the policy, so that they survive it: [`lay()`] puts them onto whatever policy is in force,
//! and turns windows and terms into [`Condition`](crate::policy::model::Condition)s on the kernel's clock.

mod lay;
mod term;
mod window;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use lay::{Laid, lay};
pub use term::{Clock, Term};

/// All orders of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Number of the last one.
    pub last: u64,
    /// What is in quarantine.
    pub quarantines: Vec<Quarantine>,
    /// Open grants.
    pub grants: Vec<Grant>,
    /// Segments whose glass is broken, or was and has not been reviewed.
    pub break_glass: Vec<BreakGlass>,
}

/// Something in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Number.
    pub id: u64,
    /// What it is.
    pub target: Target,
    /// Its addresses, as far as they are known; a device that the policy names has those of the policy.
    pub addresses: Vec<IpAddr>,
    /// Why.
    pub reason: String,
    /// Who ordered it.
    pub by: String,
    /// For how long.
    pub term: Term,
}

/// IPv4 addresses that are isolated of one Ethernet address, at most: those of the segments of a hospital have fewer.
pub const V4_MOST: usize = 1024;
/// IPv6 addresses, likewise: a host may take a new one every second.
pub const V6_MOST: usize = 1024;

impl Quarantine {
    /// Isolates the addresses among `found` that it does not know yet: these, and the number of those for which there is no room.
    pub fn learn(&mut self, found: &[IpAddr]) -> (Vec<IpAddr>, usize) {
        let known = self.addresses.iter().filter(|address| address.is_ipv4()).count();
        let mut room = [V4_MOST.saturating_sub(known), V6_MOST.saturating_sub(self.addresses.len() - known)];
        let (mut new, mut rest) = (Vec::new(), 0);
        for address in found.iter().filter(|address| !self.addresses.contains(address)) {
            let room = &mut room[usize::from(address.is_ipv6())];
            if *room == 0 {
                rest += 1;
            } else {
                *room -= 1;
                new.push(*address);
            }
        }
        self.addresses.extend(&new);
        (new, rest)
    }
}

/// What a quarantine isolates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A device of the policy.
    Device(String),
    /// An address.
    Address(IpAddr),
    /// Whatever has this Ethernet address, in lower case with colons.
    Mac(String),
}

impl Target {
    /// What somebody means by a word: an address, an Ethernet address, else a device.
    pub fn read(word: &str) -> Self {
        if let Ok(address) = word.parse::<IpAddr>() {
            return Self::Address(address.to_canonical());
        }
        let mac = word.to_ascii_lowercase().replace('-', ":");
        let is_octet = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if mac.split(':').count() == 6 && mac.split(':').all(is_octet) {
            return Self::Mac(mac);
        }
        Self::Device(word.to_owned())
    }

    /// The word for it.
    pub fn word(&self) -> String {
        match self {
            Self::Device(name) => name.clone(),
            Self::Address(address) => address.to_string(),
            Self::Mac(mac) => mac.clone(),
        }
    }
}

/// A vendor's access to one device that somebody opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Number.
    pub id: u64,
    /// Vendor of the policy.
    pub vendor: String,
    /// Device of the policy.
    pub device: String,
    /// What it is for, in the words of another system.
    pub ticket: String,
    /// Who opened it.
    pub by: String,
    /// For how long.
    pub term: Term,
}

/// A segment that is opened for an emergency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakGlass {
    /// Number.
    pub id: u64,
    /// Segment of the policy.
    pub segment: String,
    /// Why.
    pub reason: String,
    /// Who broke it.
    pub by: String,
    /// For how long.
    pub term: Term,
    /// When somebody ended it, in milliseconds since 1970; absent where it ends by its term.
    pub ended: Option<u64>,
}

impl BreakGlass {
    /// Whether it lets packets through.
    pub fn is_open(&self, clock: &Clock) -> bool {
        self.ended.is_none() && !self.term.is_over(clock)
    }
}

impl Orders {
    /// Takes out what is over; says what that was. Broken glass stays until it has been reviewed.
    pub fn expire(&mut self, clock: &Clock) -> Vec<(&'static str, u64)> {
        let mut over = Vec::new();
        let mut keep = |what, id, term: &Term| {
            let is_over = term.is_over(clock);
            if is_over {
                over.push((what, id));
            }
            !is_over
        };
        self.quarantines.retain(|it| keep("quarantine", it.id, &it.term));
        self.grants.retain(|it| keep("grant", it.id, &it.term));
        for broken in &mut self.break_glass {
            if broken.ended.is_none() && !keep("break-glass", broken.id, &broken.term) {
                broken.ended = broken.term.until().or(Some(clock.unix));
            }
        }
        over
    }

    /// The number of a new one.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

#[cfg(test)]
mod tests;
