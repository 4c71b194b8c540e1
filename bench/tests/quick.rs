//! The benchmark runs, from one end to the other, and says something about every goal. Not how fast anything is: that
//! depends on who else uses the machine.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::available_parallelism;

use serde_json::Value;

#[test]
fn a_short_run_measures_everything_and_writes_it_down() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("docs");
    fs::create_dir_all(&folder).unwrap();
    let page = "# Before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nAfter\n";
    fs::write(folder.join("performance.md"), page).unwrap();

    let output =
        Command::new(env!("CARGO_BIN_EXE_clinigate-bench")).args(["--quick", "--docs"]).arg(&folder).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let page = fs::read_to_string(folder.join("performance.md")).unwrap();
    assert!(page.starts_with("# Before\n") && page.ends_with("After\n") && !page.contains("old"), "{page}");
    let measured = fs::read_to_string(folder.join("performance/measured.json")).unwrap();
    let measured: Value = serde_json::from_str(&measured).unwrap();
    let goals = measured["goals"].as_array().unwrap();
    // Those of ClassBench only where its sets are.
    let own = goals.iter().filter(|goal| !goal["what"].as_str().unwrap().starts_with("ClassBench"));
    // A flood takes CPUs besides those of a client and a server.
    let wanted = if available_parallelism().unwrap().get() > 2 { 14 } else { 13 };
    assert_eq!(own.count(), wanted, "{goals:#?}");
    for chart in ["decision.svg", "denied.svg", "forwarded.svg"] {
        assert!(page.contains(chart) && folder.join("performance").join(chart).is_file(), "{chart}");
    }
}
