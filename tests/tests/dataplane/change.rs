//! Changes that fail, and changes of the layout.

use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use aya::maps::{Array, MapData};
use aya::programs::{ProgramInfo, loaded_programs};
use clinigate::compile::image::Image;
use clinigate::dataplane::{AttachedMode, Dataplane, DataplaneError, Options, XdpMode};
use clinigate::policy::model::{Interface, InterfaceKind, Policy};

use crate::clinic;
use crate::place::{self, Place, ip, layout, names, record, rename};

/// The clinic with another interface of the archive's.
fn with_interface(name: &str, kind: InterfaceKind) -> Image {
    let mut policy: Policy = clinic::policy(&[104]);
    let origin = policy.interfaces[0].origin.clone();
    policy.interfaces.retain(|interface| interface.name != name);
    policy.interfaces.push(Interface { name: name.to_owned(), kind, routed: false, tunnel: None, origin });
    clinigate::compile::compile(&policy).unwrap()
}

fn since(dataplane: &Dataplane) -> Vec<(String, std::time::SystemTime)> {
    dataplane.interfaces().into_iter().map(|it| (it.name, it.since.unwrap())).collect()
}

#[test]
fn an_interface_that_cannot_be_attached_leaves_everything_as_it_was() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let before = (dataplane.active().cloned(), since(&dataplane), pins(place));

        // Loopback has no native XDP.
        let image = with_interface("lo", InterfaceKind::Access(clinic::ARCHIVE));
        let error = dataplane.apply(&image, record("second")).unwrap_err();
        assert!(matches!(&error, DataplaneError::Attach { interface, .. } if interface == "lo"), "{error:?}");
        assert!(error.to_string().contains("--xdp-mode generic"), "{error}");
        assert_eq!(before, (dataplane.active().cloned(), since(&dataplane), pins(place)));
        assert!(dataplane.reconcile().unwrap().attached.is_empty());
        drop(dataplane);
        assert_eq!(place.open().unwrap().active().cloned(), before.0);
    });
}

/// Also the names by which interfaces are known.
#[test]
fn a_change_that_fails_leaves_the_name_of_a_renamed_interface() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let known = || names(&place.options().pin_root.join("links"));
        let before = known();
        rename("m0", "m9");
        let mut policy = clinic::policy(&[104]);
        policy.interfaces[0].name = "m9".to_owned();
        let mut loopback = policy.interfaces[1].clone();
        loopback.name = "lo".to_owned();
        policy.interfaces.push(loopback);
        let image = clinigate::compile::compile(&policy).unwrap();
        dataplane.apply(&image, record("second")).unwrap_err();
        assert_eq!(known(), before);
        assert!(before.iter().any(|pin| pin.starts_with("m0@")), "{before:?}");
    });
}

#[test]
fn the_first_apply_that_fails_leaves_nothing() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        let image = with_interface("lo", InterfaceKind::Access(clinic::ARCHIVE));
        dataplane.apply(&image, record("first")).unwrap_err();
        assert!(dataplane.active().is_none());
        assert!(pins(place).iter().all(|pin| pin == "links"), "{:?}", pins(place));
        assert_eq!(dataplane.apply(&clinic::image(&[104]), record("second")).unwrap().attached.len(), 2);
    });
}

#[test]
fn generic_mode_takes_any_interface_and_says_so() {
    place::run(|place| {
        let mut dataplane =
            Dataplane::open(Options { xdp_mode: XdpMode::Generic, ..place.options() }).unwrap();
        ip("link set lo mtu 1500");
        let image = with_interface("lo", InterfaceKind::Access(clinic::ARCHIVE));
        let applied = dataplane.apply(&image, record("first")).unwrap();
        assert!(dataplane.interfaces().iter().all(|it| it.mode == Some(AttachedMode::Generic)));
        // It would merge what programs are to see.
        assert!(applied.offloads.contains(&("lo".to_owned(), "gro")), "{:?}", applied.offloads);
        drop(dataplane);
        let applied = place.open().unwrap().apply(&clinic::image(&[104]), record("second")).unwrap();
        assert_eq!(applied.detached, ["lo"]);
        assert!(applied.warnings.iter().any(|warning| warning.contains("generic")), "{:?}", applied.warnings);
    });
}

/// A kernel that copies long frames in pieces panics: what could bring it one is refused.
#[test]
fn frames_that_the_kernel_copies_in_pieces_are_refused() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        let image = clinic::image(&[104]);
        ip("link set m0 mtu 9000");
        if nix::sys::utsname::uname().unwrap().release().to_string_lossy().starts_with("6.1.") {
            // That one copies them otherwise.
            dataplane.apply(&image, record("first")).unwrap();
            return;
        }
        let error = dataplane.apply(&image, record("first")).unwrap_err().to_string();
        assert!(error.contains("ip link set dev m0 mtu 3498"), "{error}");
        assert!(dataplane.active().is_none());
        ip("link set m0 mtu 3498");
        dataplane.apply(&image, record("first")).unwrap();
        ip("link set m0 mtu 9000");
        let reconciled = dataplane.reconcile().unwrap();
        assert!(matches!(&reconciled.failed[..], [(name, DataplaneError::Pieces { .. })] if name == "m0"));
        // Orders do not wait for anybody.
        dataplane.apply(&image, record("first")).unwrap();
    });
}

