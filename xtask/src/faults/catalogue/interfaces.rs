//! Faults in what becomes of interfaces that come, go and change their names.

use crate::faults::fault::Fault;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "bridge-bypassed-by-xdp",
        file: "gateway/src/dataplane/forward.rs",
        right: "if target.is_bare() || devices::is_port(devices, target.ifindex) {",
        wrong: "if target.is_bare() {",
        breaks: "A bump in the wire loses its tags, and with them all of its traffic, where XDP forwards",
        near: ("unit", "dataplane::forward"),
    },
    Fault {
        name: "renamed-without-a-place",
        file: "gateway/src/dataplane/apply.rs",
        right: "for (_, ifindex, links) in targets.chain(renamed).filter(|(name, ..)| **name == place.interface) {",
        wrong: "for (_, ifindex, links) in targets.chain(renamed.take(0)).filter(|(name, ..)| **name == place.interface) {",
        breaks: "An interface that somebody renames drops everything once the policy is laid anew",
        near: ("dataplane", "life::a_renamed_interface_stays_enforced"),
    },
    Fault {
        name: "pin-keeps-the-old-name",
        file: "gateway/src/dataplane/links.rs",
        right: "if self.interface == name {",
        wrong: "if !self.interface.is_empty() {",
        breaks: "An interface that is renamed a second time is not known any more",
        near: ("dataplane", "life::an_interface_may_be_renamed_again_and_again"),
    },
    Fault {
        name: "name-that-wandered",
        file: "gateway/src/dataplane/links.rs",
        right: "&& !is_target(live.ifindex)",
        wrong: "&& !is_target(0)",
        breaks: "An interface that got another one's name stays in its old segment",
        near: ("dataplane", "life::names_that_wander_to_other_interfaces_take_their_segment_along"),
    },
    Fault {
        name: "no-way-back-after-a-rename",
        file: "gateway/src/dataplane/apply.rs",
        right: "earlier: links.earlier_names(&targets, &renamed, earlier),",
        wrong: "earlier: links.earlier_names(&[], &renamed, earlier),",
        breaks: "Whoever goes back to a policy that calls an interface by its old name cuts it off",
        near: ("dataplane", "life::an_interface_may_be_renamed_again_and_again"),
    },
    Fault {
        name: "name-of-two",
        file: "gateway/src/dataplane/links.rs",
        right: "&& left.is_none_or(|left| live.since().is_some_and(|since| since < left))",
        wrong: "&& left.is_none_or(|left| live.since().is_some_and(|since| since != left))",
        breaks: "Of two interfaces that had a name one after the other, nobody has it when somebody goes back",
        near: ("dataplane", "life::who_goes_back_finds_the_interface_that_had_the_name_then"),
    },
    Fault {
        name: "locked-out-for-good",
        file: "gateway/src/dataplane/apply.rs",
        right: "live.since().is_none_or(|at| at < since) || live.may_be(&lost, earlier)",
        wrong: "live.since().is_none_or(|at| at != since) || live.may_be(&lost, earlier)",
        breaks: "What a change attached by mistake keeps dropping where the change goes back and an interface is missing",
        near: ("dataplane", "life::what_a_change_attached_is_free_when_the_change_goes_back"),
    },
    Fault {
        name: "opened-though-it-had-the-name",
        file: "gateway/src/dataplane/apply.rs",
        right: "live.since().is_none_or(|at| at < since) || live.may_be(&lost, earlier)",
        wrong: "live.since().is_none_or(|at| at < since) || live.may_be(&[], earlier)",
        breaks: "What was made anew and then renamed is open when somebody goes back",
        near: ("dataplane", "life::who_goes_back_opens_nothing_that_had_the_name"),
    },
    Fault {
        name: "opened-while-one-is-missing",
        file: "gateway/src/dataplane/apply.rs",
        right: "_ if missing.is_empty() => links.detach_others(targets, renamed, |_| false)?,",
        wrong: "_ if missing.len() < 2 => links.detach_others(targets, renamed, |_| false)?,",
        breaks: "What the policy calls by another name is opened",
        near: ("dataplane", "life::what_is_put_back_opens_no_interface_while_one_is_missing"),
    },
];
