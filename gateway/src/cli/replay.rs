//! `clinigate replay`: what a policy would do to captured packets.

mod line;
mod text;

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::labels::Labels;
use super::{Format, Outcome};
use crate::compile::compile;
use crate::compile::image::Image;
use crate::policy::render::Report;
use crate::policy::{self, Selection};
use crate::replay::{Replay as Engine, ReplayError};

use line::Names;

/// Packets up to which every one is shown without being asked for.
const FEW: usize = 50;

/// Judge the packets of captures (pcap, pcapng) by a policy.
///
/// The real programs judge them, in this machine's kernel, with connections and the time of capture;
/// no interface is touched. Needs root. Exits with 1 if packets are not allowed, or the policy has
/// mistakes.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Directory of the policy's YAML files.
    directory: PathBuf,
    #[command(flatten)]
    labels: Labels,
    /// Captures, in the order of their time.
    #[arg(required = true, value_name = "FILE")]
    captures: Vec<PathBuf>,
    /// Interface of the policy that all packets arrive on. Without it a packet arrives on the trunk
    /// that carries its tag, or else where the segment of its source address is.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Show every packet, however many there are. (JSON always has them all.)
    #[arg(long)]
    packets: bool,
}

impl Replay {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let Some(image) = image(&self.directory, &self.labels.selection()?)? else {
            return Ok(Outcome::Findings);
        };
        let mut replay = Engine::new(&image, self.interface.as_deref())?;
        match format {
            Format::Json => self.json(&image, &mut replay)?,
            Format::Text => self.text(&image, &mut replay)?,
        }
        let is_fine = replay.summary().not_allowed() == 0;
        Ok(if is_fine { Outcome::Fine } else { Outcome::Findings })
    }

    /// A line for each packet, and one for the summary.
    fn json(&self, image: &Image, replay: &mut Engine<'_>) -> anyhow::Result<()> {
        let names = Names::new(&image.manifest);
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        for path in &self.captures {
            let file = path.to_string_lossy();
            let done = replay.capture(path, |judged| {
                serde_json::to_writer(&mut out, &names.line(&file, judged)).map_err(io::Error::from)?;
                Ok(out.write_all(b"\n")?)
            });
            finish(done, &mut out)?;
        }
        serde_json::to_writer(&mut out, &line::Last { summary: names.summary(replay.summary()) })?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// Every packet where there are few or it was asked for, and the summary.
    fn text(&self, image: &Image, replay: &mut Engine<'_>) -> anyhow::Result<()> {
        let names = Names::new(&image.manifest);
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        for path in &self.captures {
            let file = path.to_string_lossy();
            let (mut held, mut count) = (Vec::new(), 0);
            let done = replay.capture(path, |judged| {
                count += 1;
                if self.packets {
                    text::packet(&mut out, &names.line(&file, judged))?;
                } else if count <= FEW {
                    text::packet(&mut held, &names.line(&file, judged))?;
                } else {
                    held.clear();
                }
                Ok(())
            });
            if !held.is_empty() {
                writeln!(out, "{file}")?;
                out.write_all(&held)?;
                writeln!(out)?;
            }
            finish(done, &mut out)?;
        }
        text::summary(&mut out, &names.summary(replay.summary()))?;
        Ok(out.flush()?)
    }
}

/// What was found before an error goes out before it.
fn finish(done: Result<(), ReplayError>, out: &mut impl io::Write) -> anyhow::Result<()> {
    out.flush()?;
    match done {
        Err(ReplayError::Output(error)) => Err(error.into()),
        other => Ok(other?),
    }
}

/// The compiled policy; `None` where it has mistakes, which are then shown.
fn image(directory: &Path, selection: &Selection) -> anyhow::Result<Option<Image>> {
    let loaded = policy::load_for(directory, selection)?;
    if let Some(policy) = &loaded.policy {
        return Ok(Some(compile(policy).context("the policy does not compile")?));
    }
    let report = Report::new(&loaded.sources, io::stderr().is_terminal());
    for error in loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
        writeln!(io::stderr(), "{}\n", report.render(error))?;
    }
    writeln!(io::stderr(), "the policy has mistakes; nothing was replayed")?;
    Ok(None)
}
