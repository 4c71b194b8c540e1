//! Interfaces without a link layer: attached where the policy says that they are the ends of tunnels, and refused with
//! words where it does not, or where nobody knows what their packets begin with.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clinigate::compile::compile;
use clinigate::compile::image::Image;
use clinigate::dataplane::{AttachedMode, DataplaneError, detach, examine};
use clinigate::policy::{SourceFile, resolve};
use clinigate_tests::tun;

use crate::place::{self, Place, ip, record};

/// The end of one tunnel is a port; what `t0` is the end of, `tunnel` says.
fn image(tunnel: &str) -> Image {
    let text = format!(
        "interfaces:
  m0: {{ access: modalities }}
  t0: {{ wan: true{tunnel} }}
  w0: {{ wan: true, tunnel: ip-vpn }}
segments:
  modalities: {{ subnets: 10.0.1.0/24 }}
"
    );
    compile(&resolve(vec![SourceFile::new("policy.yaml", text)]).policy.unwrap()).unwrap()
}

/// Runs a test where there can be such devices.
fn run(test: impl FnOnce(&Place) + Send + 'static) {
    if Path::new("/dev/net/tun").exists() {
        place::run(|place| {
            place.add_interface("w0");
            test(place);
        });
    } else {
        eprintln!("skipped: this kernel has no /dev/net/tun");
    }
}

#[test]
fn a_device_without_a_link_layer_is_attached_as_the_end_of_a_tunnel() {
    run(|place| {
        let device = tun::open("t0").unwrap();
        let mut dataplane = place.open().unwrap();
        let applied = dataplane.apply(&image(", tunnel: wireguard"), record("first")).unwrap();
        assert_eq!(applied.attached, ["m0", "t0", "w0"]);
        // No driver of theirs has another mode: nothing to warn of.
        assert_eq!(applied.warnings, Vec::<String>::new());
        let modes = |dataplane: &clinigate::dataplane::Dataplane| {
            dataplane.interfaces().into_iter().map(|interface| interface.mode).collect::<Vec<_>>()
        };
        let expected = [AttachedMode::Native, AttachedMode::Generic, AttachedMode::Native].map(Some);
        assert_eq!(modes(&dataplane), expected);
        let looked = examine(&place.options().pin_root, &["t0".to_owned()]);
        let says = |what: &str| looked.findings.iter().any(|finding| finding.what.contains(what));
        assert!(says("t0 has no link layer") && !says("not ours"), "{:?}", looked.findings);
        // Another generation, another controller, another device of the same name.
        dataplane.apply(&image(", tunnel: ipsec"), record("second")).unwrap();
        drop(dataplane);
        let mut dataplane = place.open().unwrap();
        assert!(dataplane.reconcile().unwrap().attached.is_empty());
        drop(device);
        // A process that another test is just starting has it for a moment, too.
        let patience = Instant::now() + Duration::from_secs(5);
        while nix::net::if_::if_nametoindex("t0").is_ok() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(dataplane.reconcile().unwrap().missing, ["t0"]);
        let _device = tun::open("t0").unwrap();
        assert_eq!(dataplane.reconcile().unwrap().attached, ["t0"]);
        assert_eq!(modes(&dataplane), expected);
        drop(dataplane);
        let mut detached = detach(&place.options()).unwrap().interfaces;
        detached.dedup();
        assert_eq!(detached, ["m0", "t0", "w0"]);
        assert!(!place.options().pin_root.exists());
    });
}

#[test]
fn what_nobody_can_read_is_refused_and_what_ran_still_runs() {
    run(|place| {
        let device = tun::open("t0").unwrap();
        let mut dataplane = place.open().unwrap();
        let refused = dataplane.apply(&image(""), record("no tunnel")).unwrap_err();
        assert!(matches!(refused, DataplaneError::Link { kind: None, .. }), "{refused:?}");
        assert!(refused.to_string().contains("say so: `wan: true` with `tunnel`"), "{refused}");
        assert!(dataplane.active().is_none());
        dataplane.apply(&image(", tunnel: ipsec"), record("a tunnel")).unwrap();
        // PPP: between its packets and the wire stands a protocol field, or not.
        ip("link set t0 down");
        tun::set_hardware(&device, 512).unwrap();
        let refused = dataplane.apply(&image(", tunnel: openvpn"), record("of another kind")).unwrap_err();
        assert!(matches!(refused, DataplaneError::Link { kind: Some(512), .. }), "{refused:?}");
        assert_eq!(dataplane.active().unwrap().record.source, "a tunnel");
    });
}
