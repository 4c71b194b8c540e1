//! Who is at the other end of the socket, and what that one may ask.

use nix::unistd::{Gid, Uid, User, getgrouplist};

/// What a peer may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    Full,
    /// What changes nothing.
    ReadOnly,
    /// Nothing.
    None,
}

/// Rights of a peer: root and the service's own user have all; members of `readers` may look.
pub(super) fn rights(uid: Uid, gid: Gid, service: Uid, readers: Option<Gid>) -> Rights {
    if uid.is_root() || uid == service {
        return Rights::Full;
    }
    match readers {
        Some(readers) if gid == readers || belongs_to(uid, gid, readers) => Rights::ReadOnly,
        _ => Rights::None,
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
        let readers = Gid::from_raw(4000);
        let other = Gid::from_raw(4001);
        let stranger = Uid::from_raw(65_123);
        let cases = [
            (Uid::from_raw(0), other, Some(readers), Rights::Full),
            (service, other, None, Rights::Full),
            (stranger, readers, Some(readers), Rights::ReadOnly),
            (stranger, readers, None, Rights::None),
            (stranger, other, Some(readers), Rights::None),
        ];
        for (uid, gid, group, expected) in cases {
            assert_eq!(rights(uid, gid, service, group), expected, "{uid} {gid} {group:?}");
        }
    }
}
