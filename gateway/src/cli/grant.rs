//! `clinigate grant`: a vendor in to one device, for a while.

use clap::{Args, Subcommand};

use super::instance::Instance;
use super::order::{carry_out, list, seconds, words};
use super::{Format, Outcome};
use crate::daemon::control::Order;

/// Let a vendor in to one device for a while, where the policy wants a grant for it.
///
/// It ends by itself in the kernel, also while the service is down, and with it every session that it carried.
#[derive(Debug, Args)]
pub(super) struct Grant {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Open an access of the policy that has `grant: required`.
    Open(Open),
    /// Show open grants, and how long they hold.
    List(Instance),
    /// Close a grant before its time; its sessions are cut.
    Close(Close),
}

#[derive(Debug, Args)]
struct Open {
    /// Vendor, as the policy calls it.
    vendor: String,
    /// The one device, as the policy calls it.
    device: String,
    /// Ticket or job that it is for; it stands in the audit log.
    #[arg(long, value_parser = words)]
    ticket: String,
    /// For how long, such as 2h or 1h30m.
    #[arg(long = "for", value_name = "DURATION", value_parser = seconds)]
    seconds: u64,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Debug, Args)]
struct Close {
    /// Vendor that it was opened for.
    vendor: String,
    /// Device that it was opened for.
    device: String,
    #[command(flatten)]
    instance: Instance,
}

impl Grant {
    pub(super) fn run(self, format: Format) -> anyhow::Result<Outcome> {
        match self.what {
            What::Open(Open { vendor, device, ticket, seconds, instance }) => {
                carry_out(&instance, Order::GrantOpen { vendor, device, ticket, seconds }, format)
            }
            What::List(instance) => list(&instance, "grant", format),
            What::Close(Close { vendor, device, instance }) => {
                carry_out(&instance, Order::GrantClose { vendor, device }, format)
            }
        }
    }
}
