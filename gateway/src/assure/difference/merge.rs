//! Cells of classes, merged into few products.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::ranges::normalise;

use super::classes::Class;
use super::services::Bits;
use super::{Destinations, Family, Product, Sources};

/// Merges destinations that a source reaches with the same services, then sources that reach the
/// same. The products are disjoint and cover the cells exactly.
pub(super) fn products(
    family: Family,
    sources: &[Class],
    destinations: &[Class],
    cells: Vec<(usize, usize, Bits)>,
) -> Vec<Product> {
    let mut reach: BTreeMap<usize, BTreeMap<Bits, BTreeSet<usize>>> = BTreeMap::new();
    for (source, destination, services) in cells {
        reach.entry(source).or_default().entry(services).or_default().insert(destination);
    }
    let mut alike: BTreeMap<BTreeMap<Bits, BTreeSet<usize>>, Vec<usize>> = BTreeMap::new();
    for (source, reached) in reach {
        alike.entry(reached).or_default().push(source);
    }
    let mut products = Vec::new();
    for (reached, of) in alike {
        let from = Sources {
            ranges: normalise(of.iter().flat_map(|&source| sources[source].ranges.clone()).collect()),
            nameless: of.iter().flat_map(|&source| sources[source].nameless.clone()).collect(),
        };
        for (services, to) in reached {
            let to = Destinations {
                ranges: normalise(to.iter().flat_map(|&class| destinations[class].ranges.clone()).collect()),
                gateway: to.iter().any(|&class| destinations[class].is_gateway),
            };
            let mut from = from.clone();
            if !to.gateway {
                from.nameless.clear();
            }
            products.push(Product { family, from, to, services });
        }
    }
    products
}
