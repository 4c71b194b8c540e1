//! The life of a generation on interfaces.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use clinigate::compile::compile;
use clinigate::dataplane::{AttachedMode, Dataplane, DataplaneError, Options, detach};

use crate::clinic::{self, SYN};
use crate::place::{self, Place, Wire, ip, layout, names, record, rename};

#[test]
fn what_is_applied_outlives_its_controller_and_is_adopted() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        assert!(dataplane.active().is_none());
        let applied = dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        assert_eq!((applied.generation, applied.warnings.as_slice()), (1, [].as_slice()));
        assert_eq!(applied.attached, ["m0", "a0"]);
        let before = dataplane.active().cloned().unwrap();
        drop(dataplane);

        let mut dataplane = place.open().unwrap();
        assert_eq!(dataplane.active(), Some(&before), "names and record are read back");
        for interface in dataplane.interfaces() {
            assert_eq!(interface.mode, Some(AttachedMode::Native), "{interface:?}");
            assert_eq!(interface.driver.as_deref(), Some("veth"));
            assert!(interface.since.is_some());
        }
        let reconciled = dataplane.reconcile().unwrap();
        assert!(reconciled.attached.is_empty() && reconciled.failed.is_empty());

        let applied = dataplane.apply(&clinic::image(&[104, 2762]), record("second")).unwrap();
        assert_eq!((applied.generation, applied.attached.len()), (2, 0));
        assert_eq!(dataplane.active().unwrap().record.source, "second");
        assert_eq!(names(&place.path("state/generations")), ["2.json"]);
    });
}

#[test]
fn a_second_owner_is_refused_with_the_first_ones_number() {
    place::run(|place| {
        let first = place.open().unwrap();
        let error = place.open().err().unwrap();
        assert!(
            matches!(&error, DataplaneError::Owned { pid: Some(pid), .. } if *pid == std::process::id()),
            "{error}"
        );
        assert!(matches!(detach(&place.options()), Err(DataplaneError::Owned { .. })));
        drop(first);
        place.open().unwrap();
    });
}

#[test]
fn detach_takes_everything_off() {
    place::run(|place| {
        place.open().unwrap().apply(&clinic::image(&[104]), record("first")).unwrap();
        let detached = detach(&place.options()).unwrap();
        assert_eq!(
            (detached.interfaces.as_slice(), detached.generations.as_slice()),
            (["a0".to_owned(), "m0".to_owned()].as_slice(), [1].as_slice())
        );
        assert!(!place.options().pin_root.exists());
        assert_eq!(detach(&place.options()).unwrap().interfaces.len(), 0);
        let mut dataplane = place.open().unwrap();
        assert!(dataplane.active().is_none());
        assert_eq!(dataplane.apply(&clinic::image(&[104]), record("again")).unwrap().generation, 2);
    });
}

