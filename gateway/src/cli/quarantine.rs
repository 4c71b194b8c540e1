//! `clinigate quarantine`: a device out of the network, at once.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::instance::Instance;
use super::order::{ask, carry_out, confirmed, list, seconds, words};
use super::{Format, Outcome};
use crate::daemon::control::{Found, Order, Reply};

/// Isolate a device at once, and let it go again.
///
/// Its running sessions are cut; only the `quarantine` flows of the policy remain, whatever the mode of its segment. It
/// holds through restarts and new policies, and ends by itself where it has a duration, also while the service is down.
#[derive(Debug, Args)]
pub(super) struct Quarantine {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Add(Add),
    /// Show what is in quarantine, since when, for how long and by whom.
    List(Instance),
    Release(Release),
}

/// Isolate a device.
///
/// Shows first what it is and what it does for patients, and asks where the risk for them is high.
#[derive(Debug, Args)]
struct Add {
    /// Device of the policy, address or Ethernet address.
    #[arg(value_name = "DEVICE|ADDRESS|MAC")]
    target: String,
    /// Why; it stands in the audit log.
    #[arg(long, value_parser = words)]
    reason: String,
    /// For how long, such as 90s, 2h or 1d12h; until it is released if it is left out.
    #[arg(long = "for", value_name = "DURATION", value_parser = seconds)]
    seconds: Option<u64>,
    /// Do not ask, whatever the risk is.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    instance: Instance,
}

/// Let a device go.
#[derive(Debug, Args)]
struct Release {
    /// As it was named when it was isolated.
    #[arg(value_name = "DEVICE|ADDRESS|MAC")]
    target: String,
    #[command(flatten)]
    instance: Instance,
}

impl Quarantine {
    pub(super) fn run(self, format: Format) -> anyhow::Result<Outcome> {
        match self.what {
            What::Add(add) => add.run(format),
            What::List(instance) => list(&instance, "quarantine", format),
            What::Release(Release { target, instance }) => {
                carry_out(&instance, Order::QuarantineRelease { target }, format)
            }
        }
    }
}

impl Add {
    fn run(self, format: Format) -> anyhow::Result<Outcome> {
        let Reply::Found { found } = ask(&self.instance, Order::Look { target: self.target.clone() })? else {
            bail!("the service gave an answer to another question");
        };
        std::io::stderr().write_all(shown(&found).as_bytes())?;
        let is_risky = found.safety.as_deref() == Some("high");
        if is_risky && !self.yes && !confirmed(&self.target)? {
            bail!("not isolated: its risk for patients is high; confirm on a terminal, or add --yes");
        }
        let Self { target, reason, seconds, instance, .. } = self;
        carry_out(&instance, Order::QuarantineAdd { target, reason, seconds }, format)
    }
}

fn shown(found: &Found) -> String {
    let Found { target, device, addresses, segments, labels, safety, connections, clinical, kept } = found;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        writeln!(text, "{key:<12} {value}").expect("writing to a String does not fail");
    };
    line("Device", device.as_ref().unwrap_or(target));
    line("Addresses", &format!("{} in {}", addresses.join(", "), segments.join(", ")));
    for (key, value) in labels {
        line(key, value);
    }
    match safety.as_deref() {
        Some("high") => line("RISK", "HIGH for patients"),
        Some(other) => line("Risk", &format!("{other} for patients")),
        None => line("Risk", "not known: the policy says nothing"),
    }
    line("Running", &format!("{connections} connections"));
    for flow in clinical {
        let last =
            format!("{} -> {}, `{}`, last packet {} s ago", flow.from, flow.to, flow.rule, flow.idle_s);
        line("Clinical", &last);
    }
    if clinical.is_empty() {
        line("Clinical", "no clinical connection is running");
    }
    line(
        "Keeps",
        &if kept.is_empty() {
            "nothing: the policy has no `quarantine` flow for it".to_owned()
        } else {
            kept.join(", ")
        },
    );
    text
}
