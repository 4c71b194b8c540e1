//! Words from outside: of a command line, and of a peer on the control socket.
//!
//! The first byte chooses the reader.

use clinigate::assure::explain::explain;
use clinigate::assure::reach::{Question, Reach};
use clinigate::assure::space::Space;
use clinigate::daemon::control::{Reply, Request, Rights};
use clinigate::packet::Transport;
use clinigate::policy::Selection;
use clinigate::policy::expectation::{Words, resolve_inquiry};
use clinigate::policy::render::Report;
use clinigate::testing::words;

use crate::policies;

/// Reads an input.
///
/// # Panics
/// Where a promise is broken.
pub fn run(bytes: &[u8]) {
    let Some((reader, rest)) = bytes.split_first() else { return };
    match reader % 4 {
        0 => packet(&String::from_utf8_lossy(rest)),
        1 => inquiry(&String::from_utf8_lossy(rest)),
        2 => request(rest),
        _ => reply(rest),
    }
}

/// `explain --packet`: what was read is written as it is read.
fn packet(text: &str) {
    let Ok((port, view)) = words::packet(text) else { return };
    let (source, destination) = (view.source, view.destination);
    assert_eq!(source.is_ipv4(), destination.is_ipv4(), "a packet has one IP version");
    let what = match view.transport {
        Transport::Tcp { source: from, destination: to } => {
            format!(
                "tcp {} -> {}",
                std::net::SocketAddr::new(source, from),
                std::net::SocketAddr::new(destination, to)
            )
        }
        Transport::Udp { source: from, destination: to } => {
            format!(
                "udp {} -> {}",
                std::net::SocketAddr::new(source, from),
                std::net::SocketAddr::new(destination, to)
            )
        }
        Transport::Icmp(kind) => format!("icmp/{kind} {source} -> {destination}"),
        Transport::Icmpv6(kind) => format!("icmpv6/{kind} {source} -> {destination}"),
        Transport::Other(number) => format!("proto/{number} {source} -> {destination}"),
    };
    let place = match (port.outer, port.vlan) {
        (0, 0) => port.interface.clone(),
        (0, vlan) => format!("{} with VLAN {vlan}", port.interface),
        (outer, vlan) => format!("{} with VLANs {outer} and {vlan}", port.interface),
    };
    let again =
        words::packet(&format!("{what} arriving on {place}")).expect("what was read can be read again");
    assert_eq!(again, (port, view));
}

/// `explain --from --to --service`: one line each, words with commas between them.
fn inquiry(text: &str) {
    let mut lines = text.splitn(3, '\n').map(|line| line.split(',').map(str::to_owned).collect());
    let mut next = || lines.next().unwrap_or_default();
    let words = Words { from: next(), to: next(), services: next() };
    let minimal = &policies::ALL[1];
    let (resolved, inquiry) = resolve_inquiry(minimal.sources.clone(), &words, &Selection::default());
    let report = Report::new(&minimal.sources, false);
    for diagnostic in &resolved.diagnostics {
        report.render(diagnostic);
    }
    // In-place services are new ones of this policy.
    let Some(policy) = resolved.policy else { return };
    let image = clinigate::compile::compile(&policy).expect("the smallest policy fits the tables");
    let reach = Reach::new(Space::new(&image));
    let question = Question { from: &inquiry.from, to: &inquiry.to, services: Some(&inquiry.services) };
    let explanation = explain(&policy, &reach, question);
    serde_json::to_string(&explanation).expect("explanations are JSON");
}

/// A request on the control socket.
fn request(line: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(line) else { return };
    let again = serde_json::to_vec(&request).expect("requests are JSON");
    assert_eq!(serde_json::from_slice::<Request>(&again).expect("what was read can be read again"), request);
    let looks = ["status", "flows", "traffic", "order-list", "order-look"].contains(&request.name());
    assert_eq!(request.needs() == Rights::ReadOnly, looks, "{}", request.name());
}

/// A reply: from a service of another version, or from somebody else at that path.
fn reply(line: &[u8]) {
    let Ok(reply) = serde_json::from_slice::<Reply>(line) else { return };
    let again = serde_json::to_vec(&reply).expect("replies are JSON");
    let read: Reply = serde_json::from_slice(&again).expect("what was read can be read again");
    assert_eq!(serde_json::to_vec(&read).expect("replies are JSON"), again);
}
