//! `clinigate check`: every mistake and doubt of a policy.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::labels::Labels;
use super::{Format, Outcome, print, print_json};
use crate::assure::invariant;
use crate::policy::diagnostic::{Diagnostic, Place, sort};
use crate::policy::model::{Forwarding, Policy, Rule, RuleKind};
use crate::policy::render::Report;
use crate::policy::{self, Loaded, lints};

/// Check a policy: show every mistake of every file, each at its line, and prove its invariants.
///
/// Exits with 1 if there are errors, with 2 if the directory cannot be read.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Directory of the policy's YAML files.
    directory: PathBuf,
    #[command(flatten)]
    labels: Labels,
    /// Exit with 1 if there are warnings, too.
    #[arg(long)]
    deny_warnings: bool,
    /// The day that reviews must not be before, such as 2027-03-31; today (UTC) where it is left out.
    #[arg(long, value_name = "DATE", value_parser = day)]
    today: Option<Date>,
}

fn day(text: &str) -> Result<Date, &'static str> {
    text.parse().map_err(|_| "expected a date such as 2027-03-31")
}

impl Check {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let mut loaded = policy::load_for(&self.directory, &self.labels.selection()?)?;
        if let Some(policy) = &loaded.policy {
            loaded.diagnostics.extend(lints::lint(policy));
            let today = self.today.unwrap_or_else(|| Timestamp::now().to_zoned(TimeZone::UTC).date());
            loaded.diagnostics.extend(lints::overdue(policy, today));
            loaded.diagnostics.extend(prove(policy));
            sort(&mut loaded.diagnostics);
        }
        let answer = Answer::new(&loaded);
        match format {
            Format::Json => print_json(&answer)?,
            Format::Text => print(text(&loaded, &answer, io::stdout().is_terminal()))?,
        }
        let findings = answer.errors > 0 || (self.deny_warnings && answer.warnings > 0);
        Ok(if findings { Outcome::Findings } else { Outcome::Fine })
    }
}

/// Rules forbidden in part that are listed for people.
const SHOWN: usize = 10;

/// Whether the invariants hold, and whether they can be held against tables at all.
fn prove(policy: &Policy) -> Vec<Diagnostic> {
    invariant::prove(policy).unwrap_or_else(|error| {
        let message = format!("the policy does not fit the tables: {error}");
        vec![Diagnostic::error("does-not-fit", Place::default(), message)]
    })
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    diagnostics: &'a [Diagnostic],
    errors: usize,
    warnings: usize,
    /// Absent where the text has mistakes.
    summary: Option<Summary<'a>>,
}

#[derive(Serialize)]
struct Summary<'a> {
    hash: &'a str,
    files: usize,
    interfaces: usize,
    segments: usize,
    devices: usize,
    services: usize,
    flows: usize,
    denies: usize,
    vendor_rules: usize,
    invariants: usize,
    /// Invariants that were proven to hold.
    proven: usize,
    /// Rules in force that carry protected health information unencrypted.
    cleartext_phi: Vec<&'a str>,
    /// Who sends allowed packets on.
    forwarding: Forwarding,
    /// Rules in force of which denies forbid a part; absent where there are too many to compare.
    narrowed: Option<Vec<Narrowed<'a>>>,
    without_owner: Vec<&'a str>,
    /// Rules without a date of review.
    without_review: Vec<&'a str>,
}

#[derive(Serialize)]
struct Narrowed<'a> {
    rule: &'a str,
    denies: Vec<&'a str>,
}

impl<'a> Answer<'a> {
    fn new(loaded: &'a Loaded) -> Self {
        let errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        Self {
            diagnostics: &loaded.diagnostics,
            errors,
            warnings: loaded.diagnostics.len() - errors,
            summary: loaded.policy.as_ref().map(|policy| Summary::new(policy, loaded)),
        }
    }
}

