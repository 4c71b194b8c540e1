//! The command line: one file a subcommand. Data goes to standard output, words to standard
//! error; exit codes are those of [`Outcome`], and 2 for wrong use or a wrong environment.

mod apply;
mod audit;
mod break_glass;
mod check;
mod completions;
mod confirm;
mod detach;
mod doctor;
pub(crate) mod explain;
mod export;
mod flows;
mod generations;
mod grant;
mod in_force;
mod instance;
mod labels;
mod manual;
mod order;
mod plan;
mod quarantine;
mod reach;
mod replay;
mod rollback;
mod run;
mod schema;
mod standby;
mod status;
mod test;
mod top;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::assure::difference::Effect;

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(outcome) => outcome.into(),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is gone too.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Microsegmentation for hospital networks: a policy, compiled into XDP programs.
///
/// Exit codes: 0 when all is well, 1 when there are findings (mistakes in a policy, differences),
/// 2 when it was used wrongly or the machine is not fit for it. `plan` has its own: 10 narrowing, 11
/// widening, 12 both.
#[derive(Debug, Parser)]
#[command(name = "clinigate", version, propagate_version = true, after_help = FIRST_STEPS)]
struct Cli {
    /// How data is written to standard output: `text` for people, `json` for programs; `test` also knows `junit`, for
    /// pipelines, and `plan` knows `markdown`, for merge requests.
    #[arg(long, global = true, value_enum, hide_possible_values = true, default_value_t = FormatArgument::Text)]
    format: FormatArgument,
    #[command(subcommand)]
    command: Command,
}

/// Below the list of commands, for who sees it for the first time.
const FIRST_STEPS: &str = "\
Begin with:
  clinigate doctor                        whether this machine can enforce a policy
  clinigate check DIRECTORY               whether a policy is sound
  clinigate run --policy DIRECTORY        put it into force; the package has a unit for it
  clinigate status                        what is in force, and what needs attention
At night:
  clinigate flows --blocked               who is blocked, and why
  clinigate explain running --from WHO --to WHOM --service WHAT
                                          which rule lets it through, or what is missing
  clinigate quarantine add DEVICE --reason WHY --for 2h";

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Apply(apply::Apply),
    Confirm(confirm::Confirm),
    Rollback(rollback::Rollback),
    Generations(generations::Generations),
    Status(status::Status),
    Quarantine(quarantine::Quarantine),
    Grant(grant::Grant),
    BreakGlass(break_glass::BreakGlass),
    Audit(audit::Audit),
    Flows(flows::Flows),
    Top(top::Top),
    Detach(detach::Detach),
    Doctor(doctor::Doctor),
    Check(check::Check),
    Test(test::Test),
    Explain(explain::Explain),
    Reach(reach::Reach),
    Plan(plan::Plan),
    Replay(replay::Replay),
    Export(export::Export),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Manual(manual::Manual),
    #[command(hide = true)]
    StandBy(standby::StandBy),
}

impl Cli {
    fn run(self) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Run(command) => command.run(),
            Command::Apply(command) => command.run(self.format.plain()?),
            Command::Confirm(command) => command.run(self.format.plain()?),
            Command::Rollback(command) => command.run(self.format.plain()?),
            Command::Generations(command) => command.run(self.format.plain()?),
            Command::Status(command) => command.run(self.format.plain()?),
            Command::Quarantine(command) => command.run(self.format.plain()?),
            Command::Grant(command) => command.run(self.format.plain()?),
            Command::BreakGlass(command) => command.run(self.format.plain()?),
            Command::Audit(command) => command.run(self.format.plain()?),
            Command::Flows(command) => command.run(self.format.plain()?),
            Command::Top(command) => command.run(self.format.plain()?),
            Command::Detach(command) => command.run(self.format.plain()?),
            Command::Doctor(command) => command.run(self.format.plain()?),
            Command::Check(command) => command.run(self.format.plain()?),
            Command::Test(command) => command.run(self.format),
            Command::Explain(command) => command.run(self.format.plain()?),
            Command::Reach(command) => command.run(self.format.plain()?),
            Command::Plan(command) => command.run(self.format),
            Command::Schema(command) => command.run(),
            Command::Replay(command) => command.run(self.format.plain()?),
            Command::Export(command) => command.run(self.format.plain()?),
            Command::Completions(command) => command.run(),
            Command::Manual(command) => command.run(),
            Command::StandBy(command) => command.run(),
        }
    }
}

/// How data is to be written; not every command knows every way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArgument {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For pipelines; `clinigate test` alone.
    Junit,
    /// For merge requests; `clinigate plan` alone.
    Markdown,
}

impl FormatArgument {
    /// For commands that write text or JSON.
    fn plain(self) -> anyhow::Result<Format> {
        match self {
            Self::Text => Ok(Format::Text),
            Self::Json => Ok(Format::Json),
            Self::Junit => anyhow::bail!("--format junit is for `clinigate test`"),
            Self::Markdown => anyhow::bail!("--format markdown is for `clinigate plan`"),
        }
    }
}

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How a command ended that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All is well: exit code 0.
    Fine,
    /// There is something to look at: exit code 1.
    Findings,
    /// The effect of a change of policy: exit code 0 for none, 10 for narrowing, 11 for widening, 12
    /// for both.
    Changes(Effect),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Fine => Self::SUCCESS,
            Outcome::Findings => Self::from(1),
            Outcome::Changes(effect) => match (effect.widens, effect.narrows) {
                (false, false) => Self::SUCCESS,
                (false, true) => Self::from(10),
                (true, false) => Self::from(11),
                (true, true) => Self::from(12),
            },
        }
    }
}

/// Writes data to standard output.
fn print(data: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(data.as_ref())?;
    Ok(stdout.flush()?)
}

/// Writes a value as JSON to standard output.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(serde_json::to_string_pretty(value)? + "\n")
}

/// Whether the reader of our output (`head`, a pager) has gone, which is no mistake.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
