//! What a commit's message says to the gateway, in trailers (git-interpret-trailers(1)).
//!
//! `Clinigate-Allow: cut-connections, widen-zones` lets a guarded change through.
//! `Clinigate-Confirm-Within: 5m` has it go back by itself unless somebody confirms it.

use std::time::Duration;

use crate::duration;

/// What a guarded change may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// End connections that are running.
    pub cuts: bool,
    /// Open what crosses zones.
    pub widens: bool,
}

/// What trailers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    /// What the change may do.
    pub allowed: Allowed,
    /// Within which time it must be confirmed.
    pub confirm_within: Option<Duration>,
    /// Words that nothing is known about.
    pub unknown: Vec<String>,
}

/// Name of the trailer that lets a change through.
pub(super) const ALLOW: &str = "Clinigate-Allow";
/// Name of the trailer that asks for a confirmation.
pub(super) const CONFIRM: &str = "Clinigate-Confirm-Within";

impl Allowed {
    /// Both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { cuts: self.cuts || other.cuts, widens: self.widens || other.widens }
    }
}

impl Trailers {
    /// Takes in the values of one commit's trailers, one a line.
    pub(super) fn add(&mut self, allow: &str, confirm: &str) {
        for word in allow.split([',', '\n', ' ']).map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "cut-connections" => self.allowed.cuts = true,
                "widen-zones" => self.allowed.widens = true,
                other => self.unknown.push(super::plain(other, 40)),
            }
        }
        for word in confirm.lines().map(str::trim).filter(|word| !word.is_empty()) {
            match duration::parse(word) {
                // The shortest of several: who asks for care gets it.
                Ok(time) => self.confirm_within = Some(self.confirm_within.map_or(time, |it| it.min(time))),
                Err(_) => self.unknown.push(super::plain(word, 40)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_trailers() {
        let mut trailers = Trailers::default();
        trailers.add("cut-connections, widen-zones\n", "10m\n5m\n");
        assert_eq!(trailers.allowed, Allowed { cuts: true, widens: true });
        assert_eq!((trailers.confirm_within, trailers.unknown.len()), (Some(Duration::from_mins(5)), 0));
        let mut trailers = Trailers::default();
        trailers.add("cut-conections", "soon");
        assert_eq!(trailers.allowed, Allowed::default());
        assert_eq!(trailers.unknown, ["cut-conections", "soon"]);
    }
}
