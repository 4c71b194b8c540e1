//! Captured packets judged by the real programs, as if they arrived now at the interfaces of a policy.
//!
//! Nothing is attached: a [`Trial`] runs the programs on each frame, with the time of its capture, so
//! that connections begin, live and time out as they did.

use std::collections::BTreeMap;
use std::path::Path;

use gateway_common::table::TestContext;

pub mod capture;
pub mod place;
pub mod summary;
pub mod view;

use capture::{Capture, CaptureError, Packet};
use place::{Placement, Places, put_tags};
use summary::Summary;
use view::View;

use crate::compile::image::Image;
use crate::dataplane::DataplaneError;
use crate::dataplane::trial::{Buffers, FRAME_MAX, FRAME_MIN, Trial};
use crate::packet::Decision;

/// Added to every time: the programs' clock starts at boot, and budgets that were never used count
/// from 0.
const BOOT: u64 = 3600 * 1_000_000_000;

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A capture cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The programs cannot be run.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// Nobody reads the output.
    #[error("cannot write")]
    Output(#[from] std::io::Error),
    /// No such interface in the policy.
    #[error("the policy has no interface {name}; it has: {known}")]
    NoInterface {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
}

/// Why a packet was not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unjudged {
    /// Neither tag nor source tells where it arrives.
    Unplaced,
    /// The capture stopped before the packet's headers did.
    CutShort,
    /// Shorter than an Ethernet header: no interface would deliver it.
    TooShort,
    /// Longer than the programs can be run on.
    TooLong,
}

impl Unjudged {
    /// As output has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unplaced => "unplaced",
            Self::CutShort => "cut-short",
            Self::TooShort => "too-short",
            Self::TooLong => "too-long",
        }
    }
}

/// What became of a captured packet.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// As it was captured.
    pub packet: Packet<'a>,
    /// What it says of itself.
    pub view: View,
    /// Where it was taken to arrive; `None` where it was not judged.
    pub placement: Option<Placement>,
    /// The programs' judgement, or why there is none.
    pub outcome: Result<Decision, Unjudged>,
}

/// Captures run through a policy, one after the other.
pub struct Replay<'a> {
    image: &'a Image,
    trial: Trial,
    places: Places,
    buffers: Buffers,
    /// The frame, where it is not run as it was captured.
    frame: Vec<u8>,
    /// Time of the last packet.
    now: u64,
    summary: Summary,
}

impl<'a> Replay<'a> {
    /// Loads the programs. All packets arrive on `interface`, where one is named.
    pub fn new(image: &'a Image, interface: Option<&str>) -> Result<Self, ReplayError> {
        let known = &image.manifest.interfaces;
        let forced = match interface {
            Some(name) => {
                let found = known.iter().position(|interface| interface.name == name);
                Some(found.ok_or_else(|| ReplayError::NoInterface {
                    name: name.to_owned(),
                    known: known.iter().map(|known| known.name.as_str()).collect::<Vec<_>>().join(", "),
                })?)
            }
            None => None,
        };
        let interfaces: BTreeMap<_, _> = known.iter().map(|known| known.name.clone()).zip(1..).collect();
        Ok(Self {
            image,
            trial: Trial::new(image, &interfaces)?,
            places: Places::new(image, forced),
            buffers: Buffers::default(),
            frame: Vec::new(),
            now: 0,
            summary: Summary::default(),
        })
    }

    /// Judges every packet of a capture, and shows each to `visit`.
    ///
    /// State carries over from the capture before, unless this one begins before that ended: then
    /// it begins without.
    pub fn capture(
        &mut self,
        path: &Path,
        mut visit: impl FnMut(&Judged<'_>) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        let capture = Capture::open(path)?;
        self.summary.captures += 1;
        capture.each(|packet| {
            if packet.number == 1 && packet.time < self.now {
                self.trial.forget()?;
                self.places.forget_senders();
                self.now = 0;
            }
            let judged = self.judge(packet)?;
            self.summary.add(&judged);
            visit(&judged)
        })
    }

    /// What the captures so far came to.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    fn judge<'p>(&mut self, packet: Packet<'p>) -> Result<Judged<'p>, ReplayError> {
        if packet.time < self.now {
            self.summary.disordered += 1;
        }
        self.now = self.now.max(packet.time);
        let view = View::of(packet.data);
        let length = packet.length as usize;
        let unjudged = |outcome| Ok(Judged { packet, view, placement: None, outcome: Err(outcome) });
        if packet.data.len() < FRAME_MIN {
            return unjudged(if length < FRAME_MIN { Unjudged::TooShort } else { Unjudged::CutShort });
        }
        // Room for two tags that are put in.
        if length > FRAME_MAX - 8 {
            return unjudged(Unjudged::TooLong);
        }
        let is_cut = packet.data.len() < length;
        if is_cut && packet.data.len() < view.headers {
            return unjudged(Unjudged::CutShort);
        }
        let Some(placement) = self.places.of(self.image, &view) else {
            return unjudged(Unjudged::Unplaced);
        };
        let frame = self.frame(packet, length, placement);
        let interface =
            u32::try_from(placement.interface).expect("a policy's interfaces are counted in u32") + 1;
        let context = TestContext { now: self.now + BOOT, ifindex: interface, reserved: 0 };
        let decision = if frame {
            self.trial.judge(context, &self.frame, &mut self.buffers)?
        } else {
            self.trial.judge(context, packet.data, &mut self.buffers)?
        };
        Ok(Judged { packet, view, placement: Some(placement), outcome: Ok(decision) })
    }

    /// Whether the frame is to be run as it now stands in `self.frame`: with its tag, and with zeros
    /// for the payload that was not captured.
    fn frame(&mut self, packet: Packet<'_>, length: usize, placement: Placement) -> bool {
        let is_tagged = placement.put_in != (0, 0);
        if is_tagged {
            put_tags(packet.data, placement.put_in, &mut self.frame);
        } else if packet.data.len() < length {
            self.frame.clear();
            self.frame.extend_from_slice(packet.data);
        } else {
            return false;
        }
        let added = self.frame.len() - packet.data.len();
        self.frame.resize(length + added, 0);
        true
    }
}
