//! The rules of a hospital.

use std::net::Ipv4Addr;

use super::{CLIENTS, Dice, Hospital, Host, KINDS, SegmentIndex, device, line, name};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A service of the catalogue: name, IP protocol number, port.
pub(super) type Service = (&'static str, u8, u16);

const BACNET: Service = ("bacnet", UDP, 47808);
const DICOM: Service = ("dicom", TCP, 104);
const DICOM_TLS: Service = ("dicom-tls", TCP, 2762);
const DNS: Service = ("dns", UDP, 53);
const HL7: Service = ("hl7", TCP, 2575);
const HTTPS: Service = ("https", TCP, 443);
const INTELLIVUE: Service = ("intellivue", UDP, 24105);
const LDAPS: Service = ("ldaps", TCP, 636);
const NTP: Service = ("ntp", UDP, 123);
const PUMP: Service = ("alaris", TCP, 3613);
const PRINT: Service = ("print-raw", TCP, 9100);
const RDP: Service = ("rdp", TCP, 3389);
const SMB: Service = ("smb", TCP, 445);
const SNMP_TRAP: Service = ("snmp-trap", UDP, 162);
const SSH: Service = ("ssh", TCP, 22);
const SYSLOG: Service = ("syslog", UDP, 514);

/// Kinds by their place in [`CLIENTS`], then [`super::SERVERS`].
const PACS: usize = 8;
const RIS: usize = 9;
const LIS: usize = 10;
const INTEGRATION: usize = 11;
const PUMP_SERVERS: usize = 12;
const MONITOR_GATEWAYS: usize = 13;
const INFRASTRUCTURE: usize = 14;

/// What each site allows between whole segments: from, to, service. The first ten are a policy by themselves.
pub(super) const BETWEEN_SEGMENTS: [(usize, usize, Service); 20] = [
    (0, INFRASTRUCTURE, DNS),
    (0, INTEGRATION, HTTPS),
    (1, INFRASTRUCTURE, DNS),
    (1, INFRASTRUCTURE, LDAPS),
    (2, INFRASTRUCTURE, DNS),
    (2, PACS, HTTPS),
    (3, INFRASTRUCTURE, NTP),
    (4, INFRASTRUCTURE, NTP),
    (5, INFRASTRUCTURE, NTP),
    (6, INTEGRATION, HTTPS),
    (0, INFRASTRUCTURE, NTP),
    (1, INFRASTRUCTURE, NTP),
    (2, INFRASTRUCTURE, NTP),
    (7, INFRASTRUCTURE, NTP),
    (PACS, INFRASTRUCTURE, DNS),
    (RIS, INTEGRATION, HL7),
    (LIS, INTEGRATION, HL7),
    (INTEGRATION, LIS, HL7),
    (INTEGRATION, RIS, HL7),
    (PUMP_SERVERS, INTEGRATION, HL7),
];

/// What a device of each client kind may need: to a server of which kind, and which service.
const OF_DEVICES: [[(usize, Service); 5]; CLIENTS.len()] = [
    [(RIS, HTTPS), (LIS, HTTPS), (INFRASTRUCTURE, LDAPS), (INFRASTRUCTURE, SYSLOG), (INFRASTRUCTURE, PRINT)],
    [(PACS, DICOM), (PACS, DICOM_TLS), (RIS, DICOM), (INFRASTRUCTURE, SYSLOG), (INFRASTRUCTURE, PRINT)],
    [(PACS, DICOM), (RIS, HTTPS), (RIS, DICOM), (INFRASTRUCTURE, SYSLOG), (INFRASTRUCTURE, LDAPS)],
    [(LIS, HL7), (LIS, HTTPS), (INTEGRATION, HL7), (INFRASTRUCTURE, SYSLOG), (INFRASTRUCTURE, DNS)],
    [
        (PUMP_SERVERS, PUMP),
        (PUMP_SERVERS, HTTPS),
        (INTEGRATION, HL7),
        (INFRASTRUCTURE, SYSLOG),
        (INFRASTRUCTURE, SNMP_TRAP),
    ],
    [
        (MONITOR_GATEWAYS, INTELLIVUE),
        (MONITOR_GATEWAYS, HL7),
        (INTEGRATION, HL7),
        (INFRASTRUCTURE, SYSLOG),
        (INFRASTRUCTURE, DNS),
    ],
    [(LIS, HL7), (INTEGRATION, HL7), (INFRASTRUCTURE, SYSLOG), (INFRASTRUCTURE, NTP), (INFRASTRUCTURE, DNS)],
    [
        (INFRASTRUCTURE, BACNET),
        (INFRASTRUCTURE, HTTPS),
        (INTEGRATION, HTTPS),
        (INFRASTRUCTURE, SYSLOG),
        (INFRASTRUCTURE, SNMP_TRAP),
    ],
];

/// Accesses of one vendor.
const ACCESSES: usize = 10;
/// Devices of a segment that vendors service and denies protect, at most.
const SERVICED: usize = 4;

/// One end of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Segment(SegmentIndex),
    Device(Host),
    /// A vendor, by its number.
    Vendor(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flow,
    Vendor,
    Deny,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) kind: Kind,
    pub(super) from: End,
    pub(super) to: End,
    pub(super) service: Service,
}

