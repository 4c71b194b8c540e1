//! Which binary this is: a policy that another one compiled is compiled again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// Version, and what tells builds of one version apart: size and time of the file that was
/// started; and whether it loads programs that trace, which are others.
pub(super) fn identity(traces: bool) -> String {
    static IDENTITY: OnceLock<String> = OnceLock::new();
    let identity = IDENTITY.get_or_init(|| {
        let version = env!("CARGO_PKG_VERSION");
        match fs::metadata("/proc/self/exe") {
            Ok(file) => {
                format!("{version} ({} bytes, {}.{:09})", file.size(), file.mtime(), file.mtime_nsec())
            }
            Err(_) => version.to_owned(),
        }
    });
    if traces { format!("{identity}, tracing") } else { identity.clone() }
}
