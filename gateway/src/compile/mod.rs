//! Resolved model to tables. Pure.
//!
//! [`compile`] is a chain of small steps, one a module: addresses fall into atoms ([`address`],
//! [`class`]), atoms go into [`stride`] tables, protocols and ports into [`service`] classes, pairs
//! of classes into rows of [`verdict`] cells, in [`layer`]s where they are too many, interfaces into [`place`]s. `read` walks the tables as
//! the datapath does.

use gateway_common::condition::Condition;
use gateway_common::place::SEGMENT_FIRST;
use gateway_common::place::SEGMENT_LIMIT;
use gateway_common::reason::Mode;
use gateway_common::table::{Atom, Cell, Config};

use crate::policy::model::{Forwarding, Policy, Rule, RuleKind, SegmentId};

mod address;
mod block;
mod class;
mod condition;
mod error;
pub mod image;
mod layer;
mod manifest;
mod place;
pub mod read;
mod service;
mod stride;
mod verdict;

use condition::{Conditions, Numbers};
use error::Budget;
pub use error::{CompileError, TABLE_BYTES};
use image::Image;

/// Compiles a policy into the contents of one generation's tables.
///
/// # Errors
/// A policy that does not fit the tables is refused as a whole; the error names the limit.
pub fn compile(policy: &Policy) -> Result<Image, CompileError> {
    compile_as(policy, Layering::BySize)
}

/// When the rules get more than one pair table ([`gateway_common::table::LAYERS`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layering {
    /// When one would make too many rows.
    BySize,
    /// Always: so that tests need no policy of such a size.
    Always,
}

/// As [`compile`], which leaves the choice to the size.
///
/// # Errors
/// As [`compile`].
pub fn compile_as(policy: &Policy, layering: Layering) -> Result<Image, CompileError> {
    check(policy)?;
    let mut budget = Budget::new();
    let services = service::compile(policy, &mut budget)?;
    let space = address::partition(policy);
    let atom_bytes = space.atoms.len() as u64 * size_of::<Atom>() as u64;
    budget.take("atoms", atom_bytes)?;
    let v4 = stride::table("IPv4 addresses", &space.v4, 32, &mut budget)?;
    let v6 = stride::table("IPv6 addresses", &space.v6, 128, &mut budget)?;
    let (sources, destinations) = (&space.sources, &space.destinations);
    let numbers = Numbers::new(policy);
    let verdicts =
        verdict::compile(policy, sources, destinations, &services, &numbers, layering, &mut budget)?;
    let is_layered = !verdicts.sources.is_empty();
    let Conditions { table: conditions, quarantines } = if is_conditional(policy) {
        condition::compile(policy, sources, &numbers)
    } else {
        Conditions::default()
    };
    budget.take("conditions", (conditions.len() * size_of::<Condition>() + quarantines.len() * 4) as u64)?;

    Ok(Image {
        places: place::places(policy, &space.link),
        ethertypes: place::ethertypes(policy),
        v4,
        v6,
        atoms: space.atoms,
        pairs: verdicts.pairs,
        layer_sources: verdicts.sources,
        layer_destinations: verdicts.destinations,
        verdicts: verdicts.cells,
        choices: verdicts.choices,
        quarantines,
        break_glass: break_glass(policy),
        segments: modes(policy),
        config: Config {
            segments: number(policy.segments.len()),
            destinations: number(space.destinations.count()),
            services: services.classes,
            source_ports: services.source_port_classes,
            midstream: u32::from(policy.settings.midstream),
            forwarding: u32::from(policy.settings.forwarding == Forwarding::Xdp),
            layered: u32::from(is_layered),
            conditional: u32::from(is_conditional(policy)),
            break_glass: u32::from(!policy.break_glass.is_empty()),
            ways: u32::from(policy.asks_for_ways()),
            tunnels: u32::from(policy.has_tunnels()),
            timeouts: policy.settings.timeouts,
            neighbour_rate: policy.settings.neighbour_rate,
            event_rate: policy.settings.event_rate,
            ..Config::default()
        },
        conditions,
        services: services.table,
        source_ports: services.source_ports,
        matrix: services.matrix,
        connections: policy.settings.connections,
        manifest: manifest::manifest(policy, budget.taken()),
    })
}

/// What the resolved model promises and the tables rely on.
fn check(policy: &Policy) -> Result<(), CompileError> {
    let segments = policy.segments.len();
    if segments > SEGMENT_LIMIT {
        return Err(CompileError::Segments { count: segments, limit: SEGMENT_LIMIT });
    }
    if segments < usize::from(SEGMENT_FIRST) {
        return Err(CompileError::NoBuiltInSegments);
    }
    if policy.rules.len() >= RULE_LIMIT {
        return Err(CompileError::Rules { count: policy.rules.len(), limit: RULE_LIMIT });
    }
    let known = |segment: SegmentId| usize::from(segment.0) < segments;
    for rule in &policy.rules {
        let segments_known = rule.from.segments.iter().chain(&rule.to.segments).all(|id| known(*id));
        let has_condition = rule.condition.is_none_or(|index| index < policy.conditions.len());
        let has_services = rule.services.iter().all(|&index| index < policy.services.len());
        if !segments_known || !has_condition || !has_services {
            return Err(CompileError::DanglingRule { rule: rule.name.clone() });
        }
    }
    for interface in &policy.interfaces {
        if place::segments_of(interface).iter().any(|id| !known(*id)) {
            return Err(CompileError::DanglingInterface { interface: interface.name.clone() });
        }
    }
    Ok(())
}

/// Whether the programs have to ask for the time, for the way that packets arrive, and for quarantine.
fn is_conditional(policy: &Policy) -> bool {
    let at_times = |rule: &Rule| {
        condition::is_limited(rule) || matches!(rule.kind, RuleKind::Kept | RuleKind::Quarantine)
    };
    policy.rules.iter().any(|rule| rule.is_active() && at_times(rule))
}

/// Rules that a cell can name.
const RULE_LIMIT: usize = Cell::LIMIT as usize;

fn break_glass(policy: &Policy) -> Vec<u64> {
    if policy.break_glass.is_empty() {
        return Vec::new();
    }
    let mut until = vec![0; policy.segments.len()];
    for (segment, &end) in &policy.break_glass {
        if let Some(place) = until.get_mut(usize::from(segment.0)) {
            *place = end;
        }
    }
    until
}

fn modes(policy: &Policy) -> Vec<u32> {
    let mut modes: Vec<u32> = policy.segments.iter().map(|segment| Mode::from(segment.mode) as u32).collect();
    // A packet of which only one end is known is judged by that end's mode.
    modes[usize::from(SegmentId::UNKNOWN.0)] = Mode::Observe as u32;
    modes
}

/// A count that the checks before have bounded far below 2^32.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("bounded by the table budget")
}

#[cfg(test)]
mod tests;
