//! Which binary this is: a policy that another one compiled is compiled again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// Version, and what tells builds of one version apart: size and time of the file that was
/// started.
pub(super) fn identity() -> String {
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
    identity.clone()
}
