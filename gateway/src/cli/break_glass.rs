//! `clinigate break-glass`: a segment opened in an emergency.

use clap::{Args, Subcommand};

use super::instance::Instance;
use super::order::{carry_out, list, seconds, words};
use super::{Format, Outcome};
use crate::daemon::control::Order;

/// Open a segment in an emergency: what the policy forbids passes, and all of it is reported.
///
/// Between the segment and others of the policy; never to or from the world or the gateway, and nothing that is in
/// quarantine. It ends by itself in the kernel, also while the service is down, and shows in status and metrics until
/// somebody reviews it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct BreakGlass {
    #[command(subcommand)]
    what: Option<What>,
    /// Segment of the policy.
    #[arg(required = true)]
    segment: Option<String>,
    /// Why; it stands in the audit log.
    #[arg(long, value_parser = words, required = true)]
    reason: Option<String>,
    /// For how long, such as 15m; a day at most.
    #[arg(long = "for", value_name = "DURATION", value_parser = seconds, required = true)]
    seconds: Option<u64>,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what is open, and what waits for its review.
    List(Instance),
    /// Close a segment again before its time.
    End(End),
    /// Say that somebody has looked at what went through.
    Review(Review),
}

#[derive(Debug, Args)]
struct End {
    /// Segment that is open.
    segment: String,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Debug, Args)]
struct Review {
    /// Segment that was open.
    segment: String,
    /// What came of it; it stands in the audit log.
    #[arg(long, value_parser = words)]
    note: String,
    #[command(flatten)]
    instance: Instance,
}

impl BreakGlass {
    pub(super) fn run(self, format: Format) -> anyhow::Result<Outcome> {
        match (self.what, self.segment, self.reason, self.seconds) {
            (Some(What::List(instance)), ..) => list(&instance, "break-glass", format),
            (Some(What::End(End { segment, instance })), ..) => {
                carry_out(&instance, Order::BreakGlassEnd { segment }, format)
            }
            (Some(What::Review(Review { segment, note, instance })), ..) => {
                carry_out(&instance, Order::BreakGlassReview { segment, note }, format)
            }
            (None, Some(segment), Some(reason), Some(seconds)) => {
                carry_out(&self.instance, Order::BreakGlass { segment, reason, seconds }, format)
            }
            (None, ..) => anyhow::bail!("a segment, --reason and --for are needed"),
        }
    }
}
