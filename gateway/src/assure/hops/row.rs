//! What rules allow between two parties.

use std::collections::{BTreeMap, HashMap};

use crate::assure::packets::{self, Packets};
use crate::assure::space::{Family, Party};
use crate::compile::image::Image;
use crate::compile::read::Rows;
use crate::policy::model::{Policy, RuleId, SegmentId};

/// Rows of verdicts, as far as some services are concerned.
pub(super) struct Decided<'i> {
    image: &'i Image,
    classes: BTreeMap<u16, Packets>,
    known: HashMap<(Rows, Family), Vec<RuleId>>,
}

impl<'i> Decided<'i> {
    pub(super) fn new(policy: &Policy, image: &'i Image, services: &[usize]) -> Self {
        let services = services.iter().map(|&index| &policy.services[index]);
        Self { image, classes: packets::classes(image, Some(services)), known: HashMap::new() }
    }

    /// Rules that allow something from one to the other, in their order.
    pub(super) fn rules(&mut self, source: &Party, destination: &Party) -> &[RuleId] {
        let apart = source.family != destination.family;
        // A sender without an address gets as far as the gateway.
        if apart || (source.nameless && destination.segment != SegmentId::GATEWAY) {
            return &[];
        }
        let rows = self.rows(source, destination);
        let Self { image, classes, known } = self;
        known.entry((rows, source.family)).or_insert_with(|| {
            let mut rules: Vec<RuleId> =
                allowed(image, classes, rows, source.family).map(|(rule, _)| rule).collect();
            rules.sort_unstable();
            rules.dedup();
            rules
        })
    }

    /// The same rules, each with what it allows.
    pub(super) fn permits(&self, source: &Party, destination: &Party) -> BTreeMap<RuleId, Packets> {
        let mut permits: BTreeMap<RuleId, Packets> = BTreeMap::new();
        let rows = self.rows(source, destination);
        for (rule, packets) in allowed(self.image, &self.classes, rows, source.family) {
            permits.entry(rule).or_default().extend(packets);
        }
        permits
    }

    fn rows(&self, source: &Party, destination: &Party) -> Rows {
        self.image.rows(source.class, destination.class).expect("classes of this image")
    }
}

fn allowed<'c>(
    image: &'c Image,
    classes: &'c BTreeMap<u16, Packets>,
    rows: Rows,
    family: Family,
) -> impl Iterator<Item = (RuleId, &'c Packets)> {
    let possible = classes.iter().filter(move |(_, packets)| packets.sample(family).is_some());
    possible.filter_map(move |(&class, packets)| {
        let cell = image.cell(rows, class).expect("rows and classes of this image");
        cell.is_allow().then(|| (RuleId(cell.rule()), packets))
    })
}
