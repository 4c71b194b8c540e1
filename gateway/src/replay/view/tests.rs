#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn ethernet(tags: &[(u16, u16)], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (kind, tag) in tags {
        frame.extend([kind.to_be_bytes(), tag.to_be_bytes()].concat());
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(body);
    frame
}

fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 1];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let source: Ipv6Addr = "fd00::1".parse().unwrap();
    let destination: Ipv6Addr = "fd00::2".parse().unwrap();
    [&[0x60, 0, 0, 0, 0, 0, next, 64][..], &source.octets(), &destination.octets(), payload].concat()
}

const PORTS: [u8; 8] = [0x9c, 0x40, 0, 104, 0, 0, 0, 0];

#[test]
fn tags_and_ports() {
    let body = ipv4(6, 0, &PORTS);
    let view = View::of(&ethernet(&[], 0x0800, &body));
    assert_eq!((view.tag, view.service, view.ports), (None, Service::Tcp(104), Some((40_000, 104))));
    assert_eq!(view.headers, 14 + 20 + 20);
    assert_eq!(view.source.unwrap().to_string(), "10.0.0.1");
    let view = View::of(&ethernet(&[(0x8100, 0x2029)], 0x0800, &body));
    assert_eq!((view.tag, view.service), (Some((0, 41)), Service::Tcp(104)));
    let view = View::of(&ethernet(&[(0x88a8, 7), (0x8100, 41)], 0x0800, &body));
    assert_eq!((view.tag, view.service), (Some((7, 41)), Service::Tcp(104)));
}

#[test]
fn fragments_and_extension_headers() {
    let later = View::of(&ethernet(&[], 0x0800, &ipv4(17, 0x00b9, &PORTS)));
    assert_eq!((later.service, later.ports), (Service::Fragment(17), None));
    let extended = [&[44, 0, 0, 0, 0, 0, 0, 0][..], &[17, 0, 0, 0, 0, 0, 0, 1], &PORTS].concat();
    assert_eq!(View::of(&ethernet(&[], 0x86dd, &ipv6(0, &extended))).service, Service::Udp(104));
    let later = [&[17, 0, 0, 8, 0, 0, 0, 1][..], &PORTS].concat();
    assert_eq!(View::of(&ethernet(&[], 0x86dd, &ipv6(44, &later))).service, Service::Fragment(17));
}

#[test]
fn services_are_written_as_policies_write_them() {
    let service = |kind, body: &[u8]| View::of(&ethernet(&[], kind, body)).service.to_string();
    assert_eq!(service(0x0800, &ipv4(1, 0, &[8, 0, 0, 0])), "icmp/8");
    assert_eq!(service(0x0800, &ipv4(58, 0, &[8, 0, 0, 0])), "protocol/58");
    assert_eq!(service(0x86dd, &ipv6(58, &[135, 0, 0, 0])), "icmpv6/135");
    assert_eq!(service(0x0800, &ipv4(50, 0, &[])), "protocol/50");
    assert_eq!(service(0x0806, &[0; 28]), "arp");
    assert_eq!(service(0x88cc, &[]), "ethertype/0x88cc");
}

/// An error's judgement hangs on what it quotes: a packet that was cut before that is not judged.
#[test]
fn what_an_error_quotes_belongs_to_its_headers() {
    let echo = View::of(&ethernet(&[], 0x0800, &ipv4(1, 0, &[8, 0, 0, 0])));
    let error = View::of(&ethernet(&[], 0x0800, &ipv4(1, 0, &[3, 4, 0, 0])));
    assert_eq!((echo.headers, error.headers), (42, 42 + QUOTED));
}

#[test]
fn every_length_of_a_frame_can_be_read() {
    let bodies = [
        (0x0800, ipv4(6, 0, &PORTS)),
        (0x86dd, ipv6(0, &[6, 0, 0, 0, 0, 0, 0, 0, 0x9c, 0x40, 0, 104])),
        (0x0806, vec![1; 28]),
    ];
    for (kind, body) in bodies {
        let frame = ethernet(&[(0x88a8, 7), (0x8100, 41)], kind, &body);
        for length in 0..frame.len() {
            let view = View::of(&frame[..length]);
            assert!(view.headers > length || view.service != Service::Nothing, "{length}: {view:?}");
        }
    }
}

#[test]
fn headers_are_needed_as_far_as_they_are_read() {
    let options = [60, 0, 0, 0, 0, 0, 0, 0];
    let chain = [&options[..], &options, &options, &options, &options, &[17, 0, 0, 0, 0, 0, 0, 0]].concat();
    let quoting = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &ipv6(60, &[&chain[..], &PORTS].concat())].concat();
    let frame = ethernet(&[], 0x86dd, &ipv6(58, &quoting));
    assert_eq!(
        View::of(&frame).headers,
        frame.len() - PORTS.len() + 20,
        "to the ports that the error quotes"
    );
    let chained = ethernet(&[], 0x86dd, &ipv6(60, &chain));
    for cut in 54..chained.len() {
        assert!(View::of(&chained[..cut]).headers > cut, "{cut} bytes do not tell what follows");
    }
}
