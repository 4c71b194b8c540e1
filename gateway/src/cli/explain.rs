//! `clinigate explain`: why something is allowed or not.

pub(crate) mod packet;
mod text;

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::in_force::Place;
use super::instance::Instance;
use super::labels::Labels;
use super::{Format, Outcome, print, print_json};
use crate::assure::explain::{Answer, Explanation, Named, Refusal, explain, refusal};
use crate::assure::reach::{Question, Reach, Sample};
use crate::assure::space::Space;
use crate::compile::compile;
use crate::policy::expectation::{Inquiry, Words};
use crate::policy::model::Policy;
use crate::policy::render::Report;
use crate::policy::{self, Loaded};

pub(super) use text::named;

/// Explain whether one may open connections to another: by which rule, or what is missing.
///
/// Answers for every packet from one to the other, proven on the tables that the kernel would get. Exits
/// with 0 if all of it is allowed, with 1 if some or all is not, with 2 if the question or the policy has
/// mistakes.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Directory of the policy's YAML files, or `running` for the policy in force, with open windows, grants and
    /// quarantine as they are at this moment. Of a directory, access that a window or a grant limits is closed.
    directory: PathBuf,
    #[command(flatten)]
    labels: Labels,
    /// Who opens the connection: an address, prefix, device, group, segment, zone/NAME, `wan` or `any`.
    #[arg(long, value_name = "WHO", required_unless_present = "packet", value_delimiter = ',')]
    from: Vec<String>,
    /// Who listens.
    #[arg(long, value_name = "WHOM", required_unless_present = "packet", value_delimiter = ',')]
    to: Vec<String>,
    /// A service by name, or in place such as tcp/8443.
    #[arg(long, value_name = "SERVICE", default_value = "any", value_delimiter = ',')]
    service: Vec<String>,
    /// A single packet instead, as `check` and `test` show them: "tcp SOURCE:PORT -> DESTINATION:PORT
    /// arriving on INTERFACE with VLAN TAG", or udp; "icmp/TYPE SOURCE -> DESTINATION ...", icmpv6/TYPE,
    /// proto/NUMBER.
    #[arg(long, value_name = "PACKET", conflicts_with_all = ["from", "to", "service"])]
    packet: Option<String>,
    #[command(flatten)]
    instance: Instance,
}

/// What `--format json` prints about sets.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    /// The flow that would allow all of it, as policy text; where a deny forbids it, that has to be narrowed too.
    needed: Option<String>,
}

/// What `--format json` prints about a packet.
#[derive(Serialize)]
struct Judged {
    packet: String,
    allowed: bool,
    /// As in the log and the metrics.
    reason: &'static str,
    /// `pass`, `observe`, `audit` or `drop`.
    verdict: &'static str,
    source_segment: String,
    destination_segment: String,
    rule: Option<Named>,
    refusal: Option<Refusal>,
    needed: Option<String>,
}

impl Explain {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let place = Place::of(&self.directory, &self.labels, &self.instance)?;
        match &self.packet {
            Some(packet) => judge(&place, packet, format),
            None => self.sets(&place, format),
        }
    }

    fn sets(&self, place: &Place, format: Format) -> anyhow::Result<Outcome> {
        let words = Words { from: self.from.clone(), to: self.to.clone(), services: self.service.clone() };
        let (loaded, Inquiry { from, to, services }) =
            policy::load_inquiry(&place.directory, &words, &place.selection)?;
        let policy = place.as_now(sound(loaded)?)?;
        let image = compile(&policy).context("the policy does not fit the tables")?;
        let reach = Reach::new(Space::new(&image));
        let question = Question { from: &from, to: &to, services: Some(&services) };
        let explanation = explain(&policy, &reach, question);
        let is_open = matches!(explanation.answer, Answer::All | Answer::Impossible);
        let needed = (!is_open).then(|| text::flow(&self.from, &self.to, &self.service));
        let answer = explanation.answer;
        let explained = Explained { explanation, needed };
        match format {
            Format::Json => print_json(&explained)?,
            Format::Text => print(text::sets(&words, &explained))?,
        }
        Ok(if answer == Answer::All { Outcome::Fine } else { Outcome::Findings })
    }
}

/// What becomes of a single packet.
fn judge(place: &Place, words: &str, format: Format) -> anyhow::Result<Outcome> {
    let packet = packet::parse(words)?;
    let policy = place.as_now(sound(policy::load_for(&place.directory, &place.selection)?)?)?;
    let image = compile(&policy).context("the policy does not fit the tables")?;
    let decision = image.decide(packet.arrival(), &packet.view).context("the tables have a hole")?;
    let (source, destination) = (decision.source_segment, decision.destination_segment);
    let allowed = decision.reason.passes();
    let by_rules = matches!(decision.reason.name(), "no-flow" | "denied");
    let view = packet.view;
    let sample = Sample { arrival: packet.arrival(), packet: view, source, destination };
    let refusal = by_rules.then(|| refusal(&policy, &sample));
    let needed = by_rules.then(|| {
        let words = [view.source.to_string(), view.destination.to_string()].map(|word| vec![word]);
        text::flow(&words[0], &words[1], &[packet.service()])
    });
    let judged = Judged {
        packet: words.to_owned(),
        allowed,
        reason: decision.reason.name(),
        verdict: decision.verdict.name(),
        source_segment: policy.segment(source).name.clone(),
        destination_segment: policy.segment(destination).name.clone(),
        rule: decision.rule.map(|id| Named::of(&policy, id)),
        refusal,
        needed,
    };
    match format {
        Format::Json => print_json(&judged)?,
        Format::Text => print(text::packet(&judged))?,
    }
    Ok(if allowed { Outcome::Fine } else { Outcome::Findings })
}

/// The policy, where neither it nor the question has a mistake.
pub(super) fn sound(loaded: Loaded) -> anyhow::Result<Policy> {
    let Some(policy) = loaded.policy else {
        let report = Report::new(&loaded.sources, false);
        let mut words = io::stderr().lock();
        for mistake in loaded.diagnostics.iter().filter(|found| found.is_error()) {
            writeln!(words, "{}\n", report.render(mistake))?;
        }
        bail!("nothing can be told before these mistakes are mended");
    };
    Ok(policy)
}
