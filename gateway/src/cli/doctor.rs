//! `clinigate doctor`: what this machine brings along, and what follows for whoever runs it.

use std::fmt::Write as _;

use anyhow::bail;
use clap::Args;

use super::instance::Instance;
use super::{Format, Outcome, print, print_json};
use crate::dataplane::{self, Checkup, InterfaceCheckup, Need};

/// Look at kernel, clock and interfaces, and say what follows for enforcement. Changes nothing.
///
/// Exit codes: 0 all is well, 1 it works with what is listed, 2 it cannot enforce.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Interfaces to look at [default: all but loopback]
    interfaces: Vec<String>,
    #[command(flatten)]
    instance: Instance,
}

impl Doctor {
    pub(super) fn run(&self, format: Format) -> anyhow::Result<Outcome> {
        let checkup = dataplane::examine(&self.instance.pin_root, &self.interfaces);
        match format {
            Format::Text => print(text(&checkup)?)?,
            Format::Json => print_json(&checkup)?,
        }
        let essential = checkup.findings.iter().filter(|finding| finding.essential).count();
        if essential > 0 {
            let errors = if essential == 1 { "error says" } else { "errors say" };
            bail!("this machine cannot enforce a policy as it is: the {errors} why, and what mends it");
        }
        Ok(if checkup.findings.is_empty() { Outcome::Fine } else { Outcome::Findings })
    }
}

fn text(checkup: &Checkup) -> anyhow::Result<String> {
    let mut out = String::new();
    if let Some(kernel) = &checkup.kernel {
        writeln!(out, "kernel      Linux {}", kernel.release)?;
        for feature in &kernel.list {
            let state = match (feature.present, feature.need) {
                (true, _) => "yes",
                (false, Need::Essential) => "MISSING",
                (false, Need::Optional) => "no",
            };
            writeln!(out, "            {state:<8} {}", feature.name)?;
        }
    }
    if let Some(exit) = checkup.exit {
        writeln!(out, "exits       attached by {exit}")?;
    }
    let (v4, v6) = checkup.forwards;
    writeln!(out, "programs    {}", if checkup.jit { "compiled" } else { "interpreted" })?;
    let bpffs = if checkup.bpffs { "there is one" } else { "none; one is mounted at the first start" };
    writeln!(out, "bpffs       {bpffs}")?;
    let synchronised = if checkup.synchronised { "synchronised" } else { "not synchronised" };
    writeln!(out, "clock       {}, {synchronised}", checkup.clock_source)?;
    writeln!(out, "open files  {} at most", checkup.open_files)?;
    writeln!(out, "forwarding  IPv4 {}, IPv6 {}", on(v4), on(v6))?;
    for interface in &checkup.interfaces {
        writeln!(out, "{}", line(interface))?;
    }
    for finding in &checkup.findings {
        let grade = if finding.essential { "error" } else { "warning" };
        writeln!(out, "{grade}: {}\n  mend it with: {}", finding.what, finding.mend)?;
    }
    Ok(out)
}

fn line(interface: &InterfaceCheckup) -> String {
    let InterfaceCheckup { name, driver, mtu, queues, .. } = interface;
    let native = match interface.native {
        Some(true) => "native XDP",
        Some(false) => "generic XDP only",
        None => "native XDP not known: an attach will tell",
    };
    let mut words = vec![
        driver.clone().unwrap_or_else(|| "no driver".to_owned()),
        interface.above.as_ref().map_or_else(|| native.to_owned(), |lower| format!("judged on {lower}")),
        format!("MTU {mtu}"),
        format!("{queues} receive queues"),
    ];
    if !interface.offloads.is_empty() {
        words.push(format!("turned off at attach: {}", interface.offloads.join(", ")));
    }
    words.extend(interface.xdp.iter().map(|(number, called)| format!("XDP program {called} ({number})")));
    for (way, names) in [("entry", &interface.entry), ("exit", &interface.exit)] {
        if !names.is_empty() {
            words.push(format!("at its {way}: {}", names.join(", ")));
        }
    }
    format!("{name:<11} {}", words.join(", "))
}

const fn on(is: bool) -> &'static str {
    if is { "on" } else { "off" }
}