#[test]
fn the_first_generation_may_be_left_half_made_anywhere() {
    place::run(|place| {
        place.open().unwrap().apply(&clinic::image(&[104]), record("first")).unwrap();
        let pinned = place.options().pin_root.join(layout());
        // In the reverse of the order in which they are made, as if the first apply had been killed there.
        let entry = names(&pinned).into_iter().find(|name| name.starts_with("entry-")).unwrap();
        let steps =
            [vec![entry, "gen-1/egress".to_owned(), "gen-1/judge".to_owned()], vec!["gen-1/V4".to_owned()]];
        for step in steps.into_iter().chain([vec!["gen-1".to_owned()], vec!["shared/EVENTS".to_owned()]]) {
            for pin in step {
                let path = pinned.join(pin);
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
            assert!(place.open().unwrap().active().is_none());
        }
        let mut dataplane = place.open().unwrap();
        assert_eq!(dataplane.apply(&clinic::image(&[104]), record("second")).unwrap().attached.len(), 0);
        assert!(dataplane.reconcile().unwrap().failed.is_empty());
        assert_eq!(names(&place.options().pin_root), ["links".to_owned(), layout()]);
        assert_eq!(names(&pinned.join("shared")).len(), 7);
    });
}

#[test]
fn detach_needs_neither_state_nor_a_layout_that_it_knows() {
    place::run(|place| {
        place.open().unwrap().apply(&clinic::image(&[104]), record("first")).unwrap();
        let root = place.options().pin_root;
        fs::rename(root.join(layout()), root.join("v99")).unwrap();
        let state_dir = place.path("no-directory");
        fs::write(&state_dir, "").unwrap();
        let detached = detach(&Options { state_dir, ..place.options() }).unwrap();
        assert_eq!(detached.interfaces, ["a0", "m0"]);
        assert!(!root.exists());
    });
}

#[test]
fn a_bpf_filesystem_is_mounted_only_where_nothing_stands() {
    place::run(|place| {
        let empty = place.path("empty");
        fs::create_dir(&empty).unwrap();
        let options = Options { pin_root: empty.join("clinigate"), ..place.options() };
        Dataplane::open(options.clone()).unwrap().apply(&clinic::image(&[104]), record("first")).unwrap();
        assert_eq!(Dataplane::open(options.clone()).unwrap().active().unwrap().generation, 1);
        detach(&options).unwrap();
        // Detached: a process that another test has just begun may still stand in it.
        nix::mount::umount2(&empty, nix::mount::MntFlags::MNT_DETACH).unwrap();

        fs::write(empty.join("file"), "").unwrap();
        let error = Dataplane::open(options).err().unwrap();
        assert!(error.to_string().ends_with(&format!("mount -t bpf bpf {}", empty.display())), "{error}");
    });
}

#[test]
fn a_missing_interface_is_named_and_nothing_changes() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        ip("link del a0");
        let error = dataplane.apply(&clinic::image(&[104, 105]), record("second")).unwrap_err();
        assert_eq!(error.to_string(), "no such interface: a0");
        assert_eq!(dataplane.active().unwrap().generation, 1);
    });
}

/// What is ordered at night does not wait for a port that is unplugged; the port is enforced when it comes back.
#[test]
fn the_policy_in_force_is_laid_anew_while_an_interface_is_missing() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        ip("link del a0");
        dataplane.apply(&clinic::image(&[104, 105]), record("first")).unwrap();
        assert_eq!(dataplane.active().unwrap().generation, 2);
        assert_eq!(dataplane.reconcile().unwrap().missing, ["a0"]);
        place.add_interface("a0");
        assert_eq!(dataplane.reconcile().unwrap().attached, ["a0"]);
    });
}

#[test]
fn an_interface_that_is_made_anew_is_attached_anew() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        ip("link del a0");
        assert_eq!(dataplane.reconcile().unwrap().missing, ["a0"]);
        place.add_interface("a0");
        let reconciled = dataplane.reconcile().unwrap();
        assert_eq!(reconciled.attached, ["a0"]);
        assert!(reconciled.missing.is_empty() && reconciled.failed.is_empty());
        ip("link set m0 down");
        ip("link set m0 name m9");
        ip("link set m9 name m0");
        assert!(dataplane.reconcile().unwrap().attached.is_empty());
        ip("addr add 10.0.1.1/24 dev m0");
        assert!(dataplane.reconcile().unwrap().addresses_changed);
    });
}

/// What runs on an interface that somebody renamed goes on there, also where the policy is laid anew meanwhile.
#[test]
fn a_renamed_interface_stays_enforced() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        rename("m0", "m9");
        assert_eq!(dataplane.reconcile().unwrap().missing, ["m0"]);
        let applied = dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        assert!(applied.detached.is_empty(), "{applied:?}");
        assert!(applied.warnings[0].contains("m0 does not exist"), "{applied:?}");
        dataplane.reconcile().unwrap();
        assert!(runs_xdp("m9") && runs_xdp("a0"));
        assert_eq!(passed(place, "m0-p", "m9"), (1, 0), "in the same segment");
        let error = dataplane.apply(&clinic::image(&[105]), record("second")).unwrap_err();
        assert!(matches!(error, DataplaneError::MissingInterfaces(_)), "{error}");
    });
}

