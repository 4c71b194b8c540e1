//! The policy of these tests, built by hand: modalities on `m0`, archive on `a0`; the modalities
//! may open DICOM (TCP 104) to the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clinigate::compile::compile;
use clinigate::compile::image::Image;
use clinigate::policy::model::{
    ANY_PORT, AddressSet, Interface, InterfaceKind, ModeSetting, Origin, Policy, Ranges, Rule, RuleKind,
    Segment, SegmentId, Service, ServiceClass, ServiceMatch,
};
use gateway_common::place::SEGMENT_FIRST;

/// Number of the modalities' segment.
pub(crate) const MODALITIES: SegmentId = SegmentId(SEGMENT_FIRST);
/// Number of the archive's segment.
pub(crate) const ARCHIVE: SegmentId = SegmentId(SEGMENT_FIRST + 1);

/// The policy, with `ports` open from the modalities to the archive: one rule for each.
pub(crate) fn policy(ports: &[u16]) -> Policy {
    let segment = |name: &str, network: Option<u32>| Segment {
        name: name.to_owned(),
        vlan: None,
        ranges: Ranges {
            v4: network.map(|first| (first, first + 255)).into_iter().collect(),
            v6: Vec::new(),
        },
        zone: None,
        mode: ModeSetting::Enforce,
        ethertypes: BTreeSet::new(),
        routers: false,
        origin: origin(1),
    };
    let rules = ports.iter().enumerate().map(|(index, port)| Rule {
        name: format!("port-{port}"),
        kind: RuleKind::Flow,
        from: AddressSet { segments: [MODALITIES].into(), ranges: Ranges::default() },
        to: AddressSet { segments: [ARCHIVE].into(), ranges: Ranges::default() },
        services: vec![index],
        purpose: None,
        owner: None,
        review: None,
        unenforced: false,
        condition: None,
        through: None,
        limits: None,
        origin: origin(10 + u32::try_from(index).unwrap()),
    });
    let services = ports.iter().map(|port| Service {
        name: format!("tcp/{port}"),
        matches: vec![ServiceMatch::Tcp { source: ANY_PORT, destination: (*port, *port) }],
        class: ServiceClass::Clinical,
        phi: false,
        cleartext: false,
        standard: None,
        origin: None,
    });
    let access = |name: &str, segment| Interface {
        name: name.to_owned(),
        kind: InterfaceKind::Access(segment),
        routed: false,
        tunnel: None,
        origin: origin(5),
    };
    Policy {
        hash: format!("{ports:?}"),
        interfaces: vec![access("m0", MODALITIES), access("a0", ARCHIVE)],
        segments: vec![
            segment("wan", None),
            segment("gateway", None),
            segment("multicast", None),
            segment("unknown", None),
            segment("modalities", Some(0x0a00_0100)),
            segment("archive", Some(0x0a00_0200)),
        ],
        services: services.collect(),
        rules: rules.collect(),
        ..Policy::default()
    }
}

/// The policy, compiled.
pub(crate) fn image(ports: &[u16]) -> Image {
    compile(&policy(ports)).unwrap()
}

/// Interface numbers for test runs.
pub(crate) fn interfaces() -> BTreeMap<String, u32> {
    [("m0".to_owned(), 10), ("a0".to_owned(), 11)].into()
}

/// A TCP segment without options or payload, 10.0.1.5 to 10.0.2.9.
pub(crate) fn tcp(source_port: u16, port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 1, 5, 10, 0, 2, 9]);
    let checksum = internet_checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(source_port.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// TCP flags.
pub(crate) const SYN: u8 = 2;
/// TCP flags.
pub(crate) const ACK: u8 = 16;

fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

fn origin(line: u32) -> Origin {
    Origin { file: Arc::from("clinic.yaml"), line, column: 1 }
}
