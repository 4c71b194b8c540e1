//! The built-in service catalogue: what hospitals' protocols listen on, each with the document
//! that says so.
//!
//! A policy can define services of its own beside these, so only ports with a source are here.

use std::fmt::Write as _;

use super::model::{ANY_PORT, Service, ServiceClass, ServiceMatch};

use ServiceClass::{Clinical, Control, Infrastructure, Unknown, Vendor};

/// Every built-in service, in the order of the reference.
pub fn builtin() -> Vec<Service> {
    ENTRIES.iter().map(Entry::service).collect()
}

/// The catalogue as a Markdown page: `docs/services.md`.
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    for entry in ENTRIES {
        let matches: Vec<String> = entry.matches.iter().map(describe).collect();
        writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} | {} |",
            entry.name,
            matches.join(", "),
            class_name(entry.class),
            if entry.phi { "yes" } else { "" },
            if entry.cleartext { "yes" } else { "" },
            entry.standard,
            entry.note,
        )
        .expect("writing to a String does not fail");
    }
    page
}

const HEAD: &str = "\
# Built-in services

Names that every policy can use under `services` without defining them. A port is that of the
listener; replies need no entry. *PHI*: carries protected health information. *Cleartext*: carries
what it carries unencrypted. A policy that wants another port defines a service of its own.

This page is generated from `gateway/src/policy/catalogue.rs`; a test keeps the two equal.

| Service | Listens on | Class | PHI | Cleartext | Standard | Note |
|---|---|---|---|---|---|---|
";

/// One service of the catalogue.
struct Entry {
    name: &'static str,
    matches: &'static [ServiceMatch],
    class: ServiceClass,
    phi: bool,
    cleartext: bool,
    standard: &'static str,
    note: &'static str,
}

impl Entry {
    fn service(&self) -> Service {
        Service {
            name: self.name.to_owned(),
            matches: self.matches.to_vec(),
            class: self.class,
            phi: self.phi,
            cleartext: self.cleartext,
            standard: Some(self.standard.to_owned()),
            origin: None,
        }
    }

    const fn phi(mut self) -> Self {
        self.phi = true;
        self
    }

    const fn cleartext(mut self) -> Self {
        self.cleartext = true;
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }
}

const fn entry(
    name: &'static str,
    class: ServiceClass,
    matches: &'static [ServiceMatch],
    standard: &'static str,
) -> Entry {
    Entry { name, matches, class, phi: false, cleartext: false, standard, note: "" }
}

const fn tcp(port: u16) -> ServiceMatch {
    ServiceMatch::Tcp { source: ANY_PORT, destination: (port, port) }
}

const fn udp(port: u16) -> ServiceMatch {
    ServiceMatch::Udp { source: ANY_PORT, destination: (port, port) }
}

/// ICMP and `ICMPv6` echo requests (RFC 792; RFC 4443, 4.1).
const ECHO: [ServiceMatch; 2] = [ServiceMatch::Icmp((8, 8)), ServiceMatch::Icmpv6((128, 128))];

const TRACEROUTE: ServiceMatch = ServiceMatch::Udp { source: ANY_PORT, destination: (33434, 33534) };

