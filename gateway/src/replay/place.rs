//! Where a captured frame arrives: said by the user, or told from its tag, its source or its sender.

use std::collections::HashMap;

use gateway_common::place::{PlaceKey, SEGMENT_GATEWAY, SEGMENT_MULTICAST, SEGMENT_UNKNOWN};
use gateway_common::table::Atom;
use serde::Serialize;

use super::view::View;
use crate::compile::image::Image;

/// Senders whose segment is remembered; later ones are not.
const SENDERS_MAX: usize = 1 << 16;

/// How it is known where a frame arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacedBy {
    /// The user named the interface.
    Interface,
    /// A trunk of the policy carries its tag.
    Tag,
    /// No trunk carries its tag: it arrives at the first one, which does not know it either.
    UnknownTag,
    /// The segment of its source address.
    Source,
    /// Its source has no segment, but its hardware address sent from one before.
    Sender,
}

impl PlacedBy {
    /// As output has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Tag => "tag",
            Self::UnknownTag => "unknown-tag",
            Self::Source => "source",
            Self::Sender => "sender",
        }
    }
}

/// Where a frame arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Index into the manifest's interfaces.
    pub interface: usize,
    /// How that is known.
    pub by: PlacedBy,
    /// Outer and inner tag to put in front of the untagged frame, because its segment arrives on a
    /// trunk only; 0 for none.
    pub put_in: (u16, u16),
}

/// A place of a segment: interface, outer tag, tag.
type Home = (usize, u16, u16);

/// The places of a policy.
#[derive(Debug)]
pub struct Places {
    forced: Option<usize>,
    /// By outer tag and tag; the first interface that carries them.
    tags: HashMap<(u16, u16), usize>,
    first_trunk: Option<usize>,
    /// By segment.
    homes: Vec<Option<Home>>,
    senders: HashMap<[u8; 6], u16>,
}

impl Places {
    /// The places of `image`; `forced` is an index into its manifest's interfaces.
    pub fn new(image: &Image, forced: Option<usize>) -> Self {
        let interfaces = &image.manifest.interfaces;
        let mut places = Self {
            forced,
            tags: HashMap::new(),
            first_trunk: interfaces.iter().position(|interface| interface.trunk),
            homes: vec![None; image.manifest.segments.len()],
            senders: HashMap::new(),
        };
        let PlaceKey { outer: none, .. } = PlaceKey::interface(0);
        for named in image.places.iter().filter(|named| named.outer != none) {
            let found = interfaces.iter().position(|interface| interface.name == named.interface);
            let Some(interface) = found else { continue };
            if (named.outer, named.vlan) != (0, 0) {
                places.tags.entry((named.outer, named.vlan)).or_insert(interface);
            }
            let Some(home) = places.homes.get_mut(usize::from(named.place.segment)) else { continue };
            // An access port shows the frame as it is.
            if home
                .is_none_or(|(_, outer, vlan)| (outer, vlan) != (0, 0) && (named.outer, named.vlan) == (0, 0))
            {
                *home = Some((interface, named.outer, named.vlan));
            }
        }
        places
    }

    /// Takes every sender for one that was never seen.
    pub fn forget_senders(&mut self) {
        self.senders.clear();
    }

    /// Where a frame arrives; `None` where nothing tells.
    pub fn of(&mut self, image: &Image, view: &View) -> Option<Placement> {
        let at = |interface, by| Some(Placement { interface, by, put_in: (0, 0) });
        if let Some(interface) = self.forced {
            return at(interface, PlacedBy::Interface);
        }
        if let Some(tag) = view.tag.filter(|&tag| tag != (0, 0)) {
            if let Some(&interface) = self.tags.get(&tag) {
                return at(interface, PlacedBy::Tag);
            }
            if let Some(interface) = self.first_trunk {
                return at(interface, PlacedBy::UnknownTag);
            }
        }
        let (segment, by) = match own_segment(image, view) {
            Some(segment) => {
                if self.senders.len() < SENDERS_MAX || self.senders.contains_key(&view.sender) {
                    self.senders.insert(view.sender, segment);
                }
                (segment, PlacedBy::Source)
            }
            None => (*self.senders.get(&view.sender)?, PlacedBy::Sender),
        };
        let (interface, outer, vlan) = (*self.homes.get(usize::from(segment))?)?;
        let put_in = if view.tag.is_none() { (outer, vlan) } else { (0, 0) };
        Some(Placement { interface, by, put_in })
    }
}

/// Segment that the source address alone names.
fn own_segment(image: &Image, view: &View) -> Option<u16> {
    const NOBODYS: u16 = Atom::LINK_LOCAL | Atom::UNSPECIFIED | Atom::NEVER_SOURCE | Atom::GROUP;
    let atom = image.atom(view.source?)?;
    let is_own = !matches!(atom.segment, SEGMENT_GATEWAY | SEGMENT_MULTICAST | SEGMENT_UNKNOWN);
    (is_own && atom.flags & NOBODYS == 0).then_some(atom.segment)
}

/// `frame` with 802.1Q tags (802.1ad outside, if there are two) written to `tagged`.
pub fn put_tags(frame: &[u8], (outer, vlan): (u16, u16), tagged: &mut Vec<u8>) {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    tagged.clear();
    tagged.extend_from_slice(addresses);
    if outer != 0 {
        tagged.extend_from_slice(&[0x88, 0xa8]);
        tagged.extend_from_slice(&outer.to_be_bytes());
    }
    tagged.extend_from_slice(&[0x81, 0x00]);
    tagged.extend_from_slice(&vlan.to_be_bytes());
    tagged.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::put_tags;

    #[test]
    fn tags_stand_between_the_addresses_and_the_rest() {
        let frame: Vec<u8> = (0..20).collect();
        let mut tagged = vec![0xff];
        put_tags(&frame, (300, 80), &mut tagged);
        let both = [0x88, 0xa8, 0x01, 0x2c, 0x81, 0x00, 0x00, 0x50];
        assert_eq!(tagged, [&frame[..12], &both, &frame[12..]].concat());
        put_tags(&frame, (0, 80), &mut tagged);
        assert_eq!(tagged, [&frame[..12], &both[4..], &frame[12..]].concat());
    }
}
