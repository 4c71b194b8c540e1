//! How fast a replay is. A figure, not a test of every day:
//! `cargo test --release -p clinigate --test replay -- --ignored --nocapture`.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::frames::{ACK, SYN, tagged, tcp};
use super::{Bench, PACS, POLICY};

/// Connections, and packets of each.
const CONNECTIONS: (u16, u64) = (1_000, 300);
/// Packets a second.
const PROMISED: f64 = 300_000.0;

/// Studies on their way to the archive, every packet of which gets its line of JSON.
#[test]
#[ignore = "a figure: in a debug build it says nothing"]
#[expect(clippy::print_stdout, reason = "the figure is meant to be read")]
fn a_replay_judges_300_000_packets_a_second() {
    let bench = Bench::new(POLICY);
    let (connections, packets) = CONNECTIONS;
    let mut capture = Vec::new();
    for number in 0..packets {
        for connection in 0..connections {
            let (flags, payload) = if number == 0 { (SYN, 0) } else { (ACK, 200) };
            let ct = format!("10.10.40.{}", 2 + connection % 250);
            let frame = tagged(40, &tcp(&ct, PACS, (40_000 + connection, 104), flags, payload));
            capture.push((number, frame));
        }
    }
    let file = bench.pcap("studies.pcap", &capture);
    let best = (0..3).map(|_| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clinigate"));
        command.args(["replay", "--format", "json"]).arg(bench.directory.path().join("policy")).arg(&file);
        let begun = Instant::now();
        let status = command.stdout(Stdio::null()).status().unwrap();
        assert!(status.success());
        begun.elapsed().as_secs_f64()
    });
    let best = best.fold(f64::INFINITY, f64::min);
    let speed = f64::from(u32::try_from(capture.len()).unwrap()) / best;
    println!(
        "{} packets in {best:.2} s: {speed:.0} a second, loading of the programs included",
        capture.len()
    );
    assert!(speed >= PROMISED, "{speed:.0} packets a second");
}
