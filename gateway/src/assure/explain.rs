//! Why packets are allowed or not, and what would change that.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::packet::Transport;
use crate::policy::model::{AddressSet, Origin, Policy, Rule, RuleId, RuleKind, SegmentId, Tunnel};

use super::invariant::{kind, matches};
use super::naming::Names;
use super::packets::Packets;
use super::reach::{Cells, Question, Reach, Ruling, Sample};

/// How much of what was asked about is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Every packet.
    All,
    /// Some packets.
    Part,
    /// No packet.
    None,
    /// There is no such packet: no interface, no IP version in common.
    Impossible,
}

/// The answer to a question about sets.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// How much is allowed.
    pub answer: Answer,
    /// Who decides what; together they are all that was asked about.
    pub parts: Vec<Part>,
    /// About what is not allowed.
    pub refusal: Option<Refusal>,
}

/// Packets about which one rule decides, or none.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Whether they are allowed.
    pub allowed: bool,
    /// The rule that decides; none where no flow allows them.
    pub rule: Option<Named>,
    /// From whom to whom, with what; one packet is in one of them.
    pub packets: Vec<Block>,
    /// One of them.
    pub example: String,
}

/// All packets from any of `from` to any of `to` with any of `services`.
#[derive(Clone, Debug, Serialize)]
pub struct Block {
    /// Segments, devices, addresses.
    pub from: Vec<String>,
    /// Likewise.
    pub to: Vec<String>,
    /// Protocols and ports.
    pub services: String,
}

/// A rule and where it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// Name.
    pub name: String,
    /// `flow`, `vendor access` or `deny`.
    pub kind: &'static str,
    /// Where it stands.
    #[serde(flatten)]
    pub origin: Origin,
    /// Why it exists.
    pub purpose: Option<String>,
    /// How what its initiators send must arrive; absent for whichever way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<Tunnel>,
}

/// Why a packet is not allowed, and how near it is.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// The flow or vendor access that nearly allows it.
    pub nearest: Option<Nearest>,
    /// Invariants that forbid to allow it.
    pub invariants: Vec<String>,
}

/// A rule that nearly allows a packet.
#[derive(Clone, Debug, Serialize)]
pub struct Nearest {
    /// The rule.
    #[serde(flatten)]
    pub rule: Named,
    /// What it would need to be, one phrase each.
    pub fails: Vec<String>,
}

/// Sources or destinations that are decided alike: segment, class, whether they have no address.
type Key = (SegmentId, u32, bool);

/// What one ruling decides: service classes by source and destination.
type Pairs = BTreeMap<(Key, Key), BTreeSet<u16>>;

