//! The exit of an interface on kernels without tcx: a classifier that stays with it.

use std::fs;
use std::process::Command;

use clinigate::dataplane::{Dataplane, Exit, Options, detach};

use crate::clinic;
use crate::place::{self, Place, ip, record, rename};

fn options(place: &Place) -> Options {
    Options { exit: Some(Exit::Clsact), ..place.options() }
}

/// The classifiers at the exit of an interface, a line each with its program's number.
fn classifiers(interface: &str) -> Vec<String> {
    let output = Command::new("tc").args(["filter", "show", "dev", interface, "egress"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.contains("handle")).map(str::to_owned).collect()
}

#[test]
fn a_classifier_is_adopted_replaced_and_taken_off() {
    place::run(|place| {
        let mut dataplane = Dataplane::open(options(place)).unwrap();
        let applied = dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        assert_eq!(applied.attached, ["m0", "a0"]);
        assert!(dataplane.interfaces().iter().all(|interface| interface.exit == Some(Exit::Clsact)));
        drop(dataplane);
        let first = classifiers("m0");
        assert_eq!(first.len(), 1, "{first:?}");
        assert!(first[0].contains("clinigate_out direct-action"), "{first:?}");

        let mut dataplane = Dataplane::open(options(place)).unwrap();
        let reconciled = dataplane.reconcile().unwrap();
        assert!(reconciled.attached.is_empty() && reconciled.failed.is_empty(), "{reconciled:?}");
        assert_eq!(classifiers("m0"), first, "nothing was loaded anew");
        dataplane.apply(&clinic::image(&[104, 2762]), record("second")).unwrap();
        let second = classifiers("m0");
        assert_eq!(second.len(), 1, "in its place, not beside it: {second:?}");
        assert_ne!(second, first);

        drop(dataplane);
        assert_eq!(detach(&options(place)).unwrap().interfaces, ["a0", "m0"]);
        assert_eq!((classifiers("m0"), classifiers("a0")), (vec![], vec![]));
        assert!(!place.options().pin_root.exists());
    });
}

#[test]
fn a_classifier_that_somebody_took_off_is_put_back() {
    place::run(|place| {
        let mut dataplane = Dataplane::open(options(place)).unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        assert!(Command::new("tc").args(["qdisc", "del", "dev", "m0", "clsact"]).status().unwrap().success());
        assert!(classifiers("m0").is_empty());
        assert!(dataplane.reconcile().unwrap().failed.is_empty());
        assert_eq!(classifiers("m0").len(), 1);
    });
}

#[test]
fn a_classifier_is_known_by_the_new_name_of_its_interface() {
    place::run(|place| {
        let mut dataplane = Dataplane::open(options(place)).unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        rename("m0", "m9");
        let mut policy = clinic::policy(&[104]);
        policy.interfaces[0].name = "m9".to_owned();
        dataplane.apply(&clinigate::compile::compile(&policy).unwrap(), record("second")).unwrap();
        assert_eq!(classifiers("m9").len(), 1, "in its place, not beside it");
        let notes = place::names(&place.options().pin_root.join("links"));
        assert!(notes.len() == 4 && notes.iter().all(|note| !note.starts_with("m0@")), "{notes:?}");
        drop(dataplane);
        assert_eq!(detach(&options(place)).unwrap().interfaces, ["a0", "m9"]);
        assert!(classifiers("m9").is_empty());
    });
}

#[test]
fn classifiers_of_others_stay() {
    place::run(|place| {
        let tc = |arguments: &[&str]| Command::new("tc").args(arguments).status().unwrap().success();
        assert!(tc(&["qdisc", "add", "dev", "m0", "clsact"]));
        // Of a program that matches nothing.
        let theirs = ["filter", "add", "dev", "m0", "egress", "pref", "7", "bpf", "bytecode", "1,6 0 0 0"];
        assert!(tc(&theirs));
        let mut dataplane = Dataplane::open(options(place)).unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        assert_eq!(classifiers("m0").len(), 2, "{:?}", classifiers("m0"));
        drop(dataplane);
        detach(&options(place)).unwrap();
        let left = classifiers("m0");
        assert!(left.len() == 1 && left[0].contains("bytecode"), "{left:?}");
    });
}

#[test]
fn an_interface_that_is_made_anew_gets_its_classifier() {
    place::run(|place| {
        let mut dataplane = Dataplane::open(options(place)).unwrap();
        dataplane.apply(&clinic::image(&[104]), record("first")).unwrap();
        ip("link del a0");
        place.add_interface("a0");
        assert_eq!(dataplane.reconcile().unwrap().attached, ["a0"]);
        assert_eq!(classifiers("a0").len(), 1);
        // What is left of the one that is gone goes with the next change.
        dataplane.apply(&clinic::image(&[105]), record("second")).unwrap();
        let links = fs::read_dir(place.options().pin_root.join("links")).unwrap().count();
        assert_eq!(links, 4);
    });
}
