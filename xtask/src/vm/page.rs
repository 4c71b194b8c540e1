//! What a run of the whole matrix found, as `docs/kernels.md` has it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::boot::{Outcome, Verdict};
use super::kernels::Kernel;
use super::programs::SUITES;
use crate::process;

/// What stands between these lines is written here; the rest of the page is written by hand.
const BEGIN: &str = "<!-- begin: cargo xtask vm --docs docs -->\n";
const END: &str = "<!-- end -->\n";

/// Names of looks: `clinigate doctor`, as text and as JSON.
pub(super) const DOCTOR: &str = "doctor";
pub(super) const DOCTOR_JSON: &str = "doctor-json";

/// Writes the page below a folder of documents. Fails where a kernel did not answer all that the page says.
pub(super) fn write(matrix: &[(&Kernel, Outcome)], took: Duration, directory: &Path) -> Result<()> {
    let path = directory.join("kernels.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (before, after) = around(&text).with_context(|| format!("{} does not say where", path.display()))?;
    let columns = matrix.iter().map(|(kernel, outcome)| Column::read(kernel, outcome));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let page = [before, BEGIN, &found(&columns, took)?, END, after].concat();
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// What stands before and behind the lines that are written here.
fn around(page: &str) -> Option<(&str, &str)> {
    page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)))
}

/// One kernel.
struct Column<'a> {
    release: &'a str,
    outcome: &'a Outcome,
    doctor: Value,
    sizes: Value,
}

impl<'a> Column<'a> {
    fn read(kernel: &'a Kernel, outcome: &'a Outcome) -> Result<Self> {
        let release = &kernel.release;
        let json = |text: Option<&String>, what: &str| {
            let text = text.with_context(|| format!("Linux {release} did not say {what}"))?;
            serde_json::from_str(text).with_context(|| format!("Linux {release} said {what} in another form"))
        };
        Ok(Self {
            release,
            outcome,
            doctor: json(outcome.looks.get(DOCTOR_JSON), "what it can")?,
            sizes: json(outcome.sizes.as_ref(), "how large programs are")?,
        })
    }