const ENTRIES: &[Entry] = &[
    // Images
    entry("dicom", Clinical, &[tcp(104), tcp(11112)], "DICOM PS3.8, 9.1.1; IANA acr-nema, dicom")
        .phi()
        .cleartext()
        .note("C-MOVE opens a second association, from the archive to the receiver: a flow of its own"),
    entry("dicom-tls", Clinical, &[tcp(2762)], "DICOM PS3.15, Annex B; IANA dicom-tls").phi(),
    entry("dicom-iscl", Clinical, &[tcp(2761)], "DICOM PS3.15, Annex B (retired); IANA dicom-iscl").phi(),
    entry("dicom-2345", Clinical, &[tcp(2345)], "none: DICOM PS3.8 lets a site choose the port")
        .phi()
        .cleartext()
        .note("seen in the field; never part of `dicom`"),
    entry("dicom-4242", Clinical, &[tcp(4242)], "none: DICOM PS3.8 lets a site choose the port")
        .phi()
        .cleartext()
        .note("seen in the field; never part of `dicom`"),
    entry("dicomweb", Clinical, &[tcp(443)], "DICOM PS3.18; RFC 9110, 4.2.2").phi(),
    // Messages and records
    entry("hl7", Clinical, &[tcp(2575)], "HL7 v2 Transport Specification, MLLP; IANA hl7")
        .phi()
        .cleartext()
        .note("many sites use other ports: define a service for them"),
    entry("fhir", Clinical, &[tcp(443)], "HL7 FHIR, RESTful API; RFC 9110, 4.2.2").phi(),
    entry("https", Clinical, &[tcp(443)], "RFC 9110, 4.2.2; IANA https").phi(),
    entry("http", Unknown, &[tcp(80)], "RFC 9110, 4.2.1; IANA http").cleartext(),
    entry("atna-tls", Clinical, &[tcp(6514)], "IHE ITI TF-2, ITI-20; DICOM PS3.15, Annex A; RFC 5425")
        .phi()
        .note("audit messages name patients"),
    entry("atna-udp", Clinical, &[udp(514)], "IHE ITI TF-2, ITI-20; DICOM PS3.15, Annex A; RFC 5426")
        .phi()
        .cleartext()
        .note("audit messages name patients"),
    // Devices at the bedside
    entry("sdc", Clinical, &[tcp(6464)], "IEEE 11073-20701; IANA ieee11073-20701").phi(),
    entry("ws-discovery", Clinical, &[udp(3702)], "OASIS WS-Discovery 1.1; IANA ws-discovery")
        .cleartext()
        .note("to the group 239.255.255.250 or ff02::c; the latter ends at the gateway"),
    entry(
        "intellivue",
        Clinical,
        &[udp(24105)],
        "Philips IntelliVue Data Export Interface Programming Guide",
    )
    .phi()
    .cleartext()
    .note("to the monitor"),
    entry(
        "intellivue-connect",
        Clinical,
        &[udp(24005)],
        "Philips IntelliVue Data Export Interface Programming Guide",
    )
    .cleartext()
    .note("connect indication, from the monitor"),
    entry("carescape-time", Clinical, &[udp(2000)], "GE CARESCAPE Network (manufacturer)").cleartext(),
    entry("carescape-discovery", Clinical, &[udp(7000)], "GE CARESCAPE Network (manufacturer)").cleartext(),
    entry("alaris", Clinical, &[tcp(3613)], "NIST SP 1800-8C; IANA alaris-disc")
        .phi()
        .cleartext()
        .note("pump to its server; newer releases encrypt"),
    // Buildings
    entry("bacnet", Control, &[udp(47808)], "ASHRAE 135, Annex J; IANA bacnet").cleartext(),
    // Files, screens, shells: the paths that worms take
    entry("smb", Unknown, &[tcp(445)], "MS-SMB2, 2.1; IANA microsoft-ds").note("worm path"),
    entry("netbios", Unknown, &[udp(137), udp(138), tcp(139)], "RFC 1002; IANA netbios-ns, -dgm, -ssn")
        .cleartext()
        .note("worm path"),
    entry("rdp", Vendor, &[tcp(3389), udp(3389)], "MS-RDPBCGR, 2.1; IANA ms-wbt-server").note("worm path"),
    entry("vnc", Vendor, &[tcp(5900)], "RFC 6143; IANA rfb").cleartext().note("worm path; display 0"),
    entry("telnet", Vendor, &[tcp(23)], "RFC 854; IANA telnet").cleartext().note("worm path"),
    entry("ftp", Unknown, &[tcp(21)], "RFC 959; IANA ftp")
        .cleartext()
        .note("worm path; control connection only"),
    entry("ssh", Vendor, &[tcp(22)], "RFC 4253, 4.1; IANA ssh"),
    // Databases
    entry("mssql", Clinical, &[tcp(1433)], "MS-TDS, 2.1; IANA ms-sql-s")
        .phi()
        .note("application to database"),
    entry("oracle", Clinical, &[tcp(1521)], "Oracle Net Services (manufacturer)")
        .phi()
        .cleartext()
        .note("application to database"),
    entry("cache", Clinical, &[tcp(1972)], "InterSystems Caché (manufacturer); IANA intersys-cache")
        .phi()
        .cleartext()
        .note("application to database"),
    // Infrastructure
    entry("dns", Infrastructure, &[udp(53), tcp(53)], "RFC 1035, 4.2; RFC 7766").cleartext(),
    entry("dhcp", Infrastructure, &[udp(67)], "RFC 2131, 4.1")
        .cleartext()
        .note("client or relay to server; a host's first request is a broadcast and ends at `gateway`"),
    entry("dhcpv6", Infrastructure, &[udp(547)], "RFC 8415, 7.2")
        .cleartext()
        .note("likewise: ff02::1:2 ends at `gateway`"),
    entry("ntp", Infrastructure, &[udp(123)], "RFC 5905, 7.2; IANA ntp").cleartext(),
    entry("ldap", Infrastructure, &[tcp(389), udp(389)], "RFC 4511, 5.2; MS-ADTS (udp)").cleartext(),
    entry("ldaps", Infrastructure, &[tcp(636)], "IANA ldaps"),
    entry("kerberos", Infrastructure, &[tcp(88), udp(88)], "RFC 4120, 7.2"),
    entry("syslog", Infrastructure, &[udp(514)], "RFC 5426, 3.3; IANA syslog").cleartext(),
    entry("syslog-tls", Infrastructure, &[tcp(6514)], "RFC 5425, 4.1; IANA syslog-tls"),
    entry("snmp", Infrastructure, &[udp(161)], "RFC 3417, 3.1; IANA snmp")
        .cleartext()
        .note("version 3 encrypts"),
    entry("snmp-trap", Infrastructure, &[udp(162)], "RFC 3417, 3.1; IANA snmptrap")
        .cleartext()
        .note("version 3 encrypts"),
    entry("ping", Infrastructure, &ECHO, "RFC 792; RFC 4443, 4.1").note("echo requests"),
    entry("traceroute", Infrastructure, &[TRACEROUTE], "IANA traceroute; RFC 2151, 3.4")
        .note("a probe takes the next port; the answers are ICMP errors and pass with it"),
    // Printers
    entry("print-raw", Clinical, &[tcp(9100)], "IANA hp-pdl-datastr").phi().cleartext(),
    entry("ipp", Clinical, &[tcp(631)], "RFC 8010, 4; IANA ipp").phi().cleartext(),
    // Tunnels
    entry("ike", Vendor, &[udp(500)], "RFC 7296, 2; IANA isakmp"),
    entry("nat-t", Vendor, &[udp(4500)], "RFC 7296, 2; RFC 3948; IANA ipsec-nat-t"),
    entry("esp", Vendor, &[ServiceMatch::Protocol(50)], "RFC 4303"),
    entry("ah", Vendor, &[ServiceMatch::Protocol(51)], "RFC 4302")
        .cleartext()
        .note("signs, does not encrypt"),
    entry("gre", Vendor, &[ServiceMatch::Protocol(47)], "RFC 2784").cleartext(),
    entry("wireguard", Vendor, &[udp(51820)], "wg-quick(8): the customary port"),
    entry("openvpn", Vendor, &[udp(1194)], "IANA openvpn"),
];

