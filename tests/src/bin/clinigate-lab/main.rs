//! The lab's program: the demo, and the peers that it starts inside namespaces.

mod attempts;
mod demo;
mod expectations;
mod growth;
mod peers;
mod table;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A hospital in network namespaces.
#[derive(Debug, Parser)]
#[command(name = "clinigate-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    /// Remove what runs that were killed left behind
    Clean,
    #[command(flatten)]
    Peer(peers::Peer),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo(demo) => demo.run(),
        Command::Clean => clean(),
        Command::Peer(peer) => peer.run().map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        table::complain(&format!("error: {error:#}"));
        ExitCode::from(2)
    })
}

fn clean() -> anyhow::Result<ExitCode> {
    for run in clinigate_tests::run::clean()? {
        table::say(&format!("removed what {run} left"))?;
    }
    Ok(ExitCode::SUCCESS)
}
