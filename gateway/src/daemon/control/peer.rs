//! Who is at the other end of the socket, and what that one may ask.

use nix::unistd::{Gid, Uid, User, getgrouplist};

/// What a peer may ask; each may what the one before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// Nothing.
    None,
    /// What changes nothing.
    ReadOnly,
    /// Besides, quarantine, grants and break-glass.
    Operate,
    /// Everything.
    Full,
}

impl Rights {
    /// Who has them, in words.
    pub(super) fn of(self) -> &'static str {
        match self {
            Self::None => "anybody may",
            Self::ReadOnly => {
                "root and the groups of viewers and operators may (clinigate run --socket-group, --operator-group)"
            }
            Self::Operate => "root and the group of operators may (clinigate run --operator-group)",
            Self::Full => "only root may",
        }
    }
}

/// Groups whose members have rights without being root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// They may look.
    pub viewers: Option<Gid>,
    /// They may order quarantine, grants and break-glass.
    pub operators: Option<Gid>,
}

/// Who asks, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Process, where it is known.
    pub pid: Option<i32>,
    /// What it may ask.
    pub rights: Rights,
}

impl Peer {
    /// The user's name and number.
    pub fn name(&self) -> String {
        match User::from_uid(Uid::from_raw(self.uid)) {
            Ok(Some(user)) => format!("{} (uid {})", user.name, self.uid),
            _ => format!("uid {}", self.uid),
        }
    }
}

/// Rights of a peer: root and the service's own user have all; others those of their groups.
pub(super) fn rights(uid: Uid, gid: Gid, service: Uid, groups: Groups) -> Rights {
    if uid.is_root() || uid == service {
        return Rights::Full;
    }
    let is_in = |group: Option<Gid>| group.is_some_and(|group| gid == group || belongs_to(uid, gid, group));
    if is_in(groups.operators) {
        Rights::Operate
    } else if is_in(groups.viewers) {
        Rights::ReadOnly
    } else {
        Rights::None
    }
}

/// Whether the user database counts `uid` among the members of `group`.
fn belongs_to(uid: Uid, gid: Gid, group: Gid) -> bool {
    let Ok(Some(user)) = User::from_uid(uid) else { return false };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    getgrouplist(&name, gid).is_ok_and(|groups| groups.contains(&group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_follow_user_and_group() {
        let service = Uid::from_raw(900);
        let (viewers, operators) = (Gid::from_raw(4000), Gid::from_raw(4002));
        let other = Gid::from_raw(4001);
        let stranger = Uid::from_raw(65_123);
        let both = Groups { viewers: Some(viewers), operators: Some(operators) };
        let cases = [
            (Uid::from_raw(0), other, both, Rights::Full),
            (service, other, Groups::default(), Rights::Full),
            (stranger, viewers, both, Rights::ReadOnly),
            (stranger, operators, both, Rights::Operate),
            (stranger, viewers, Groups::default(), Rights::None),
            (stranger, operators, Groups { viewers: Some(viewers), operators: None }, Rights::None),
            (stranger, other, both, Rights::None),
        ];
        for (uid, gid, groups, expected) in cases {
            assert_eq!(rights(uid, gid, service, groups), expected, "{uid} {gid} {groups:?}");
        }
    }
}