fn describe(found: &ServiceMatch) -> String {
    match *found {
        ServiceMatch::Tcp { destination, .. } => format!("tcp {}", range(destination)),
        ServiceMatch::Udp { destination, .. } => format!("udp {}", range(destination)),
        ServiceMatch::Icmp((first, last)) => format!("icmp type {}", range((first.into(), last.into()))),
        ServiceMatch::Icmpv6((first, last)) => format!("icmpv6 type {}", range((first.into(), last.into()))),
        ServiceMatch::Protocol(number) => format!("protocol {number}"),
    }
}

fn range((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// A class as policies write it.
pub const fn class_name(class: ServiceClass) -> &'static str {
    match class {
        Clinical => "clinical",
        Control => "control",
        Vendor => "vendor",
        Infrastructure => "infrastructure",
        Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_unique_and_can_be_written_in_a_policy() {
        let services = builtin();
        let names: BTreeSet<&str> = services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names.len(), services.len());
        for name in names {
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
        }
    }

    #[test]
    fn every_service_matches_something_and_has_a_standard() {
        for service in builtin() {
            assert!(!service.matches.is_empty(), "{}", service.name);
            assert!(service.standard.is_some_and(|standard| !standard.is_empty()), "{}", service.name);
            for found in &service.matches {
                // These four have matches of their own: see `ServiceMatch::Protocol`.
                assert!(!matches!(found, ServiceMatch::Protocol(1 | 6 | 17 | 58)), "{}", service.name);
            }
        }
    }

    #[test]
    fn field_variants_of_dicom_are_opt_in() {
        let dicom = builtin().into_iter().find(|service| service.name == "dicom").unwrap();
        assert_eq!(dicom.matches, [tcp(104), tcp(11112)]);
    }

    /// `CLINIGATE_WRITE_DOCS=1 cargo test -p clinigate catalogue` writes the page anew.
    #[test]
    fn the_page_in_docs_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/services.md");
        if std::env::var_os("CLINIGATE_WRITE_DOCS").is_some() {
            fs::write(&path, reference()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), reference());
    }
}