/// A policy that calls it by its new name is the one to be asked when it is renamed again.
#[test]
fn an_interface_may_be_renamed_again_and_again() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let since = dataplane.interfaces()[0].since;
        rename("m0", "m9");
        let mut second = clinic::policy(&[104]);
        second.interfaces[0].name = "m9".to_owned();
        let second = compile(&second).unwrap();
        let applied = dataplane.apply(&second, record("second")).unwrap();
        assert!(applied.attached.is_empty() && applied.detached.is_empty(), "{applied:?}");
        assert_eq!(dataplane.interfaces()[0].since, since);
        rename("m9", "m8");
        dataplane.apply(&second, record("second")).unwrap();
        assert_eq!(passed(place, "m0-p", "m8"), (1, 0), "in the same segment");
        // Whoever goes back has it by its first name, with the first policy; and forward again.
        for (image, source) in [(clinic::image(&[104]), "first"), (second.clone(), "second")] {
            let back = dataplane.put_back(&image, record(source), SystemTime::now()).unwrap();
            assert!(back.detached.is_empty(), "{back:?}");
            let pins = names(&place.options().pin_root.join("links"));
            let name = if source == "first" { "m0@" } else { "m9@" };
            assert_eq!(pins.iter().filter(|pin| pin.starts_with(name)).count(), 2, "{pins:?}");
            assert_eq!(passed(place, "m0-p", "m8"), (1, 0), "under the {source}");
            dataplane.apply(&image, record(source)).unwrap();
            dataplane.reconcile().unwrap();
            assert_eq!(passed(place, "m0-p", "m8"), (1, 0), "laid anew under the {source}");
        }
        drop(dataplane);
        let mut dataplane = place.open().unwrap();
        dataplane.put_back(&clinic::image(&[104]), record("first"), SystemTime::now()).unwrap();
        assert_eq!(passed(place, "m0-p", "m8"), (1, 0), "by another controller");
        dataplane.put_back(&second, record("second"), SystemTime::now()).unwrap();
        // Another one that gets the first name is not taken for it.
        place.add_interface("m9");
        assert_eq!(dataplane.reconcile().unwrap().attached, ["m9"]);
        assert!(runs_xdp("m9") && !runs_xdp("m8"), "m8 is not named any more");
    });
}

/// A name that another interface had since is not taken for that of the first one.
#[test]
fn who_goes_back_finds_the_interface_that_had_the_name_then() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        let mut policy = clinic::policy(&[104]);
        dataplane.apply(&compile(&policy).unwrap(), record("first")).unwrap();
        thread::sleep(Duration::from_millis(20));
        let left = SystemTime::now();
        thread::sleep(Duration::from_millis(20));
        rename("m0", "m9");
        policy.interfaces[0].name = "m9".to_owned();
        dataplane.apply(&compile(&policy).unwrap(), record("second")).unwrap();
        // Another card, of the archive's.
        place.add_interface("x0");
        rename("x0", "m0");
        let mut other = policy.interfaces[1].clone();
        other.name = "m0".to_owned();
        policy.interfaces.push(other);
        dataplane.apply(&compile(&policy).unwrap(), record("third")).unwrap();
        rename("m0", "m7");
        policy.interfaces[2].name = "m7".to_owned();
        dataplane.apply(&compile(&policy).unwrap(), record("fourth")).unwrap();
        let back = dataplane.put_back(&clinic::image(&[104]), record("first"), left).unwrap();
        assert_eq!(back.detached, ["m7"]);
        assert!(!runs_xdp("m7"));
        assert_eq!(passed(place, "m0-p", "m9"), (1, 0), "in the same segment");
    });
}

/// What was made anew meanwhile and then renamed drops rather than being open.
#[test]
fn who_goes_back_opens_nothing_that_had_the_name() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        let left = SystemTime::now();
        thread::sleep(Duration::from_millis(20));
        dataplane.apply(&clinic::image(&[104, 105]), record("second")).unwrap();
        ip("link del m0");
        place.add_interface("m0");
        assert_eq!(dataplane.reconcile().unwrap().attached, ["m0"]);
        rename("m0", "m9");
        let back = dataplane.put_back(&clinic::image(&[104]), record("first"), left).unwrap();
        assert!(back.detached.is_empty() && runs_xdp("m9"), "{back:?}");
    });
}

