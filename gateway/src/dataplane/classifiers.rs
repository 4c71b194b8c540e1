//! What others and we have on the way of frames beside XDP: programs at the entry and at the exit of an interface, by
//! tcx and by classifiers, in the words of those who put them there. Nothing is changed.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::socket::{MsgFlags, recv, send};

use super::clsact;
use super::netlink::{self, MESSAGE_HEADER, number};

/// Where frames meet programs beside XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// After XDP, before the stack.
    Entry,
    /// Behind the stack.
    Exit,
}

impl Way {
    const fn by_tcx(self) -> TcAttachType {
        match self {
            Self::Entry => TcAttachType::Ingress,
            Self::Exit => TcAttachType::Egress,
        }
    }

    // include/uapi/linux/pkt_sched.h: TC_H_CLSACT with TC_H_MIN_INGRESS, TC_H_MIN_EGRESS.
    const fn by_classifier(self) -> u32 {
        match self {
            Self::Entry => 0xffff_fff2,
            Self::Exit => 0xffff_fff3,
        }
    }
}

/// Names of all that an interface of this thread's network namespace has there: those of programs, of other classifiers
/// their kind (`flower`, `u32`). What cannot be asked for is left out.
pub(super) fn names(interface: &str, ifindex: u32, way: Way) -> Vec<String> {
    let programs = SchedClassifier::query_tcx(interface, way.by_tcx()).map(|(_, found)| found);
    let programs = programs.unwrap_or_default();
    let mut names: Vec<String> =
        programs.iter().map(|program| program.name_as_str().unwrap_or("without a name").to_owned()).collect();
    names.extend(classifiers(ifindex, way).unwrap_or_default());
    names
}

fn classifiers(ifindex: u32, way: Way) -> io::Result<BTreeSet<String>> {
    let socket = netlink::open()?;
    let request = clsact::dump(ifindex, way.by_classifier());
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut names = BTreeSet::new();
    let mut answer = vec![0; 1 << 16];
    loop {
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        if parse(&answer[..length], &mut names)? {
            return Ok(names);
        }
    }
}

/// Takes over what one datagram lists; whether it was the last.
fn parse(mut bytes: &[u8], names: &mut BTreeSet<String>) -> io::Result<bool> {
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
        names.extend(clsact::called(message));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn short_and_senseless_answers_do_no_harm() {
        let whole = [20_u32.to_ne_bytes().as_slice(), &libc::NLMSG_DONE.to_ne_bytes(), &[0; 12]].concat();
        let mut names = BTreeSet::new();
        assert!(parse(&whole, &mut names).unwrap());
        for length in 1..whole.len() {
            assert!(parse(&whole[..length], &mut names).is_err());
        }
        assert!(!parse(&[], &mut names).unwrap());
        assert!(names.is_empty());
    }
}
