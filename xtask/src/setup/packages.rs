//! The distribution's packages that demo and tests use.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{self, Stdio};

use anyhow::{Context, Result, bail};

use super::say;
use crate::process::{command, find, is_root, run};

const STEP: &str = "packages";

/// A command, and the package of the Debian family that brings it.
struct Needed {
    command: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const NEEDED: [Needed; 10] = [
    Needed { command: "ip", package: "iproute2", purpose: "network namespaces of demo and tests" },
    Needed { command: "nft", package: "nftables", purpose: "the peer that verdicts are compared with" },
    Needed { command: "ethtool", package: "ethtool", purpose: "VLAN offload of test interfaces" },
    Needed { command: "storescp", package: "dcmtk", purpose: "real DICOM" },
    Needed { command: "ssh-keygen", package: "openssh-client", purpose: "signatures of commits by ssh" },
    Needed { command: "gpg", package: "gnupg", purpose: "signatures of commits by OpenPGP" },
    Needed { command: "curl", package: "curl", purpose: "the hook for the status of commits" },
    Needed { command: "systemd-analyze", package: "systemd", purpose: "the check of the package's units" },
    Needed { command: "promtool", package: PROMETHEUS, purpose: "the check of the metrics page" },
    Needed { command: "prometheus", package: PROMETHEUS, purpose: "alerts and dashboards on real data" },
];

/// What virtual machines take besides.
const NEEDED_BY_VMS: [Needed; 5] = [
    Needed { command: "keepalived", package: KEEPALIVED, purpose: "gateways in pairs" },
    Needed { command: "qemu-system-x86_64", package: "qemu-system-x86", purpose: "other kernels" },
    Needed {
        command: "setpriv",
        package: "util-linux",
        purpose: "virtual machines that end with the command",
    },
    Needed { command: "xz", package: "xz-utils", purpose: "the modules of other kernels" },
    Needed { command: "strip", package: "binutils", purpose: "test programs without what debuggers read" },
];

/// Their packages also start a server, which nobody asked for.
const PROMETHEUS: &str = "prometheus";
const KEEPALIVED: &str = "keepalived";

/// Asked by Debian's packages before they start a service.
const START_POLICY: &str = "/usr/sbin/policy-rc.d";

pub(super) fn provide(vms: bool) -> Result<()> {
    let needed = || NEEDED.iter().chain(NEEDED_BY_VMS.iter().filter(|_| vms));
    let missing: Vec<&Needed> = needed().filter(|needed| find(needed.command).is_none()).collect();
    if missing.is_empty() {
        let commands: Vec<&str> = needed().map(|needed| needed.command).collect();
        say(STEP, format_args!("present ({})", commands.join(", ")));
        return Ok(());
    }
    for Needed { command, package, purpose } in &missing {
        say(STEP, format_args!("`{command}` is missing: {purpose} (on Debian: {package})"));
    }
    let packages: BTreeSet<&str> = missing.iter().map(|needed| needed.package).collect();
    let list = packages.iter().copied().collect::<Vec<_>>().join(" ");
    if find("apt-get").is_none() || !Path::new("/etc/debian_version").exists() {
        bail!(
            "demo and tests need what the distribution calls {list}, or something like it; \
             mend it with the distribution's package manager (only the Debian family is known here)"
        );
    }
    if !is_root() {
        if packages.contains(PROMETHEUS) {
            say(
                STEP,
                "the package prometheus starts a server; to be without: sudo systemctl disable --now prometheus",
            );
        }
        bail!(
            "packages are missing; mend it with: \
             sudo apt-get update && sudo apt-get install --no-install-recommends {list}"
        );
    }
    install(&packages)?;
    say(STEP, format_args!("installed ({list})"));
    Ok(())
}

fn install(packages: &BTreeSet<&str>) -> Result<()> {
    say(STEP, "apt-get update and install");
    let apt = || {
        let mut apt = command("apt-get");
        // Its errors come on standard error; the rest is a line for each file that dpkg unpacks.
        apt.arg("--quiet=2").env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        apt
    };
    // A source of the machine's own that is out of order need not stop us: what counts is the installation.
    if let Err(error) = run(apt().arg("update")) {
        say(STEP, format_args!("{error:#}; going on with the lists that are there"));
    }
    let _quiet = StartPolicy::none_for_our_packages()?;
    run(apt().args(["install", "--no-install-recommends", "--yes"]).args(packages))
        .context("the packages cannot be installed")?;
    // Nor at the next boot. Where no systemd runs there is nothing to turn off.
    for server in [PROMETHEUS, KEEPALIVED] {
        if packages.contains(server)
            && find("systemctl").is_some()
            && let Err(error) =
                run(command("systemctl").args(["--quiet", "disable", &format!("{server}.service")]))
        {
            say(STEP, format_args!("{error:#}"));
        }
    }
    Ok(())
}

/// Keeps the packages from starting their servers while it lives, where the machine has no rule of its own.
struct StartPolicy {
    ours: bool,
}

impl StartPolicy {
    fn none_for_our_packages() -> Result<Self> {
        if Path::new(START_POLICY).exists() {
            return Ok(Self { ours: false });
        }
        // 101 is `forbidden by policy`. Should we be killed before the file is removed, it forbids nothing.
        let rule = format!(
            "#!/bin/sh\n\
             # For the time of one `cargo xtask setup`; without effect afterwards, and safe to remove.\n\
             case \"$1\" in prometheus*|dcmtk*|dcmqrscp*|keepalived*) kill -0 {} 2>/dev/null && exit 101 ;; esac\n\
             exit 0\n",
            process::id()
        );
        fs::write(START_POLICY, rule).with_context(|| format!("cannot write {START_POLICY}"))?;
        let policy = Self { ours: true };
        fs::set_permissions(START_POLICY, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {START_POLICY} executable"))?;
        Ok(policy)
    }
}

impl Drop for StartPolicy {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(START_POLICY)
        {
            say(STEP, format_args!("cannot remove {START_POLICY}: {error}"));
        }
    }
}
