//! The running connections that a change would cut, asked of what is in force.

use std::error::Error;
use std::io;
use std::time::Duration;

use gateway_common::connection::Connection as Entry;

use super::prepare::with_addresses;
use super::service::chain;
use crate::assure::cut::{Connection, Cuts, Survey};
use crate::compile::compile;
use crate::compile::image::Image;
use crate::dataplane::{DataplaneError, LiveConnection, Onlooker, Options};
use crate::packet::Arrival;
use crate::policy::model::Policy;

/// What a change does to the running connections of a generation.
#[derive(Clone, Debug)]
pub struct Running {
    /// The generation in force.
    pub generation: u32,
    /// What the change would cut.
    pub cuts: Cuts,
}

/// Looks at every running connection, as `old`, which must be in force, admitted it and `new` would judge
/// it. `examples` of each group are kept.
///
/// # Errors
/// Why nobody can tell, in words.
pub fn survey(options: &Options, old: &Policy, new: &Policy, examples: usize) -> Result<Running, String> {
    let seen = Onlooker::open(options).map_err(|error| refused(&error))?;
    let Some(seen) = seen else {
        return Err("nothing is in force that this version of clinigate can read".to_owned());
    };
    let generation = seen.generation();
    if seen.record().policy_hash != old.hash {
        return Err(format!("the policy before is not the one in force (generation {generation})"));
    }
    let image = |policy: &Policy, which: &str| -> Result<Image, String> {
        compile(&with_addresses(policy, seen.addresses()))
            .map_err(|error| format!("the policy {which} does not compile: {}", chain(&error)))
    };
    let (before, after) = (image(old, "before")?, image(new, "after")?);
    let mut survey = Survey::new(&before, &after, examples);
    seen.each_connection(|live| survey.add(&connection(&seen, old, &live))).map_err(|error| chain(&error))?;
    if !seen.is_current().map_err(|error| chain(&error))? {
        return Err("the policy in force changed meanwhile: ask again".to_owned());
    }
    Ok(Running { generation, cuts: survey.finish() })
}

/// What went wrong, and who may look where that is it.
fn refused(error: &DataplaneError) -> String {
    let words = chain(error);
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied) {
            return format!("{words}: run as root");
        }
        cause = error.source();
    }
    words
}

fn connection<'a>(seen: &'a Onlooker, old: &Policy, live: &LiveConnection) -> Connection<'a> {
    let LiveConnection { entry, state, remaining } = live;
    let place = |end: usize| {
        let interface = seen.interface(entry.ifindex[end])?;
        Some(Arrival { interface, outer: entry.outer[end], vlan: entry.vlan[end] })
    };
    // What an earlier generation saw last, it gave its own time to live.
    let idle = (entry.generation == seen.generation()).then(|| {
        let whole = Duration::from_secs(old.settings.timeouts[*state as usize].into());
        whole.saturating_sub(Duration::from_nanos(*remaining)).as_secs()
    });
    Connection {
        initiator: live.initiator(),
        responder: live.responder(),
        protocol: entry.key.protocol,
        state: *state,
        places: [place(0), place(1)],
        of_gateway: entry.flags & Entry::GATEWAY != 0,
        idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_look_is_told_who_may() {
        let told = |kind: io::ErrorKind| {
            refused(&DataplaneError::Bpf { what: "cannot open CONNECTIONS".to_owned(), source: kind.into() })
        };
        assert_eq!(
            told(io::ErrorKind::PermissionDenied),
            "cannot open CONNECTIONS: permission denied: run as root"
        );
        assert!(!told(io::ErrorKind::OutOfMemory).contains("root"));
    }
}
