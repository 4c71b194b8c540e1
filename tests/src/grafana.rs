//! A real Grafana with the project's dashboards, where one is installed.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::namespace::{Namespace, Process};
use crate::prometheus::deploy;

/// Where its packages put it: deb and rpm, then the archive.
const PROGRAMS: [&str; 3] =
    ["/usr/sbin/grafana-server", "/usr/share/grafana/bin/grafana-server", "/opt/grafana/bin/grafana-server"];
/// Where its own files are, likewise.
const HOMES: [&str; 2] = ["/usr/share/grafana", "/opt/grafana"];

/// Where it answers in its namespace.
pub fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 3000))
}

/// The program and its home; `None` where it is not installed.
pub fn installed() -> Option<(PathBuf, PathBuf)> {
    let first = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|path| path.exists());
    Some((first(&PROGRAMS)?, first(&HOMES)?))
}

/// Starts it with the provisioning that comes with the project; whoever reaches it may look.
pub fn start(namespace: &Namespace, directory: &Path) -> Result<Option<Process>> {
    let Some((program, home)) = installed() else { return Ok(None) };
    let directory = directory.join("grafana");
    let provisioning = provision(&directory)?;
    let mut command = namespace.command(program);
    command.arg("--homepath").arg(home);
    for (name, value) in [
        ("PATHS_DATA", directory.join("data").display().to_string()),
        ("PATHS_LOGS", directory.join("logs").display().to_string()),
        ("PATHS_PROVISIONING", provisioning.display().to_string()),
        ("SERVER_HTTP_ADDR", address().ip().to_string()),
        ("SERVER_HTTP_PORT", address().port().to_string()),
        ("AUTH_ANONYMOUS_ENABLED", "true".to_owned()),
        // It would ask the world.
        ("ANALYTICS_REPORTING_ENABLED", "false".to_owned()),
        ("ANALYTICS_CHECK_FOR_UPDATES", "false".to_owned()),
        ("ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "false".to_owned()),
        ("NEWS_NEWS_FEED_ENABLED", "false".to_owned()),
    ] {
        command.env(format!("GF_{name}"), value);
    }
    command.stdin(Stdio::null()).stdout(fs::File::create(directory.join("log"))?).stderr(Stdio::null());
    Process::start(&mut command).map(Some)
}

/// The project's provisioning, with the dashboards where they are.
fn provision(directory: &Path) -> Result<PathBuf> {
    let (from, to) = (deploy().join("grafana"), directory.join("provisioning"));
    for kind in ["dashboards", "datasources"] {
        let name = Path::new(kind).join("clinigate.yml");
        let text = fs::read_to_string(from.join("provisioning").join(&name))
            .with_context(|| format!("no provisioning of {kind}"))?;
        let dashboards = from.join("dashboards").canonicalize()?;
        let text = text.replace("/usr/share/clinigate/grafana/dashboards", &dashboards.display().to_string());
        fs::create_dir_all(to.join(kind))?;
        fs::write(to.join(name), text)?;
    }
    Ok(to)
}
