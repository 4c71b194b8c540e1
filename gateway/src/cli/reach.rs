//! `clinigate reach`: what somebody reaches over others.

mod text;

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::explain::sound;
use super::in_force::Place;
use super::instance::Instance;
use super::labels::Labels;
use super::{Format, Outcome, print, print_json};
use crate::assure::hops::{self, Chain, Question, Spread};
use crate::assure::space::Space;
use crate::compile::compile;
use crate::policy;
use crate::policy::expectation::{Inquiry, Words};

/// Show what one reaches over others: the shortest chain of allowed connections, or all that lies within reach.
///
/// Each hop starts at a host where the one before it landed. With --to it exits with 0 if there is a chain,
/// with 1 if there is none; with 2 if the question or the policy has mistakes.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// Directory of the policy's YAML files, or `running` for the policy in force, with open windows, grants and
    /// quarantine as they are at this moment.
    directory: PathBuf,
    #[command(flatten)]
    labels: Labels,
    /// Where chains start: an address, prefix, device, group, segment, zone/NAME, `wan` or `any`.
    #[arg(long, value_name = "WHO", required = true, value_delimiter = ',')]
    from: Vec<String>,
    /// Where one is to end; without it, all that is reached is listed by the number of hops.
    #[arg(long, value_name = "WHOM", value_delimiter = ',')]
    to: Vec<String>,
    /// Services that the hops may use, such as smb or tcp/8443.
    #[arg(long, value_name = "SERVICE", default_value = "any", value_delimiter = ',')]
    service: Vec<String>,
    /// Longest chain.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_hops: Option<u32>,
    /// Count hops between hosts of one segment, too, which do not pass the gateway.
    #[arg(long)]
    neighbours: bool,
    #[command(flatten)]
    instance: Instance,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    from: &'a [String],
    /// Empty where everything was asked about.
    to: &'a [String],
    services: &'a [String],
    /// Hops that were allowed at most, if they were limited.
    max_hops: Option<u32>,
    neighbours: bool,
    /// With `to`: whether there is a chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    reachable: Option<bool>,
    /// With `to`, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    chain: Option<Chain<'a>>,
    /// Without `to`.
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    spread: Option<Spread>,
}

impl Reach {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let place = Place::of(&self.directory, &self.labels, &self.instance)?;
        let anywhere = vec!["any".to_owned()];
        let to = if self.to.is_empty() { &anywhere } else { &self.to };
        let words = Words { from: self.from.clone(), to: to.clone(), services: self.service.clone() };
        let (loaded, Inquiry { from, to, services }) =
            policy::load_inquiry(&place.directory, &words, &place.selection)?;
        let policy = place.as_now(sound(loaded)?)?;
        let image = compile(&policy).context("the policy does not fit the tables")?;
        let space = Space::new(&image);
        let limit = self.max_hops.map_or(usize::MAX, |limit| limit as usize);
        let question = Question { from: &from, services: &services, neighbours: self.neighbours, limit };
        let mut answer = Answer {
            from: &self.from,
            to: &self.to,
            services: &self.service,
            max_hops: self.max_hops,
            neighbours: self.neighbours,
            reachable: None,
            chain: None,
            spread: None,
        };
        if self.to.is_empty() {
            answer.spread = Some(hops::spread(&policy, &space, question));
        } else {
            answer.chain = hops::shortest(&policy, &space, question, &to);
            answer.reachable = Some(answer.chain.is_some());
        }
        match format {
            Format::Json => print_json(&answer)?,
            Format::Text => {
                print(text::text(&answer))?;
                if !self.neighbours {
                    let hint = "hint: hosts of one segment reach each other past the gateway; --neighbours counts that";
                    writeln!(io::stderr(), "{hint}")?;
                }
            }
        }
        Ok(if answer.reachable == Some(false) { Outcome::Findings } else { Outcome::Fine })
    }
}