#[test]
fn a_foreign_program_is_named_and_nothing_changes() {
    place::run(|place| {
        let other = Options {
            pin_root: place.path("bpf/other"),
            state_dir: place.path("other-state"),
            ..place.options()
        };
        let mut stranger = Dataplane::open(other).unwrap();
        stranger.apply(&clinic::image(&[104]), record("stranger")).unwrap();
        let mut dataplane = place.open().unwrap();
        let error = dataplane.apply(&clinic::image(&[104]), record("first")).unwrap_err();
        let DataplaneError::ForeignProgram { interface, id, name } = &error else { panic!("{error}") };
        assert_eq!((interface.as_str(), name.as_str()), ("m0", "clinigate"));
        assert_ne!(*id, 0);
        assert!(pins(place).is_empty(), "{:?}", pins(place));
        stranger.detach().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("second")).unwrap();
    });
}

#[test]
fn tags_are_made_visible_on_trunks_and_access_ports() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        let vlans = [(70, clinic::MODALITIES)].into();
        let image = with_interface("m0", InterfaceKind::Trunk { outer: 0, vlans });
        let applied = dataplane.apply(&image, record("first")).unwrap();
        let both = |name: &str| ["rxvlan", "rx-vlan-stag-hw-parse"].map(|feature| (name.to_owned(), feature));
        assert_eq!(applied.offloads, [both("a0"), both("m0")].concat());
        let features = Command::new("ethtool").args(["-k", "m0"]).output().unwrap().stdout;
        let features = String::from_utf8(features).unwrap();
        for off in ["rx-vlan-offload: off", "rx-vlan-stag-hw-parse: off", "tx-vlan-offload: on"] {
            assert!(features.contains(off), "{features}");
        }
        let applied = dataplane.apply(&image, record("second")).unwrap();
        assert!(applied.offloads.is_empty());
    });
}

#[test]
fn another_layout_is_replaced_through_the_same_links() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let attached = since(&dataplane);
        drop(dataplane);
        // What an older binary has left.
        let root = place.options().pin_root;
        fs::rename(root.join(layout()), root.join("v0")).unwrap();

        let mut dataplane = place.open().unwrap();
        assert!(dataplane.active().is_none(), "another layout is not ours to read");
        let image = with_interface("lo", InterfaceKind::Access(clinic::ARCHIVE));
        dataplane.apply(&image, record("fails")).unwrap_err();
        assert_eq!(pins(place), ["links", "v0"], "what is in force stays");

        let applied = dataplane.apply(&clinic::image(&[104]), record("second")).unwrap();
        assert!(applied.layout_replaced);
        assert_eq!((applied.attached.len(), applied.detached.len()), (0, 0));
        assert_eq!(since(&dataplane), attached, "the links are the same");
        assert_eq!(pins(place), ["links".to_owned(), layout()]);
        assert!(dataplane.reconcile().unwrap().attached.is_empty());
    });
}

#[test]
fn another_binarys_entry_program_is_replaced_through_the_same_links() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let attached = since(&dataplane);
        drop(dataplane);
        let pinned = place.options().pin_root.join(layout());
        let own = names(&pinned).into_iter().find(|name| name.starts_with("entry-")).unwrap();
        let before = ProgramInfo::from_pin(pinned.join(&own)).unwrap().id();
        // What a binary with other programs has left.
        fs::rename(pinned.join(&own), pinned.join("entry-0123456789abcdef")).unwrap();

        let mut dataplane = place.open().unwrap();
        assert!(dataplane.active().is_some(), "what is in force is adopted");
        let reconciled = dataplane.reconcile().unwrap();
        assert!(reconciled.attached.is_empty() && reconciled.failed.is_empty());
        let applied = dataplane.apply(&clinic::image(&[104]), record("second")).unwrap();
        assert!(applied.attached.is_empty() && !applied.layout_replaced);
        assert_eq!(since(&dataplane), attached, "the links are the same");
        assert!(!pinned.join("entry-0123456789abcdef").exists());
        assert_ne!(ProgramInfo::from_pin(pinned.join(&own)).unwrap().id(), before);
        // The kernel frees it some time after the last that held it let go.
        let is_gone = || loaded_programs().flatten().all(|program| program.id() != before);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_gone() {
            assert!(Instant::now() < deadline, "nothing runs it any more");
            thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn maps_of_another_shape_are_replaced_like_a_layout() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let attached = since(&dataplane);
        drop(dataplane);
        let shared = place.options().pin_root.join(layout()).join("shared");
        fs::remove_file(shared.join("HEALTH")).unwrap();
        Array::<MapData, u64>::create(3, 0).unwrap().pin(shared.join("HEALTH")).unwrap();

        let mut dataplane = place.open().unwrap();
        assert!(dataplane.active().is_none());
        assert_eq!(names(&place.options().pin_root.join(layout())).len(), 3, "what is in force stays pinned");
        let applied = dataplane.apply(&clinic::image(&[104]), record("second")).unwrap();
        assert!(applied.layout_replaced && applied.attached.is_empty());
        assert_eq!(since(&dataplane), attached);
        assert_eq!(pins(place), ["links".to_owned(), layout()]);
        assert_eq!(dataplane.counters().unwrap().health.events_lost, 0);
    });
}

#[test]
fn a_connection_table_keeps_its_size_and_says_so() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        let mut image = clinic::image(&[104]);
        image.connections = 5000;
        dataplane.apply(&image, record("first")).unwrap();
        assert_eq!(dataplane.connections().unwrap().capacity, 8192);
        image.connections = 100_000;
        let applied = dataplane.apply(&image, record("second")).unwrap();
        assert!(applied.warnings[0].contains("holds 8192 connections"), "{:?}", applied.warnings);
        assert_eq!(dataplane.connections().unwrap().capacity, 8192);
    });
}

/// Names in the pin root.
fn pins(place: &Place) -> Vec<String> {
    names(&place.options().pin_root)
}
