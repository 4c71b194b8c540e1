//! Frames that the kernel copies before programs see them: those of a veth, and in generic mode.
//!
//! Since Linux 6.7 the copy of a frame that is longer than a page takes pieces of odd lengths from pages that further
//! copies come from, too (`skb_pp_cow_data` in net/core/skbuff.c). Those may then begin at an odd address: veth, which
//! keeps a mark in the lowest bit of an address, does not find a frame that was sent on to it, and elsewhere a counter
//! that lies across two cache lines is changed in one step. Either makes the kernel panic.

use nix::sys::utsname::uname;

use super::attach::Target;
use super::error::DataplaneError;
use super::{XdpMode, offload};

/// The largest MTU whose frames, with two tags, are copied into one page.
pub(super) const LARGEST: u32 = 3498;
/// The first kernel that copies like this. None is known that does not do so any more.
const FIRST: [u32; 2] = [6, 7];

/// Refuses an interface whose frames would be copied in pieces.
pub(super) fn refuse(target: &Target, mode: XdpMode) -> Result<(), DataplaneError> {
    if !are_in_pieces(target.mtu, &target.names(), mode) {
        return Ok(());
    }
    Err(DataplaneError::Pieces { interface: target.name.clone(), mtu: target.mtu, largest: LARGEST })
}

/// Whether frames for this MTU would be, on an interface for which these devices receive.
pub(super) fn are_in_pieces(mtu: u32, names: &[String], mode: XdpMode) -> bool {
    let copied = || mode == XdpMode::Generic || names.iter().any(|name| is_veth(name));
    mtu > LARGEST && copied() && is_affected(&release())
}

fn is_veth(interface: &str) -> bool {
    offload::driver(interface).as_deref() == Some("veth")
}

fn release() -> String {
    uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// By what `uname -r` says: 6.12.107+deb13-amd64.
fn is_affected(release: &str) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    [next(), next()] >= FIRST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_by_their_release() {
        for release in ["6.7.0", "6.12.107+deb13-amd64", "7.1.8+deb14-amd64", "6.18.44-fc"] {
            assert!(is_affected(release), "{release}");
        }
        for release in ["6.1.0-50-cloud-amd64", "6.6.99", "5.15.0", ""] {
            assert!(!is_affected(release), "{release}");
        }
    }
}
