//! What `clinigate doctor` says of interfaces.

use std::process::Command;

use clinigate::dataplane::{Checkup, Dataplane, Options, examine};
use clinigate_tests::service;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::clinic;
use crate::place::{self, ip, record};

#[test]
fn interfaces_are_shown_with_what_is_on_them() {
    place::run(|place| {
        let root = place.options().pin_root;
        let look = |interface: &str| examine(&root, &[interface.to_owned()]);
        let before = look("m0");
        let interface = &before.interfaces[0];
        assert_eq!(
            (interface.driver.as_deref(), interface.native, interface.mtu),
            (Some("veth"), Some(true), 1500)
        );
        assert_eq!(interface.offloads, ["rxvlan", "rx-vlan-stag-hw-parse"]);
        assert_eq!(interface.xdp, None);
        assert!(before.bpffs && before.kernel.is_some());
        assert!(before.findings.iter().all(|finding| !finding.essential), "{:?}", before.findings);

        place.open().unwrap().apply(&clinic::image(&[104]), record("first")).unwrap();
        let after = look("m0");
        let interface = &after.interfaces[0];
        assert!(interface.xdp.as_ref().is_some_and(|(_, name)| name == "clinigate"), "{interface:?}");
        assert!(interface.offloads.is_empty());
        assert!(
            after.findings.iter().all(|finding| !finding.what.contains("not ours")),
            "{:?}",
            after.findings
        );
        assert!(look("nothing").findings.iter().any(|finding| finding.essential));
    });
}

/// What an attach refuses, the doctor says before.
#[test]
fn an_mtu_that_an_attach_refuses_is_a_finding() {
    place::run(|place| {
        ip("link set m0 mtu 9000");
        let look = examine(&place.options().pin_root, &["m0".to_owned()]);
        let said = look.findings.iter().find(|finding| finding.what.contains("MTU of 9000"));
        let refused = place.open().unwrap().apply(&clinic::image(&[104]), record("first")).map(drop);
        assert_eq!(said.is_some(), refused.is_err(), "{said:?}, {refused:?}");
        if let Some(said) = said {
            ip(said.mend.strip_prefix("ip ").unwrap());
            place.open().unwrap().apply(&clinic::image(&[104]), record("first")).unwrap();
        }
    });
}

/// A bridge or a VRF beside the ports of a router is no fault of it, as long as nobody means to name it.
#[test]
fn devices_that_no_policy_names_are_no_findings() {
    place::run(|place| {
        let kinds = ["dummy", "bridge", "vrf table 77"];
        let mut made = Vec::new();
        for (name, kind) in ["plain0", "bridge0", "vrf0"].into_iter().zip(kinds) {
            let words = format!("link add {name} type {kind}");
            if Command::new("ip").args(words.split(' ')).status().unwrap().success() {
                made.push(name);
            }
        }
        let root = place.options().pin_root;
        let speaks = |look: &Checkup, name: &str| look.findings.iter().any(|it| it.what.contains(name));
        for name in made {
            assert!(!speaks(&examine(&root, &[]), name), "{name}");
            assert!(speaks(&examine(&root, &[name.to_owned()]), name), "{name}");
        }
    });
}

#[test]
fn programs_of_others_are_shown_where_they_are() {
    place::run(|place| {
        let tc = |words: &[&str]| assert!(Command::new("tc").args(words).status().unwrap().success());
        tc(&["qdisc", "add", "dev", "m0", "clsact"]);
        // One that matches nothing.
        tc(&["filter", "add", "dev", "m0", "ingress", "pref", "7", "bpf", "bytecode", "1,6 0 0 0"]);
        let look = examine(&place.options().pin_root, &["m0".to_owned()]);
        assert_eq!((look.interfaces[0].entry.len(), look.interfaces[0].exit.len()), (1, 0), "{look:?}");
        place.open().unwrap().apply(&clinic::image(&[104]), record("first")).unwrap();
        let look = examine(&place.options().pin_root, &["m0".to_owned()]);
        assert_eq!(
            (look.interfaces[0].entry.len(), &look.interfaces[0].exit[..]),
            (1, &["clinigate_out".to_owned()][..])
        );
    });
}

/// A kernel without BTF looks as if /sys had none.
#[test]
fn a_kernel_without_the_essential_is_refused_in_words() {
    place::run(|place| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let (nothing, flags): (Option<&str>, _) = (None, MsFlags::MS_PRIVATE | MsFlags::MS_REC);
        mount(nothing, "/", nothing, flags, nothing).unwrap();
        mount(Some("tmpfs"), "/sys/kernel/btf", Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
        let refused = Dataplane::open(place.options()).map(drop).unwrap_err().to_string();
        assert!(
            refused.starts_with("this kernel (") && refused.contains(") has no BTF: build it with"),
            "{refused}"
        );
        assert!(!place.options().pin_root.exists(), "nothing was begun");

        let call = |words: &[&str]| {
            let output = Command::new(service::binary().unwrap()).args(words).output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (output.status.code(), text(output.stdout), text(output.stderr))
        };
        let (code, out, words) = call(&["doctor", "m0"]);
        assert_eq!(code, Some(2));
        assert!(
            out.contains("MISSING  BTF\n")
                && out.contains("error: the kernel has no BTF: nothing can be enforced"),
            "{out}"
        );
        assert!(words.contains("cannot enforce"), "{words}");
        let (code, out, _) = call(&["doctor", "m0", "--format", "json"]);
        let look: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (code, &look["findings"][0]["essential"]),
            (Some(2), &serde_json::Value::Bool(true)),
            "{look}"
        );
    });
}

#[test]
fn a_look_changes_nothing() {
    place::run(|place| {
        let root = place.path("bpf/never-made");
        let _ = examine(&root, &[]);
        assert!(!root.exists());
        Dataplane::open(Options { pin_root: root, ..place.options() }).unwrap();
    });
}
