//! Frames that connections do not send: ARP, options, extension headers, neighbour discovery, tags.
//! All from hosts of segment alpha of the ward, and some of them allowed.

use std::net::Ipv6Addr;

const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// The frames.
pub(super) fn frames() -> Vec<Vec<u8>> {
    let mut frames = kinds();
    frames.extend(limits());
    frames
}

/// Frames at and beyond what is read: chains, offsets, flags, lengths, errors.
fn limits() -> Vec<Vec<u8>> {
    let there = ([10, 0, 1, 5], [10, 0, 2, 5]);
    let hosts = ("fd00:1::5", "fd00:2::5");
    let udp = |length: u8| [0, 1, 0, 53, 0, length, 0, 0, 1, 2, 3, 4];
    let tcp = |words: u8, flags: u8| {
        [0, 1, 0, 104, 0, 0, 0, 1, 0, 0, 0, 0, words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]
    };
    let quote = ipv4(17, 0, &[], &udp(12), (there.1, there.0));
    let quote6 = ipv6(17, 64, &udp(12), (hosts.1, hosts.0));
    let error = |kind: u8, quote: &[u8]| [&[kind, 0, 0, 0, 0, 0, 0, 0][..], quote].concat();
    let mut frames = Vec::new();
    for count in 5..8 {
        let options = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count - 1);
        let chain = [&options[..], &[17, 0, 1, 4, 0, 0, 0, 0], &udp(12)].concat();
        frames.push(ethernet(0x86dd, &ipv6(60, 64, &chain, hosts)));
        frames.push(ethernet(0x0800, &ipv4(17, 0, &[1].repeat(4 * count - 16), &udp(12), there)));
    }
    for offset in 1..4 {
        let part = [&[6, 0, 0, offset << 3, 0, 0, 0, 9][..], &[0; 16]].concat();
        frames.push(ethernet(0x86dd, &ipv6(44, 64, &part, hosts)));
        frames.push(ethernet(0x0800, &ipv4(6, u16::from(offset), &[], &[0; 24], there)));
    }
    // FIN, SYN, RST, ACK, URG in every combination; PSH does not matter.
    for flags in (0..0x40).filter(|flags| flags & 0x08 == 0) {
        frames.push(ethernet(0x0800, &ipv4(6, 0, &[], &tcp(5, flags), there)));
    }
    for words in [4, 6] {
        frames.push(ethernet(0x0800, &ipv4(6, 0, &[], &tcp(words, 2), there)));
    }
    for length in [7, 8, 13] {
        frames.push(ethernet(0x0800, &ipv4(17, 0, &[], &udp(length), there)));
    }
    for kind in [3, 4, 5, 11, 12] {
        frames.push(ethernet(0x0800, &ipv4(1, 0, &[], &error(kind, &quote), there)));
    }
    for kind in 0..6 {
        frames.push(ethernet(0x86dd, &ipv6(58, 64, &error(kind, &quote6), hosts)));
    }
    frames
}

