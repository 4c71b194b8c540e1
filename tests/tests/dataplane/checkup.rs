//! What `clinigate doctor` says of interfaces.

use clinigate::dataplane::{Dataplane, Options, examine};

use crate::clinic;
use crate::place::{self, record};

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

#[test]
fn a_look_changes_nothing() {
    place::run(|place| {
        let root = place.path("bpf/never-made");
        let _ = examine(&root, &[]);
        assert!(!root.exists());
        Dataplane::open(Options { pin_root: root, ..place.options() }).unwrap();
    });
}