    fn features(&self) -> &[Value] {
        self.doctor["kernel"]["list"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

/// The part of the page that is written here.
fn found(columns: &[Column<'_>], took: Duration) -> Result<String> {
    let mut page = String::new();
    let processors = thread::available_parallelism().context("cannot count the processors")?;
    let qemu = process::output(process::command("qemu-system-x86_64").arg("--version"))?;
    let qemu = qemu.split_whitespace().nth(3).unwrap_or_default().to_owned();
    writeln!(
        page,
        "All kernels together took {} on {processors} processors, emulated by qemu {qemu}.\n",
        words(took)
    )?;
    Ok(page + &tables(columns)?)
}

fn tables(columns: &[Column<'_>]) -> Result<String> {
    let mut page = String::new();
    let heads = columns.iter().map(|column| column.release).collect::<Vec<_>>().join(" | ");
    let rule = "---|".repeat(columns.len());
    let row = |page: &mut String, head: &str, cell: &dyn Fn(&Column<'_>) -> String| {
        let cells = columns.iter().map(cell).collect::<Vec<_>>().join(" | ");
        writeln!(page, "| {head} | {cells} |")
    };

    write!(page, "## What each can\n| Feature | {heads} |\n|---|{rule}\n")?;
    for feature in columns.first().map(Column::features).unwrap_or_default() {
        let name = feature["name"].as_str().unwrap_or_default();
        row(&mut page, name, &|column| {
            let found = column.features().iter().find(|feature| feature["name"] == name);
            let is_there = found.and_then(|feature| feature["present"].as_bool());
            is_there.map_or("not asked", |is| if is { "yes" } else { "no" }).to_owned()
        })?;
    }
    row(&mut page, "exits are attached by", &|column| {
        column.doctor["exit"].as_str().unwrap_or_default().to_owned()
    })?;

    write!(page, "\n## What was run\nPassed, failed, skipped.\n\n| Tests | {heads} |\n|---|{rule}\n")?;
    for suite in SUITES {
        row(&mut page, &format!("`{suite}`"), &|column| {
            column.outcome.ran.iter().find(|ran| ran.suite == suite).map_or("not run".to_owned(), |ran| {
                let total = &ran.total;
                format!("{}, {}, {}; {:.0} s", total.passed, total.failed, total.ignored, ran.seconds)
            })
        })?;
    }
    row(&mut page, "from boot to end", &|column| words(column.outcome.duration))?;
    row(&mut page, "in the end", &|column| {
        let words = match column.outcome.verdict {
            Verdict::Passed => "all passed",
            Verdict::Failed => "some failed",
            Verdict::Broken | Verdict::TimedOut => "stopped before all had run",
        };
        words.to_owned()
    })?;

    page.push_str("\n## The size of the programs\n");
    page.push_str("Steps of the verifier, instructions after verification, bytes of machine code.\n\n");
    write!(page, "| Program, forwarding | Compiled | {heads} |\n|---|---|{rule}\n")?;
    let sizes = columns.first().map(|column| &column.sizes["programs"]);
    for (forwarding, programs) in sizes.and_then(Value::as_object).into_iter().flatten() {
        for (program, size) in programs.as_object().into_iter().flatten() {
            let head = format!("{program}, {forwarding} | {}", size["compiled"]);
            row(&mut page, &head, &|column| {
                let size = &column.sizes["programs"][forwarding][program];
                format!("{}, {}, {}", size["verified"], size["instructions"], size["machine_code"])
            })?;
        }
    }

    page.push_str("\n## What `clinigate doctor` says\n");
    for column in columns {
        let said = column.outcome.looks.get(DOCTOR).map(String::as_str).unwrap_or_default();
        ensure!(!said.is_empty(), "Linux {} has no doctor", column.release);
        write!(page, "On {}:\n\n```text\n{said}\n```\n\n", column.release)?;
    }
    Ok(page.trim_end().to_owned() + "\n")
}

fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::test::Total;
    use crate::vm::boot::Ran;

    #[test]
    fn a_page_is_made_of_what_kernels_said() {
        let ran = Ran {
            suite: "packets".to_owned(),
            total: Total { passed: 82, failed: 0, ignored: 1 },
            seconds: 97.4,
            success: true,
        };
        let doctor = r#"{"kernel":{"list":[{"name":"BTF","present":true},{"name":"tcx","present":false}]},"exit":"clsact"}"#;
        let sizes = r#"{"programs":{"kernel":{"judge":{"compiled":1,"verified":2,"instructions":3,"machine_code":4}}}}"#;
        let looks = [(DOCTOR, "kernel      Linux 6.1"), (DOCTOR_JSON, doctor)];
        let outcome = Outcome {
            verdict: Verdict::Passed,
            by_emulation: false,
            ran: vec![ran],
            looks: looks.map(|(name, said)| (name.to_owned(), said.to_owned())).into(),
            sizes: Some(sizes.to_owned()),
            duration: Duration::from_secs(400),
        };
        let kernel = Kernel {
            asked: "6.1".to_owned(),
            release: "6.1.0-50-cloud-amd64".to_owned(),
            image: PathBuf::new(),
            modules: PathBuf::new(),
        };
        let column = Column::read(&kernel, &outcome).expect("it said all");
        let page = tables(&[column]).expect("memory takes any text");
        for line in [
            "| Feature | 6.1.0-50-cloud-amd64 |",
            "| tcx | no |",
            "| exits are attached by | clsact |",
            "| `packets` | 82, 0, 1; 97 s |",
            "| `staying_power` | not run |",
            "| from boot to end | 6 min 40 s |",
            "| in the end | all passed |",
            "| judge, kernel | 1 | 2, 3, 4 |",
            "kernel      Linux 6.1",
        ] {
            assert!(page.lines().any(|written| written == line), "no line `{line}` in:\n{page}");
        }
    }

    #[test]
    fn durations_are_read_at_a_glance() {
        assert_eq!(words(Duration::from_secs(97)), "97 s");
        assert_eq!(words(Duration::from_secs(754)), "12 min 34 s");
    }
}