/// `all` rules, of which so many are between segments, of vendors, and denies.
pub(super) fn make(
    hospital: &Hospital,
    between_segments: usize,
    vendors: usize,
    denies: usize,
    all: usize,
) -> Vec<Rule> {
    let mut dice = Dice(all as u64);
    let mut rules = Vec::with_capacity(all);
    for number in 0..between_segments {
        let (site, number) = (number / BETWEEN_SEGMENTS.len() * KINDS, number % BETWEEN_SEGMENTS.len());
        let (from, to, service) = BETWEEN_SEGMENTS[number];
        let (from, to) = (End::Segment(site + from), End::Segment(site + to));
        rules.push(Rule { kind: Kind::Flow, from, to, service });
    }
    for number in 0..vendors {
        let service = [HTTPS, SSH, RDP][number % 3];
        let (from, to) = (End::Vendor(number / ACCESSES), End::Device(serviced(hospital, &mut dice)));
        rules.push(Rule { kind: Kind::Vendor, from, to, service });
    }
    for number in 0..denies {
        let from = dice.below(hospital.sites) * KINDS + dice.below(CLIENTS.len());
        let service = [SMB, RDP][number % 2];
        let to = End::Device(serviced(hospital, &mut dice));
        rules.push(Rule { kind: Kind::Deny, from: End::Segment(from), to, service });
    }
    let devices = hospital.sites * CLIENTS.len() * hospital.clients;
    let of_devices = (0..5).flat_map(|option| (0..devices).map(move |device| (device, option)));
    for (device, option) in of_devices.take(all - rules.len()) {
        let (kind, rest) = (device % CLIENTS.len(), device / CLIENTS.len());
        let (site, number) = (rest % hospital.sites * KINDS, rest / hospital.sites);
        let (server, service) = OF_DEVICES[kind][option];
        let server = Host { segment: site + server, number: dice.below(hospital.servers) };
        let from = End::Device(Host { segment: site + kind, number });
        rules.push(Rule { kind: Kind::Flow, from, to: End::Device(server), service });
    }
    rules
}

fn serviced(hospital: &Hospital, dice: &mut Dice) -> Host {
    let segment = dice.below(hospital.sites) * KINDS + dice.below(CLIENTS.len());
    Host { segment, number: dice.below(hospital.clients.min(SERVICED)) }
}

/// The text of rules, the first of which has this number.
pub(super) fn text(rules: &[Rule], first: usize) -> String {
    let mut text = String::new();
    let numbered: Vec<(usize, &Rule)> = (first..).zip(rules).collect();
    for (key, kind) in [("flows", Kind::Flow), ("deny", Kind::Deny)] {
        let mut of_kind = numbered.iter().filter(|(_, rule)| rule.kind == kind).peekable();
        if of_kind.peek().is_some() {
            line(&mut text, format_args!("{key}:"));
        }
        for (number, Rule { from, to, service, .. }) in of_kind {
            let (from, to) = (end(*from), end(*to));
            line(
                &mut text,
                format_args!(
                    "  - {{ name: r{number}, from: [{from}], to: [{to}], services: [{}], \
                     purpose: Work order {number}, owner: network }}",
                    service.0
                ),
            );
        }
    }
    let accesses = numbered.iter().filter(|(_, rule)| rule.kind == Kind::Vendor);
    let mut last = None;
    for (number, rule) in accesses {
        let End::Vendor(vendor) = rule.from else { continue };
        if last.is_none() {
            text += "vendors:\n";
        }
        if last != Some(vendor) {
            let source = Ipv4Addr::from_bits(0xc612_0000 + u32::try_from(vendor).expect("few vendors") * 8);
            line(
                &mut text,
                format_args!("  vendor-{first}-{vendor}:\n    sources: [{source}/29]\n    access:"),
            );
        }
        last = Some(vendor);
        line(
            &mut text,
            format_args!(
                "      - {{ name: r{number}, to: [{}], services: [{}], purpose: Service, owner: network }}",
                end(rule.to),
                rule.service.0
            ),
        );
    }
    text
}

fn end(end: End) -> String {
    match end {
        End::Segment(segment) => name(segment),
        End::Device(host) => device(host),
        End::Vendor(vendor) => format!("vendor-{vendor}"),
    }
}