/// Frames of every kind.
fn kinds() -> Vec<Vec<u8>> {
    let udp = [0, 1, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let syn = [0, 1, 0, 104, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
    let hosts = ("fd00:1::5", "fd00:2::5");
    let arp = |operation: u8, from: [u8; 4]| {
        let head = [0, 1, 8, 0, 6, 4, 0, operation];
        ethernet(0x0806, &[&head[..], &SENDER, &from, &[0; 6], &[10, 0, 1, 1]].concat())
    };
    let neighbour = |kind: u8, body: &[u8]| [&[kind, 0, 0, 0, 0, 0, 0, 0][..], body].concat();
    let target: Ipv6Addr = "fd00:1::5".parse().expect("an address");
    let to_all = ("fe80::5", "ff02::1");
    let chain = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 1, 4, 0, 0, 0, 0], &udp].concat();
    let routed = [&[17, 0, 4, 0, 0, 0, 0, 0][..], &udp].concat();
    let sealed = [&[17, 4][..], &[0; 22], &udp].concat();
    let first = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &udp, &[0; 4]].concat();
    let later = [&[17, 0, 0, 16, 0, 0, 0, 9][..], &[0; 16]].concat();
    let report = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &neighbour(143, &[4, 0, 0, 0])].concat();
    let quote =
        [&[3, 4, 0, 0, 0, 0, 5, 0x78][..], &ipv4(17, 0, &[], &udp, ([10, 0, 1, 5], [10, 0, 2, 5]))].concat();
    let there = ([10, 0, 1, 5], [10, 0, 2, 5]);
    let packet = ipv4(6, 0, &[], &syn, there);
    vec![
        arp(1, [10, 0, 1, 5]),
        arp(2, [10, 0, 1, 5]),
        arp(1, [0; 4]),
        ethernet(0x0800, &ipv4(17, 0, &[148, 4, 0, 0, 1, 1, 1, 0], &udp, there)),
        ethernet(0x0800, &ipv4(17, 0, &[131, 7, 4, 10, 0, 2, 9, 0], &udp, there)),
        ethernet(0x0800, &ipv4(17, 0x2000, &[], &udp, there)),
        ethernet(0x0800, &ipv4(17, 2, &[], &[0; 24], there)),
        ethernet(
            0x0800,
            &ipv4(
                2,
                0,
                &[148, 4, 0, 0],
                &[0x16, 0, 0, 0, 239, 255, 255, 250],
                (there.0, [239, 255, 255, 250]),
            ),
        ),
        ethernet(0x0800, &ipv4(1, 0, &[], &quote, (there.1, there.0))),
        ethernet(0x86dd, &ipv6(0, 64, &chain, hosts)),
        ethernet(0x86dd, &ipv6(43, 64, &routed, hosts)),
        ethernet(0x86dd, &ipv6(51, 64, &sealed, hosts)),
        ethernet(0x86dd, &ipv6(44, 64, &first, hosts)),
        ethernet(0x86dd, &ipv6(44, 64, &later, hosts)),
        ethernet(0x86dd, &ipv6(58, 255, &neighbour(133, &[]), to_all)),
        ethernet(0x86dd, &ipv6(58, 255, &neighbour(134, &[0; 8]), to_all)),
        ethernet(0x86dd, &ipv6(58, 255, &neighbour(135, &target.octets()), to_all)),
        ethernet(0x86dd, &ipv6(58, 255, &neighbour(136, &target.octets()), to_all)),
        ethernet(0x86dd, &ipv6(0, 1, &report, ("fe80::5", "ff02::16"))),
        ethernet(0x88cc, &[2, 7, 4, 0, 0, 0, 0]),
        ethernet(0x0026, &[0x42, 0x42, 3]),
        ethernet(0x8100, &[&[0, 30, 8, 0][..], &packet].concat()),
        ethernet(0x88a8, &[&[0, 100, 0x81, 0, 0, 40, 8, 0][..], &packet].concat()),
        ethernet(0x8100, &[&[0xe0, 0, 8, 0][..], &packet].concat()),
    ]
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1][..], &SENDER, &kind.to_be_bytes(), payload].concat()
}

fn ipv4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8], ends: ([u8; 4], [u8; 4])) -> Vec<u8> {
    let header = 20 + options.len();
    let total = u16::try_from(header + payload.len()).expect("seeds are short").to_be_bytes();
    let first = 0x40 | u8::try_from(header / 4).expect("a header has at most 60 bytes");
    // Group membership is of the link alone.
    let hops = if protocol == 2 { 1 } else { 64 };
    let head = [first, 0, total[0], total[1], 0, 9];
    let rest = [hops, protocol, 0, 0];
    [&head[..], &fragment.to_be_bytes(), &rest, &ends.0, &ends.1, options, payload].concat()
}

fn ipv6(next: u8, hops: u8, payload: &[u8], (source, destination): (&str, &str)) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("seeds are short").to_be_bytes();
    let octets = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
    [&[0x60, 0, 0, 0, length[0], length[1], next, hops][..], &octets(source), &octets(destination), payload]
        .concat()
}