/// Explains what becomes of all packets of a question.
pub fn explain(policy: &Policy, reach: &Reach<'_>, question: Question<'_>) -> Explanation {
    let mut rulings: BTreeMap<Ruling, (Sample<'_>, Pairs)> = BTreeMap::new();
    let mut names = Names::new(policy, reach.space());
    let mut services: BTreeMap<u16, Packets> = BTreeMap::new();
    reach.cells(policy, question, |cells| {
        let Cells { source, destination, class, packets, ruling } = cells;
        let keys = [source, destination].map(|it| (it.segment, it.class, it.nameless));
        names.learn(keys, [source, destination]);
        services.entry(class).or_insert_with(|| packets.clone());
        let (_, pairs) = rulings.entry(ruling).or_insert_with(|| (reach.sample(cells), Pairs::new()));
        pairs.entry((keys[0], keys[1])).or_default().insert(class);
    });
    let allowed = rulings.keys().filter(|ruling| matches!(ruling, Ruling::Allowed(_))).count();
    let answer = match (rulings.len(), allowed) {
        (0, _) => Answer::Impossible,
        (_, 0) => Answer::None,
        (all, allowed) if all == allowed => Answer::All,
        _ => Answer::Part,
    };
    let refused = rulings.iter().find(|(ruling, _)| !matches!(ruling, Ruling::Allowed(_)));
    let refusal = refused.map(|(_, (sample, _))| refusal(policy, sample));
    let parts = rulings
        .iter()
        .map(|(ruling, (sample, pairs))| Part {
            allowed: matches!(ruling, Ruling::Allowed(_)),
            rule: ruling.rule().map(|id| Named::of(policy, id)),
            packets: blocks(pairs, &names, &services),
            example: sample.to_string(),
        })
        .collect();
    Explanation { answer, parts, refusal }
}

/// As few blocks as are easily found: sources that reach the same destinations with the same services
/// stand together.
fn blocks(pairs: &Pairs, names: &Names<'_>, services: &BTreeMap<u16, Packets>) -> Vec<Block> {
    let mut by_source: BTreeMap<(&BTreeSet<u16>, Key), BTreeSet<Key>> = BTreeMap::new();
    for ((source, destination), classes) in pairs {
        by_source.entry((classes, *source)).or_default().insert(*destination);
    }
    let mut together: BTreeMap<(&BTreeSet<u16>, BTreeSet<Key>), BTreeSet<Key>> = BTreeMap::new();
    for ((classes, source), destinations) in by_source {
        together.entry((classes, destinations)).or_default().insert(source);
    }
    let block = |((classes, to), from): (&(&BTreeSet<u16>, BTreeSet<Key>), &BTreeSet<Key>)| {
        let mut all = Packets::default();
        classes.iter().filter_map(|class| services.get(class)).for_each(|packets| all.extend(packets));
        Block { from: names.sources(from), to: names.destinations(to), services: all.to_string() }
    };
    together.iter().map(block).collect()
}

/// Why a packet is not allowed: what nearly allows it, and what forbids to.
pub fn refusal(policy: &Policy, sample: &Sample<'_>) -> Refusal {
    let Sample { source, destination, packet, .. } = *sample;
    let forbids = |kind| matches!(kind, RuleKind::Deny | RuleKind::Quarantine);
    let rules = (0..).map(RuleId).zip(&policy.rules).filter(|(_, rule)| !forbids(rule.kind));
    let nearest = rules
        .filter_map(|(id, rule)| {
            let (cost, fails) = misses(policy, rule, sample)?;
            Some((cost, id, fails))
        })
        .min_by_key(|(cost, id, _)| (*cost, *id));
    let forbids = |from: &AddressSet, to: &AddressSet, services: Option<&[usize]>| {
        from.contains(packet.source, source)
            && to.contains(packet.destination, destination)
            && services.is_none_or(|list| names_service(policy, list, packet.transport))
    };
    let invariants = policy.invariants.iter().filter(|it| forbids(&it.from, &it.to, it.never.as_deref()));
    Refusal {
        nearest: nearest.map(|(_, id, fails)| Nearest { rule: Named::of(policy, id), fails }),
        invariants: invariants.map(|invariant| invariant.name.clone()).collect(),
    }
}

/// What keeps a rule from allowing a packet, and how much that is; `None` where it is about something
/// else altogether. One end that does not fit weighs more than a service or a limit.
fn misses(policy: &Policy, rule: &Rule, sample: &Sample<'_>) -> Option<(u32, Vec<String>)> {
    let Sample { arrival, source, destination, packet } = *sample;
    let service = names_service(policy, &rule.services, packet.transport);
    let from = rule.from.contains(packet.source, source);
    let to = rule.to.contains(packet.destination, destination);
    let back = rule.from.contains(packet.destination, destination) && rule.to.contains(packet.source, source);
    let (mut cost, mut fails) = (0, Vec::new());
    let mut miss = |weight: u32, what: String| {
        cost += weight;
        fails.push(what);
    };
    match (from, to) {
        (true, true) => {}
        (false, false) if back && service => miss(3, "it allows the other direction".to_owned()),
        (false, false) => return None,
        _ if !service => return None,
        (false, true) => miss(4, format!("`from` does not have {}", packet.source)),
        (true, false) => miss(4, format!("`to` does not have {}", packet.destination)),
    }
    if !service {
        let named: Vec<&str> = rule.services.iter().map(|&it| policy.services[it].name.as_str()).collect();
        miss(2, format!("`services` has only {}", named.join(", ")));
    }
    if !rule.is_active() {
        miss(1, closed(policy, rule));
    } else if let Some(way) = rule.through
        && policy
            .interfaces
            .iter()
            .any(|interface| interface.name == arrival.interface && interface.way() != way)
    {
        miss(1, format!("it needs to {}", way.words()));
    }
    Some((cost, fails))
}

/// Why a rule is closed that names the packet.
fn closed(policy: &Policy, rule: &Rule) -> String {
    if let Some(way) = rule.through.filter(|_| policy.is_out_of_reach(rule)) {
        return format!(
            "it would need to {}, and no interface says that packets do: it stays closed",
            way.words()
        );
    }
    let Some(limits) = rule.limits.as_deref() else { return "it takes no part in decisions".to_owned() };
    let window = limits.window.as_ref().map(|window| {
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        format!("in its window from {} to {} ({})", time(window.from), time(window.to), window.timezone)
    });
    let also = rule.through.map(|way| format!("; it needs to {}", way.words())).unwrap_or_default();
    match (window, limits.grant) {
        (Some(window), true) => format!(
            "it is open only with a grant (clinigate grant open {} DEVICE --ticket TICKET --for 2h), {window}{also}",
            limits.vendor
        ),
        (Some(window), false) => format!("it is open only {window}{also}"),
        (None, _) => {
            format!(
                "it is open only with a grant: clinigate grant open {} DEVICE --ticket TICKET --for 2h{also}",
                limits.vendor
            )
        }
    }
}

fn names_service(policy: &Policy, services: &[usize], transport: Transport) -> bool {
    let mut all = services.iter().flat_map(|&service| &policy.services[service].matches);
    all.any(|it| matches(*it, transport))
}

impl Named {
    /// Whether it was ordered at a gateway, and stands in no file.
    pub fn is_ordered(&self) -> bool {
        self.origin.line == 0
    }

    /// Whether it is a quarantine that was ordered at a gateway.
    pub fn isolates(&self) -> bool {
        self.is_ordered() && self.kind == "quarantine"
    }

    /// A rule of a policy.
    pub fn of(policy: &Policy, id: RuleId) -> Self {
        let rule = &policy.rules[id.0 as usize];
        Self {
            name: rule.name.clone(),
            kind: kind(rule),
            origin: rule.origin.clone(),
            purpose: rule.purpose.clone(),
            through: rule.through,
        }
    }
}
