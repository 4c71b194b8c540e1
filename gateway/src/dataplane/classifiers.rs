//! What others and we have on the way of frames beside XDP: programs at the entry and at the exit of an interface, by
//! tcx and by classifiers, in the words of those who put them there. Nothing is changed.

use std::collections::BTreeSet;
use std::io;

use aya::programs::{SchedClassifier, TcAttachType};

use super::{clsact, netlink};

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
    let mut names = BTreeSet::new();
    netlink::dump(&clsact::dump(ifindex, way.by_classifier()), |message| {
        names.extend(clsact::called(message));
    })?;
    Ok(names)
}
