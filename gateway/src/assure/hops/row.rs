//! What rules allow between two parties.

use std::collections::{BTreeMap, HashMap};

use gateway_common::table::Cell;

use crate::assure::packets::{self, Packets};
use crate::assure::space::{Family, Party};
use crate::compile::image::Image;
use crate::policy::model::{Policy, RuleId, SegmentId};

/// Rows of verdicts, as far as some services are concerned.
pub(super) struct Rows<'i> {
    image: &'i Image,
    classes: BTreeMap<u16, Packets>,
    known: HashMap<(u32, Family), Vec<RuleId>>,
}

impl<'i> Rows<'i> {
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
        let row = self.row(source, destination);
        let Self { image, classes, known } = self;
        known.entry((row, source.family)).or_insert_with(|| {
            let mut rules: Vec<RuleId> =
                allowed(image, classes, row, source.family).map(|(rule, _)| rule).collect();
            rules.sort_unstable();
            rules.dedup();
            rules
        })
    }

    /// The same rules, each with what it allows.
    pub(super) fn permits(&self, source: &Party, destination: &Party) -> BTreeMap<RuleId, Packets> {
        let mut permits: BTreeMap<RuleId, Packets> = BTreeMap::new();
        let row = self.row(source, destination);
        for (rule, packets) in allowed(self.image, &self.classes, row, source.family) {
            permits.entry(rule).or_default().extend(packets);
        }
        permits
    }

    fn row(&self, source: &Party, destination: &Party) -> u32 {
        let width = self.image.config.destinations as usize;
        self.image.pairs[source.class as usize * width + destination.class as usize]
    }
}

fn allowed<'c>(
    image: &'c Image,
    classes: &'c BTreeMap<u16, Packets>,
    row: u32,
    family: Family,
) -> impl Iterator<Item = (RuleId, &'c Packets)> {
    let possible = classes.iter().filter(move |(_, packets)| packets.sample(family).is_some());
    possible.filter_map(move |(&class, packets)| {
        let cell = row as usize * image.config.services as usize + usize::from(class);
        let cell = Cell(image.verdicts[cell]);
        (cell != Cell::NO_RULE && cell.is_allow()).then(|| (RuleId(cell.rule()), packets))
    })
}
