//! Hosts of one VLAN, kept apart: where their ports are the gateway's own, and where a switch isolates its ports so
//! that all goes by the gateway.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use clinigate_tests::namespace::{End, Namespace, tool, wire};
use clinigate_tests::peers::mllp;
use clinigate_tests::run::Run;
use clinigate_tests::service::{self, Service, Setting};

use super::turn;
use super::witness::Witness;

const POLICY: &str = r#"
segments:
  pumps: { vlan: 70, subnets: [10.0.70.0/24, "fd00:70::/64"] }
devices:
  station: { segment: pumps, addresses: [10.0.70.10, "fd00:70::10"] }
flows:
  - { name: alarms, from: [pumps], to: [station], services: [hl7], purpose: alarms of pumps, owner: test }
"#;
/// For messages that should arrive.
const LONG: Duration = Duration::from_secs(20);
/// For others.
const SHORT: Duration = Duration::from_secs(2);
/// Hosts of the VLAN: two pumps and their station.
const HOSTS: [(&str, u8); 3] = [("pump-1", 11), ("pump-2", 12), ("station", 10)];

struct Ward {
    // Dropped first.
    _witness: Witness,
    hosts: Vec<Namespace>,
    // A namespace goes with its last owner, and the bridge in it.
    _switch: Namespace,
    setting: Setting,
    _service: Service,
    _run: Run,
}

fn end<'a>(namespace: &'a Namespace, interface: &'a str, mac: [u8; 6], addresses: &[String]) -> End<'a> {
    let length = |address: &IpAddr| if address.is_ipv4() { 24 } else { 64 };
    let parsed = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
    End { namespace, interface, mac, addresses: parsed.map(|address| (address, length(&address))).collect() }
}

fn bridge(namespace: &Namespace) {
    for scope in ["all", "default"] {
        namespace.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1").unwrap();
    }
    namespace.batch(&["link add br0 type bridge mcast_snooping 0".into(), "link set br0 up".into()]).unwrap();
}

impl Ward {
    /// `isolated`: on a switch that lets its ports talk to the gateway alone; else on ports of the gateway, which is a
    /// bridge.
    fn build(isolated: bool) -> Self {
        let run = Run::new().unwrap();
        let gateway = run.namespace("gateway").unwrap();
        let switch = run.namespace("switch").unwrap();
        let ports = if isolated { &switch } else { &gateway };
        bridge(ports);
        let mut hosts = Vec::new();
        for (name, number) in HOSTS {
            let host = run.namespace(name).unwrap();
            let addresses = [format!("10.0.70.{number}"), format!("fd00:70::{number}")];
            let mac = |end| [2, 0xc9, 2, 0, number, end];
            wire(&end(ports, name, mac(1), &[]), &end(&host, "eth0", mac(2), &addresses)).unwrap();
            let mut lines = vec![format!("link set {name} master br0")];
            if isolated {
                lines.push(format!("link set {name} type bridge_slave isolated on"));
            }
            ports.batch(&lines).unwrap();
            hosts.push(host);
        }
        let interfaces = if isolated {
            let router = ["10.0.70.1".to_owned(), "fd00:70::1".to_owned()];
            let mac = |end| [2, 0xc9, 2, 0, 1, end];
            wire(&end(&gateway, "ward0", mac(1), &router), &end(&switch, "up0", mac(2), &[])).unwrap();
            switch.batch(&["link set up0 master br0".to_owned()]).unwrap();
            gateway.sysctl("ipv4/ip_forward", "1").unwrap();
            // It answers for every host of the VLAN, and sends nobody straight to another.
            gateway.sysctl("ipv4/conf/ward0/proxy_arp_pvlan", "1").unwrap();
            for scope in ["all", "ward0"] {
                gateway.sysctl(&format!("ipv4/conf/{scope}/send_redirects"), "0").unwrap();
            }
            "ward0: { access: pumps }".to_owned()
        } else {
            HOSTS.map(|(name, _)| format!("{name}: {{ access: pumps }}")).join("\n  ")
        };
        for namespace in hosts.iter().chain([&gateway, &switch]) {
            namespace.wait_up().unwrap();
        }
        let policy = run.directory().join("policy");
        fs::create_dir_all(&policy).unwrap();
        fs::write(policy.join("policy.yaml"), format!("interfaces:\n  {interfaces}\n{POLICY}")).unwrap();
        let setting = Setting::at(&gateway, &run, service::binary().unwrap());
        let seen = hosts.iter().chain([&gateway, &switch]).cloned();
        let witness = Witness::new([setting.clone()], seen);
        let service = setting.start(&policy).unwrap();
        for (host, (_, number)) in hosts.iter().zip(HOSTS) {
            for address in [format!("10.0.70.{number}"), format!("[fd00:70::{number}]")] {
                let at: SocketAddr = format!("{address}:2575").parse().unwrap();
                let listener = host.run(|| TcpListener::bind(at)).unwrap().unwrap();
                std::thread::spawn(move || mllp::listen(&listener));
            }
        }
        Self { _witness: witness, hosts, _switch: switch, setting, _service: service, _run: run }
    }

    /// An HL7 message from one host to another, by number in [`HOSTS`].
    fn message(&self, from: usize, to: &str, wait: Duration) -> anyhow::Result<()> {
        let to: SocketAddr = format!("{to}:2575").parse().unwrap();
        self.hosts[from].run(|| mllp::send(to, "ALARM1", wait))?
    }

    fn dropped(&self) -> f64 {
        let labels = [("reason", "no-flow"), ("verdict", "drop"), ("direction", "out")];
        self.setting.metrics().unwrap().sum("clinigate_packets_total", &labels)
    }

    fn hold(&self, station: &str, other: &str) {
        self.message(0, station, LONG).unwrap();
        self.message(1, station, LONG).unwrap();
        let before = self.dropped();
        self.message(0, other, SHORT).unwrap_err();
        assert!(self.dropped() > before, "it was not the gateway that stopped it");
        self.message(2, other, SHORT).unwrap_err();
    }
}

#[test]
fn ports_of_the_gateway_in_one_vlan() {
    let Some(_turn) = turn() else { return };
    let ward = Ward::build(false);
    ward.hold("10.0.70.10", "10.0.70.12");
    ward.hold("[fd00:70::10]", "[fd00:70::12]");
}

#[test]
fn isolated_ports_of_a_switch_talk_by_the_gateway() {
    let Some(_turn) = turn() else { return };
    let ward = Ward::build(true);
    ward.hold("10.0.70.10", "10.0.70.12");
    // No neighbour discovery by proxy for a whole prefix: over IPv6 they do not find each other at all.
    ward.message(0, "[fd00:70::10]", SHORT).unwrap_err();
    let hosts = tool(ward.hosts[0].command("ip").args(["-6", "neigh", "show", "dev", "eth0"])).unwrap();
    assert!(!hosts.contains("REACHABLE"), "{hosts}");
}