/// Where two interfaces exchange their names the policy's names count.
#[test]
fn names_that_wander_to_other_interfaces_take_their_segment_along() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        // That of the modalities is unplugged, and the archive's gets its name.
        ip("link del m0");
        rename("a0", "m0");
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        assert_eq!(passed(place, "a0-p", "m0"), (1, 0), "what comes there now is the modalities'");
    });
}

/// What is put back does not wait for an interface, and opens none: those that it does not name drop until nothing is missing.
#[test]
fn what_is_put_back_opens_no_interface_while_one_is_missing() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        dataplane.apply(&clinic::image(&[104]), record("newer")).unwrap();
        ip("link del m0");
        let mut earlier = clinic::policy(&[104]);
        earlier.interfaces.truncate(1);
        let earlier = compile(&earlier).unwrap();
        dataplane.apply(&earlier, record("earlier")).unwrap_err();
        let put_back = dataplane.put_back(&earlier, record("earlier"), SystemTime::now()).unwrap();
        assert!(put_back.detached.is_empty(), "{put_back:?}");
        assert!(put_back.warnings.iter().any(|it| it.contains("a0 drops everything")), "{put_back:?}");
        dataplane.reconcile().unwrap();
        // Also where it is laid anew meanwhile.
        dataplane.apply(&earlier, record("earlier")).unwrap();
        assert!(runs_xdp("a0"), "it drops, as no place names it");
        place.add_interface("m0");
        assert_eq!(dataplane.reconcile().unwrap().attached, ["m0"]);
        assert!(!runs_xdp("a0"), "the policy does not name it");
    });
}

/// Whoever locked himself out on an interface that was free before gets it back.
#[test]
fn what_a_change_attached_is_free_when_the_change_goes_back() {
    place::run(|place| {
        let mut dataplane = place.open().unwrap();
        let mut earlier = clinic::policy(&[104]);
        earlier.interfaces.truncate(1);
        let earlier = compile(&earlier).unwrap();
        dataplane.apply(&earlier, record("earlier")).unwrap();
        thread::sleep(Duration::from_millis(20));
        let since = SystemTime::now();
        thread::sleep(Duration::from_millis(20));
        dataplane.apply(&clinic::image(&[104]), record("newer")).unwrap();
        ip("link del m0");
        let put_back = dataplane.put_back(&earlier, record("earlier"), since).unwrap();
        assert_eq!(put_back.detached, ["a0"]);
        assert!(!runs_xdp("a0"));
    });
}

/// A modality sends what the policy allows and what it refuses from `peer`; how many of each come out at `interface`.
fn passed(place: &Place, peer: &str, interface: &str) -> (usize, usize) {
    let (allowed, refused) = (clinic::tcp(40000, 104, SYN), clinic::tcp(40000, 445, SYN));
    let behind = Wire::on(interface);
    let modality = place.at_the_peers(|| Wire::on(peer));
    modality.send(&allowed);
    modality.send(&refused);
    thread::sleep(Duration::from_millis(100));
    (behind.count(&allowed), behind.count(&refused))
}

fn runs_xdp(interface: &str) -> bool {
    let output = Command::new("ip").args(["link", "show", interface]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("xdp")
}

#[test]
fn a_half_made_generation_is_removed() {
    place::run(|place| {
        place.open().unwrap().apply(&clinic::image(&[104]), record("first")).unwrap();
        let pinned = place.options().pin_root.join(layout());
        let whole = names(&pinned.join("gen-1")).len();
        assert!(whole > 10);
        fs::create_dir(pinned.join("gen-2")).unwrap();
        let mut dataplane = place.open().unwrap();
        assert!(!pinned.join("gen-2").exists());
        assert_eq!(dataplane.active().unwrap().generation, 1);
        assert_eq!(names(&pinned.join("gen-1")).len(), whole);
        dataplane.apply(&clinic::image(&[104]), record("second")).unwrap();
    });
}
