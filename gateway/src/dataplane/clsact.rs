//! The exit of an interface on kernels without tcx: a classifier of its `clsact` queueing discipline, by rtnetlink
//! (`net/sched/cls_bpf.c`).
//!
//! It stays with the interface, whoever made it: no pin keeps it, and none is needed. A directory among the pins of links says
//! that there is one. The discipline itself stays when the classifier goes: others may use it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use gateway_common::layout;
use nix::sys::socket::{MsgFlags, recv, send};

use super::netlink::{self, MESSAGE_HEADER, attributes, number};

/// Bytes of `struct tcmsg` (include/uapi/linux/rtnetlink.h).
const TRAFFIC_HEADER: usize = 20;
// include/uapi/linux/pkt_sched.h: the discipline, its place, its exit.
const CLSACT: u32 = 0xffff_fff1;
const DISCIPLINE: u32 = 0xffff_0000;
const EXIT: u32 = 0xffff_fff3;
/// First of all classifiers, for frames of every protocol (`ETH_P_ALL`, in network byte order in the low half): one
/// before it could end the chain.
const FIRST_OF_ALL: u32 = 1 << 16 | 0x0300;
/// What tells our classifier from others of the same rank: `CG` and a one.
const HANDLE: u32 = 0x4347_0001;
// include/uapi/linux/rtnetlink.h and include/uapi/linux/pkt_cls.h
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAGS_GEN: u16 = 9;
const TCA_BPF_ID: u16 = 11;
/// What the program returns is what becomes of the frame.
const DIRECT_ACTION: u32 = 1;
/// Never by a network card.
const SKIP_HARDWARE: u32 = 1;

/// Number of the program that our classifier on an interface of this thread's network namespace runs; `None` where
/// there is none of ours, or no such interface.
pub(super) fn program(ifindex: u32) -> io::Result<Option<u32>> {
    Ok(classifier(ifindex)?.filter(|found| found.ours).map(|found| found.program))
}

