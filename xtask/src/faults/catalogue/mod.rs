//! The faults, in the order of a packet's and a policy's way.

mod arrival;
mod beside;
mod compiler;
mod forwarding;
mod interfaces;
mod judgement;
mod layers;
mod limits;
mod night;
mod policy;
mod shared;
mod tunnels;

use super::fault::Fault;

/// All faults.
pub(crate) fn all() -> impl Iterator<Item = &'static Fault> {
    let tables = [
        arrival::FAULTS,
        judgement::FAULTS,
        limits::FAULTS,
        night::FAULTS,
        tunnels::FAULTS,
        forwarding::FAULTS,
        interfaces::FAULTS,
        shared::FAULTS,
        compiler::FAULTS,
        layers::FAULTS,
        policy::FAULTS,
        beside::FAULTS,
    ];
    tables.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;
    use crate::faults::suite::LAYERS;
    use crate::process;

    /// Fails where a line that a fault replaces was changed or moved: give the fault its new line, or
    /// take another one in the same place that breaks as much.
    #[test]
    fn every_fault_still_has_its_line() {
        let lost: Vec<String> = all()
            .filter_map(|fault| fault.texts(process::workspace_root()).err())
            .map(|error| format!("{error:#}"))
            .collect();
        assert!(lost.is_empty(), "\n{}", lost.join("\n"));
    }

    #[test]
    fn a_fault_changes_one_line() {
        for fault in all() {
            let (right, wrong): (Vec<_>, Vec<_>) =
                (fault.right.lines().collect(), fault.wrong.lines().collect());
            assert_eq!(right.len(), wrong.len(), "{}", fault.name);
            let changed = right.iter().zip(&wrong).filter(|(right, wrong)| right != wrong).count();
            assert_eq!(changed, 1, "{}", fault.name);
        }
    }

    #[test]
    fn a_fault_names_a_layer() {
        for fault in all() {
            assert!(LAYERS.iter().any(|layer| layer.name == fault.near.0), "{}", fault.name);
        }
    }

    #[test]
    fn faults_have_names_of_their_own() {
        let names: BTreeSet<&str> = all().map(|fault| fault.name).collect();
        assert_eq!(names.len(), all().count());
        assert!(names.len() >= 20, "only {}", names.len());
    }
}
