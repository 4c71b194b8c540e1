//! What the service may do: what it needs for the next change of policy, and nothing else.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use tracing::warn;

/// What loading, attaching and serving take (capabilities(7)).
const NEEDED: [Capability; 5] = [
    // Programs and maps; and that the verifier lets the programs read what they do.
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    // Attaching, offloads.
    Capability::CAP_NET_ADMIN,
    // The group of the control socket.
    Capability::CAP_CHOWN,
    // Policies in directories of other users.
    Capability::CAP_DAC_READ_SEARCH,
];

/// Gives up all other capabilities, for this process and whatever it starts. Called while there is one thread:
/// capabilities are a thread's own.
pub(super) fn give_up() -> Result<(), CapsError> {
    let needed = CapsHashSet::from(NEEDED);
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = permitted.intersection(&needed).copied().collect();
    // What is started by root would have the bounding set's capabilities again.
    for capability in caps::all().difference(&needed) {
        if caps::has_cap(None, CapSet::Bounding, *capability)?
            && let Err(error) = caps::drop(None, CapSet::Bounding, *capability)
        {
            warn!(%capability, %error, "what this service starts may have more rights than it has itself");
            break;
        }
    }
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
