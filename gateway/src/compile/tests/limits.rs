//! What does not fit, and what is made to fit.

use super::*;

#[test]
fn too_much_is_refused_with_the_limit_and_the_remedy() {
    let mut policy = two_segments();
    // Each host its own rule both ways: 9,000 classes of sources times as many of destinations.
    policy.rules = (0..9000u32)
        .map(|host| {
            let address = 0x1400_0000 + 2 * host;
            rule(RuleKind::Flow, range(address, address), range(address, address))
        })
        .collect();
    let error = compile(&policy).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the tables would take at least 311 MiB, more than the limit of 256 MiB; 310 MiB of it is for pairs of \
         address classes: give devices that are treated alike one group, and rules groups instead of single \
         devices"
    );

    let mut policy = two_segments();
    policy.segments = vec![policy.segments[4].clone(); SEGMENT_LIMIT + 1];
    let error = compile(&policy).unwrap_err();
    assert_eq!(error, CompileError::Segments { count: SEGMENT_LIMIT + 1, limit: SEGMENT_LIMIT });

    let mut policy = two_segments();
    let last = policy.segments[5].clone();
    let fill = (6..SEGMENT_LIMIT).map(|_| Segment { ranges: Ranges::default(), ..last.clone() });
    policy.segments.extend(fill);
    assert_eq!(compile(&policy).unwrap().segments.len(), SEGMENT_LIMIT);
}

/// From everywhere to each of so many hosts and from each to everywhere: each pair has rules of its own.
fn crossing(hosts: u32, services: u16) -> Policy {
    let mut policy = two_segments();
    let service = policy.services[0].clone();
    let tcp = |port| ServiceMatch::Tcp { source: ANY_PORT, destination: (port, port) };
    policy.services =
        (1..=services).map(|port| Service { matches: vec![tcp(port)], ..service.clone() }).collect();
    let everywhere = || range(0x0b00_0000, 0xdfff_ffff);
    let host = |n: u32| range(0x1400_0000 + 2 * n, 0x1400_0000 + 2 * n);
    let with = |n: u32, rule: Rule| Rule { services: vec![n as usize % usize::from(services)], ..rule };
    policy.rules = (0..hosts)
        .flat_map(|n| {
            let inwards = with(n, rule(RuleKind::Flow, everywhere(), host(n)));
            let outwards = with(n + 1, rule(RuleKind::Flow, host(n), everywhere()));
            [inwards, outwards]
        })
        .collect();
    policy
}

#[test]
fn rules_that_cross_too_often_for_one_table_are_in_layers() {
    // Rows of 201 cells, 90,601 or 40,401 of them: 69 MiB or 31 MiB.
    let crossed = compile(&crossing(300, 200)).unwrap();
    assert_eq!((crossed.config.layered, crossed.layer_sources.len()), (1, 302));
    assert!(crossed.manifest.table_bytes < 5 << 20, "{}", crossed.manifest.table_bytes);
    let alone = compile(&crossing(200, 200)).unwrap();
    assert_eq!((alone.config.layered, alone.layer_sources.len()), (0, 0));
    assert!(alone.manifest.table_bytes > 31 << 20, "{}", alone.manifest.table_bytes);
    let layered = compile_as(&crossing(200, 200), Layering::Always).unwrap();
    let host = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x1400_0000 + 2 * n));
    for (source, destination) in [(3, 8), (8, 3), (199, 0), (0, 199), (7, 7), (7, 4000)] {
        for port in 1..=201 {
            let transport = Transport::Tcp { source: 50000, destination: port };
            let cell = |image: &Image| {
                let [source, destination] = [source, destination].map(|n| image.atom(host(n)).unwrap());
                image.lookup(0, source, destination, transport).unwrap()
            };
            assert_eq!(cell(&layered), cell(&alone), "{source} to {destination}, port {port}");
        }
    }
}

/// Each service has its own destination port or its own source port: a packet is in one of each, or in none.
#[test]
fn services_that_cross_too_often_are_refused() {
    let mut policy = two_segments();
    let service = policy.services[0].clone();
    policy.services = (0..300u16)
        .flat_map(|n| {
            let port = 2 * n + 10;
            [(ANY_PORT, (port, port)), ((port, port), ANY_PORT)]
        })
        .map(|(source, destination)| Service {
            matches: vec![ServiceMatch::Tcp { source, destination }],
            ..service.clone()
        })
        .collect();
    policy.rules = vec![rule(RuleKind::Flow, whole(4), whole(5))];
    policy.rules[0].services = (0..policy.services.len()).collect();
    let error = compile(&policy).unwrap_err();
    assert_eq!(error, CompileError::ServiceClasses { what: "service", count: 65_537, limit: 65_536 });
}

#[test]
fn too_many_service_classes_are_refused() {
    let port = |number: u32| {
        let ports = u16::try_from(number % (1 << 16)).unwrap();
        let destination = (ports, ports);
        match number >> 16 {
            0 => ServiceMatch::Tcp { source: ANY_PORT, destination },
            _ => ServiceMatch::Udp { source: ANY_PORT, destination },
        }
    };
    let with = |services: u32| {
        let mut policy = two_segments();
        let service = policy.services[0].clone();
        policy.services =
            (0..services).map(|number| Service { matches: vec![port(number)], ..service.clone() }).collect();
        let all = (0..policy.services.len()).collect();
        policy.rules = vec![Rule { services: all, ..rule(RuleKind::Flow, whole(4), whole(5)) }];
        compile(&policy)
    };
    // What no service names is a class, too.
    assert_eq!(with((1 << 16) - 1).unwrap().config.services, 1 << 16);
    let what = "destination port";
    let error = CompileError::ServiceClasses { what, count: (1 << 16) + 1, limit: 1 << 16 };
    assert_eq!(with(1 << 16).unwrap_err(), error);
}

#[test]
fn table_bytes_are_those_of_the_tables() {
    let mut policy = two_segments();
    policy.rules = vec![rule(RuleKind::Flow, whole(4), whole(5))];
    let image = compile(&policy).unwrap();
    let bytes = |image: &Image| {
        let words = image.v4.len() + image.v6.len() + image.pairs.len() + image.verdicts.len();
        let classes = image.services.len() + image.source_ports.len() + image.matrix.len();
        let atoms = image.atoms.len() * size_of::<Atom>();
        let lanes = (image.layer_sources.len() + image.layer_destinations.len()) * size_of::<Lanes>();
        (4 * words + 2 * classes + atoms + lanes) as u64
    };
    assert_eq!((image.manifest.table_bytes, image.layer_sources.len()), (bytes(&image), 0));
    let image = compile_as(&policy, Layering::Always).unwrap();
    assert_eq!((image.manifest.table_bytes, image.layer_sources.len()), (bytes(&image), 2));
    policy.rules.push(rule(RuleKind::Flow, range(0x0a00_0009, 0x0a00_0009), whole(5)));
    policy.services[0].matches = vec![
        ServiceMatch::Udp { source: (68, 69), destination: (67, 67) },
        ServiceMatch::Udp { source: ANY_PORT, destination: (68, 68) },
    ];
    let image = compile_as(&policy, Layering::Always).unwrap();
    assert_eq!(image.manifest.table_bytes, bytes(&image));
    assert_eq!((image.layer_sources.len(), image.layer_destinations.len(), image.matrix.len()), (3, 2, 6));
}