impl<'a> Summary<'a> {
    fn new(policy: &'a Policy, loaded: &Loaded) -> Self {
        let unproven = |found: &&Diagnostic| ["invariant-broken", "does-not-fit"].contains(&found.code);
        let rules = |kind| policy.rules.iter().filter(|rule| rule.kind == kind).count();
        let narrowed =
            |it: lints::Narrowed<'a>| Narrowed { rule: &it.rule.name, denies: names(it.denies.into_iter()) };
        Self {
            hash: &policy.hash,
            files: loaded.sources.len(),
            interfaces: policy.interfaces.len(),
            segments: policy.own_segments().len(),
            devices: policy.devices.len(),
            services: policy.services.len(),
            flows: rules(RuleKind::Flow),
            denies: rules(RuleKind::Deny),
            vendor_rules: rules(RuleKind::Vendor),
            invariants: policy.invariants.len(),
            proven: policy.invariants.len() - loaded.diagnostics.iter().filter(unproven).count(),
            forwarding: policy.settings.forwarding,
            cleartext_phi: names(lints::cleartext_phi(policy)),
            narrowed: lints::narrowed(policy).map(|found| found.into_iter().map(narrowed).collect()),
            without_owner: names(lints::unowned(policy)),
            without_review: names(lints::unreviewed(policy)),
        }
    }
}

fn text(loaded: &Loaded, answer: &Answer<'_>, styled: bool) -> String {
    let report = Report::new(&loaded.sources, styled);
    let mut text = String::new();
    for diagnostic in &loaded.diagnostics {
        text += &report.render(diagnostic);
        text += "\n\n";
    }
    if let Some(summary) = &answer.summary {
        let counts = [
            (summary.files, "file", "files"),
            (summary.interfaces, "interface", "interfaces"),
            (summary.segments, "segment", "segments"),
            (summary.devices, "device", "devices"),
            (summary.services, "service", "services"),
            (summary.flows, "flow", "flows"),
            (summary.denies, "deny", "denies"),
            (summary.vendor_rules, "vendor access", "vendor accesses"),
            (summary.invariants, "invariant", "invariants"),
        ];
        text += &counts.map(count).join(", ");
        text += "\n";
        if summary.invariants > 0 {
            let holds = count((summary.proven, "invariant holds", "invariants hold"));
            writeln!(text, "{holds}, proven over all packets").expect("writing to a String does not fail");
        }
        if summary.forwarding == Forwarding::Xdp {
            text += "XDP forwards what is allowed: the kernel's own firewall does not see it\n";
        }
        let notes = [
            (&summary.cleartext_phi, "carries", "carry", "protected health information unencrypted"),
            (&summary.without_owner, "has", "have", "no owner"),
            (&summary.without_review, "has", "have", "no date of review"),
        ];
        for (rules, one, many, what) in notes.into_iter().filter(|note| !note.0.is_empty()) {
            let rules = count((rules.len(), &format!("rule {one}"), &format!("rules {many}")));
            writeln!(text, "{rules} {what}").expect("writing to a String does not fail");
        }
        for Narrowed { rule, denies } in summary.narrowed.iter().flatten().take(SHOWN) {
            let denies: Vec<String> = denies.iter().map(|deny| format!("`{deny}`")).collect();
            writeln!(text, "of `{rule}` a part is forbidden by {}", denies.join(", "))
                .expect("writing to a String does not fail");
        }
        if let Some(more @ 1..) = summary.narrowed.as_ref().and_then(|all| all.len().checked_sub(SHOWN)) {
            writeln!(text, "and of {more} more rules").expect("writing to a String does not fail");
        }
    }
    let errors = count((answer.errors, "error", "errors"));
    let warnings = count((answer.warnings, "warning", "warnings"));
    writeln!(text, "{errors}, {warnings}").expect("writing to a String does not fail");
    text
}

fn names<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<&'a str> {
    rules.map(|rule| rule.name.as_str()).collect()
}

fn count((number, one, many): (usize, &str, &str)) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