/// Makes the exit of an interface run `program`: in one step in place of an earlier one. Fails where somebody else's
/// classifier has our handle.
pub(super) fn attach(ifindex: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    if classifier(ifindex)?.is_some_and(|found| !found.ours) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let made = call(
        Request::new(libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
            .traffic(ifindex, DISCIPLINE, CLSACT, 0)
            .attribute(TCA_KIND, b"clsact\0"),
    );
    match made {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    let fd: RawFd = program.as_raw_fd();
    let options = [
        attribute(TCA_BPF_FD, &fd.to_ne_bytes()),
        attribute(TCA_BPF_NAME, &name()),
        attribute(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes()),
        attribute(TCA_BPF_FLAGS_GEN, &SKIP_HARDWARE.to_ne_bytes()),
    ];
    call(
        Request::new(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE)
            .traffic(ifindex, HANDLE, EXIT, FIRST_OF_ALL)
            .attribute(TCA_KIND, b"bpf\0")
            .attribute(TCA_OPTIONS, &options.concat()),
    )
    .map(drop)
}

/// Takes our classifier off an interface; that there is none, or no such interface, is no error.
pub(super) fn detach(ifindex: u32) -> io::Result<()> {
    if program(ifindex)?.is_none() {
        return Ok(());
    }
    call(
        Request::new(libc::RTM_DELTFILTER, 0)
            .traffic(ifindex, HANDLE, EXIT, FIRST_OF_ALL)
            .attribute(TCA_KIND, b"bpf\0"),
    )
    .map(drop)
}

/// The request for a list of all classifiers of an interface below this parent.
pub(super) fn dump(ifindex: u32, parent: u32) -> Vec<u8> {
    Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP).traffic(ifindex, 0, parent, 0).sized()
}

/// What a classifier of such a list is called: a program by its name, another by its kind. None for the heading that the
/// kernel puts before those of one rank.
pub(super) fn called(message: &[u8]) -> Option<String> {
    let handle = number(message.get(MESSAGE_HEADER + 8..)?)?;
    let body = message.get(MESSAGE_HEADER + TRAFFIC_HEADER..).filter(|_| handle != 0)?;
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let name = find(body, TCA_OPTIONS).and_then(|options| find(options, TCA_BPF_NAME));
    let text = name.or_else(|| find(body, TCA_KIND))?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// A classifier with our handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Classifier {
    program: u32,
    ours: bool,
}

fn classifier(ifindex: u32) -> io::Result<Option<Classifier>> {
    let answer = call(
        Request::new(libc::RTM_GETTFILTER, 0)
            .traffic(ifindex, HANDLE, EXIT, FIRST_OF_ALL)
            .attribute(TCA_KIND, b"bpf\0"),
    );
    match answer {
        Ok(message) => parse(&message).map(Some),
        // No classifier, no discipline, no interface.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn parse(message: &[u8]) -> io::Result<Classifier> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let body = message.get(MESSAGE_HEADER + TRAFFIC_HEADER..).ok_or_else(bad)?;
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let options = find(body, TCA_OPTIONS).ok_or_else(bad)?;
    let program = find(options, TCA_BPF_ID).and_then(number).ok_or_else(bad)?;
    Ok(Classifier { program, ours: find(options, TCA_BPF_NAME) == Some(name().as_slice()) })
}

/// The program's name as the classifier bears it.
fn name() -> Vec<u8> {
    [layout::PROGRAM_EGRESS.as_bytes(), b"\0"].concat()
}

/// A message to the kernel.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags).expect("flags of 16 bits");
        let mut bytes = vec![0; 4]; // length
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]); // sequence number, port
        Self(bytes)
    }

    fn traffic(mut self, ifindex: u32, handle: u32, parent: u32, info: u32) -> Self {
        self.0.extend([0; 4]); // family, padding
        for word in [ifindex, handle, parent, info] {
            self.0.extend(word.to_ne_bytes());
        }
        self
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(attribute(kind, value));
        self
    }

    /// The whole message, with its length.
    fn sized(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("requests of ours are short");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).expect("attributes of ours are short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends a request; returns the first message of the answer that is not the acknowledgement, or nothing.
fn call(request: Request) -> io::Result<Vec<u8>> {
    let socket = netlink::open()?;
    send(socket.as_raw_fd(), &request.sized(), MsgFlags::empty())?;
    let mut answer = vec![0; 1 << 14];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(4..6).ok_or_else(bad)?;
    if i32::from(u16::from_ne_bytes([kind[0], kind[1]])) != libc::NLMSG_ERROR {
        return Ok(answer);
    }
    let code = answer.get(MESSAGE_HEADER..).and_then(number).ok_or_else(bad)?.cast_signed();
    if code == 0 { Ok(Vec::new()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn answer(name: &[u8]) -> Vec<u8> {
        let options = [attribute(TCA_BPF_NAME, name), attribute(TCA_BPF_ID, &77_u32.to_ne_bytes())].concat();
        let request = Request::new(libc::RTM_NEWTFILTER, 0).traffic(5, HANDLE, EXIT, FIRST_OF_ALL);
        request.attribute(TCA_KIND, b"bpf\0").attribute(TCA_OPTIONS, &options).0
    }

    #[test]
    fn our_classifier_is_told_from_another_with_its_handle() {
        assert_eq!(parse(&answer(b"clinigate_out\0")).unwrap(), Classifier { program: 77, ours: true });
        assert_eq!(parse(&answer(b"other\0")).unwrap(), Classifier { program: 77, ours: false });
    }

    /// The package says how to take it off once the program is gone.
    #[test]
    fn the_package_knows_where_our_classifier_is() {
        let (rank, protocol) = (FIRST_OF_ALL >> 16, u16::from_be((FIRST_OF_ALL & 0xffff) as u16));
        assert_eq!(i32::from(protocol), libc::ETH_P_ALL);
        let words = format!("egress protocol all pref {rank} handle {HANDLE:#x} bpf/");
        assert!(include_str!("../../../deploy/debian/prerm").contains(&words), "{words}");
    }

    #[test]
    fn classifiers_are_called_by_their_program_or_kind() {
        assert_eq!(called(&answer(b"theirs\0")).as_deref(), Some("theirs"));
        let flower = |handle| Request::new(libc::RTM_NEWTFILTER, 0).traffic(5, handle, EXIT, 0);
        assert_eq!(called(&flower(1).attribute(TCA_KIND, b"flower\0").0).as_deref(), Some("flower"));
        assert_eq!(called(&flower(0).attribute(TCA_KIND, b"flower\0").0), None, "a heading");
        let whole = answer(b"theirs\0");
        for length in 0..whole.len() {
            let _ = called(&whole[..length]);
        }
    }

    #[test]
    fn short_and_senseless_answers_do_no_harm() {
        let whole = answer(b"clinigate_out\0");
        for length in 0..whole.len() {
            let _ = parse(&whole[..length]);
        }
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn requests_have_the_kernel_s_form() {
        let request = Request::new(libc::RTM_DELTFILTER, 0).traffic(5, HANDLE, EXIT, FIRST_OF_ALL);
        assert_eq!(request.0.len(), MESSAGE_HEADER + TRAFFIC_HEADER);
        assert_eq!(request.0[20..24], 5_u32.to_ne_bytes());
        assert_eq!(attribute(TCA_KIND, b"bpf\0").len(), 8);
        assert_eq!(attribute(TCA_KIND, b"clsact\0").len(), 12);
    }
}
