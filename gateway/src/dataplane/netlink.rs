//! The words of rtnetlink: requests, lists of many messages, and the XDP program that an interface carries.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// How an XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// By the driver.
    Native,
    /// By the stack, for any driver: slow.
    Generic,
    /// On the NIC, or in several modes at once: never by us.
    Other,
}

impl AttachedMode {
    /// The mode's name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Other => "other",
        }
    }
}

/// The XDP program of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttachedXdp {
    pub(super) mode: AttachedMode,
    /// Program's number.
    pub(super) program: u32,
}

// include/uapi/linux/if_link.h
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_DRV: u8 = 1;
const XDP_ATTACHED_SKB: u8 = 2;
/// Low bits of an attribute's type (include/uapi/linux/netlink.h, `NLA_TYPE_MASK`).
const TYPE_MASK: u16 = 0x3fff;
pub(super) const MESSAGE_HEADER: usize = 16;
pub(super) const LINK_HEADER: usize = 16;

/// The XDP program that interface `ifindex` of this thread's network namespace carries.
pub(super) fn attached_xdp(ifindex: u32) -> io::Result<Option<AttachedXdp>> {
    let socket = open()?;
    let mut request = Vec::with_capacity(MESSAGE_HEADER + LINK_HEADER);
    let length = u32::try_from(MESSAGE_HEADER + LINK_HEADER).expect("small");
    request.extend(length.to_ne_bytes());
    request.extend(libc::RTM_GETLINK.to_ne_bytes());
    request.extend(u16::try_from(libc::NLM_F_REQUEST).expect("a flag of 16 bits").to_ne_bytes());
    request.extend([0; 8]); // sequence number, port
    request.extend([0; 4]); // family, padding, device type
    request.extend(ifindex.to_ne_bytes());
    request.extend([0; 8]); // flags, change mask
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;

    let mut answer = vec![0; 1 << 16];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    parse_link(&answer[..length])
}

/// A socket that speaks rtnetlink.
pub(super) fn open() -> io::Result<OwnedFd> {
    let kind = SockType::Raw;
    Ok(socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?)
}

/// Asks for all of a kind (`RTM_GET*`), whose own header has so many bytes, and shows the body of each message to `visit`.
pub(super) fn list(kind: u16, header: usize, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
    let mut request = Vec::with_capacity(MESSAGE_HEADER + header);
    let length = u32::try_from(MESSAGE_HEADER + header).map_err(io::Error::other)?;
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).map_err(io::Error::other)?;
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]); // sequence number, port
    request.resize(MESSAGE_HEADER + header, 0); // of any family, on any device
    dump(&request, |message| visit(&message[MESSAGE_HEADER..]))
}

/// Asks for a list and shows each of its messages, header included, to `visit`.
pub(super) fn dump(request: &[u8], mut visit: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = open()?;
    send(socket.as_raw_fd(), request, MsgFlags::empty())?;
    let mut answer = vec![0; 1 << 16];
    loop {
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        if messages(&answer[..length], &mut visit)? {
            return Ok(());
        }
    }
}

/// Shows the messages of one datagram; whether it was the last of its list.
pub(super) fn messages(mut bytes: &[u8], visit: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    while !bytes.is_empty() {
        let length = number(bytes).and_then(|length| usize::try_from(length).ok()).ok_or_else(bad)?;
        let message = bytes.get(..length).filter(|_| length >= MESSAGE_HEADER).ok_or_else(bad)?;
        let kind = i32::from(u16::from_ne_bytes([message[4], message[5]]));
        if kind == libc::NLMSG_DONE {
            return Ok(true);
        }
        if kind == libc::NLMSG_ERROR {
            let code = message.get(MESSAGE_HEADER..).and_then(number).ok_or_else(bad)?;
            return Err(io::Error::from_raw_os_error(code.cast_signed().saturating_neg()));
        }
        visit(message);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn parse_link(message: &[u8]) -> io::Result<Option<AttachedXdp>> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let kind =
        message.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(bad)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let code = message.get(MESSAGE_HEADER..).and_then(number).ok_or_else(bad)?;
        return Err(io::Error::from_raw_os_error(code.cast_signed().saturating_neg()));
    }
    let body = message.get(MESSAGE_HEADER + LINK_HEADER..).ok_or_else(bad)?;
    let Some((_, xdp)) = attributes(body).find(|(kind, _)| *kind == IFLA_XDP) else { return Ok(None) };
    let find = |wanted| attributes(xdp).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let mode = match find(IFLA_XDP_ATTACHED).and_then(|value| value.first()) {
        None | Some(0) => return Ok(None),
        Some(&XDP_ATTACHED_DRV) => AttachedMode::Native,
        Some(&XDP_ATTACHED_SKB) => AttachedMode::Generic,
        Some(_) => AttachedMode::Other,
    };
    let program = find(IFLA_XDP_PROG_ID).and_then(number).unwrap_or(0);
    Ok(Some(AttachedXdp { mode, program }))
}

/// The number that stands at the beginning.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The attributes of a run of them: type and value.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(attributes: &[u8]) -> Vec<u8> {
        let mut message = vec![0; MESSAGE_HEADER + LINK_HEADER];
        message[4..6].copy_from_slice(&16_u16.to_ne_bytes());
        message.extend(attributes);
        message
    }

    #[test]
    fn mode_and_program_are_read_from_the_nested_attribute() {
        let nested =
            [attribute(IFLA_XDP_ATTACHED, &[2]), attribute(IFLA_XDP_PROG_ID, &77_u32.to_ne_bytes())].concat();
        let message = link(&[attribute(3, b"eth0\0"), attribute(IFLA_XDP | 0x8000, &nested)].concat());
        let expected = AttachedXdp { mode: AttachedMode::Generic, program: 77 };
        assert_eq!(parse_link(&message).unwrap(), Some(expected));
    }

    #[test]
    fn a_list_ends_where_it_says_so() {
        let message = |kind: i32, body: &[u8]| {
            let mut bytes = u32::try_from(MESSAGE_HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
            bytes.extend(u16::try_from(kind).unwrap().to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            bytes
        };
        let mut seen = Vec::new();
        let mut visit = |message: &[u8]| seen.push(message.to_vec());
        let listed = [message(16, &[1; 4]), message(16, &[2; 8])];
        assert!(!messages(&listed.concat(), &mut visit).unwrap());
        let last = message(libc::NLMSG_DONE, &[0; 4]);
        assert!(messages(&last, &mut visit).unwrap(), "the end of the list");
        assert!(!messages(&[], &mut visit).unwrap());
        for length in 1..last.len() {
            assert!(messages(&last[..length], &mut visit).is_err());
        }
        assert!(messages(&[0; 16], &mut visit).is_err());
        let refused = messages(&message(libc::NLMSG_ERROR, &(-1_i32).to_ne_bytes()), &mut visit);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(1));
        assert_eq!(seen, listed);
    }

    #[test]
    fn short_and_senseless_answers_do_no_harm() {
        let whole = link(&attribute(IFLA_XDP, &attribute(IFLA_XDP_ATTACHED, &[1])));
        for length in 0..whole.len() {
            let _ = parse_link(&whole[..length]);
        }
        assert!(parse_link(&link(&[0, 0, 0, 0])).unwrap().is_none());
    }
}
