//! The bench: one policy in force, frames through it, and every counter watched.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use clinigate::compile::image::Image;
use clinigate::compile::{Layering, compile_as};
use clinigate::dataplane::trial::{FRAME_MIN, Outcome, Trial};
use clinigate::dataplane::{Counters, PairKey};
use clinigate::policy::model::Policy;
use clinigate::policy::{SourceFile, resolve};
use gateway_common::event::Event;
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::TestContext;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::lent::Lent;

/// The policy of most tables.
pub(crate) const WARD: &str = include_str!("ward.yaml");

/// What a frame must come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    verdict: Verdict,
    reason: Reason,
    rule: Option<&'static str>,
}

impl Expected {
    pub(crate) fn new(verdict: Verdict, reason: Reason, rule: Option<&'static str>) -> Self {
        Self { verdict, reason, rule }
    }
}

pub(crate) fn pass(reason: Reason, rule: &'static str) -> Expected {
    Expected { verdict: Verdict::Pass, reason, rule: Some(rule) }
}

/// Passes, and no rule has a part in it.
pub(crate) fn pass_unruled(reason: Reason) -> Expected {
    Expected { verdict: Verdict::Pass, reason, rule: None }
}

pub(crate) fn drop(reason: Reason) -> Expected {
    Expected { verdict: Verdict::Drop, reason, rule: None }
}

pub(crate) fn drop_by(reason: Reason, rule: &'static str) -> Expected {
    Expected { verdict: Verdict::Drop, reason, rule: Some(rule) }
}

pub(crate) fn audit(reason: Reason) -> Expected {
    Expected { verdict: Verdict::Audit, reason, rule: None }
}

pub(crate) fn observe(reason: Reason) -> Expected {
    Expected { verdict: Verdict::Observe, reason, rule: None }
}

/// One policy in force.
pub(crate) struct Bench {
    trial: Lent,
    interfaces: BTreeMap<String, u32>,
    /// Nanoseconds on the clock of the frames.
    pub(crate) now: u64,
    log: String,
    /// The counters as the last frame left them, as long as nothing else ran.
    counted: Cell<Option<Counters>>,
    /// Another of the same, to which every packet comes by a device without a link layer, as far as it could.
    bare: Option<Box<Bench>>,
    is_bare: bool,
}

impl Bench {
    pub(crate) fn new(policy: &str) -> Self {
        Self::of(&image(policy))
    }

    /// The ward, with its rules in one table, and in layers, which it does not need for its size.
    pub(crate) fn wards() -> [Self; 2] {
        [Self::ward(), Self::layered(WARD)]
    }

    /// A policy whose rules are in layers.
    pub(crate) fn layered(policy: &str) -> Self {
        Self::of(&image_as(policy, Layering::Always))
    }

    fn of(image: &Image) -> Self {
        // Numbers that no machine gives its interfaces in this order.
        let interfaces: BTreeMap<String, u32> = image
            .manifest
            .interfaces
            .iter()
            .zip(101..)
            .map(|(entry, index)| (entry.name.clone(), index))
            .collect();
        let trial = Lent::new(image, &interfaces);
        Self::with(trial, interfaces, 3_600_000_000_000)
    }

    fn with(trial: Lent, interfaces: BTreeMap<String, u32>, now: u64) -> Self {
        let counted = Cell::default();
        Self { trial, interfaces, now, log: String::new(), counted, bare: None, is_bare: false }
    }

    /// The ward twice: what comes with a link layer, and what comes without one, must come to the same.
    pub(crate) fn ward_on_any_link() -> Self {
        let mut image = image(WARD);
        image.config.tunnels = 1;
        let bare = Self { is_bare: true, ..Self::of(&image) };
        Self { bare: Some(Box::new(bare)), ..Self::ward() }
    }

    /// The same packets by devices without a link layer.
    pub(crate) fn without_link_layer(mut self) -> Self {
        self.is_bare = true;
        self
    }

    /// The same with each interface a bond of two links: `t0` has `t0-link1` and `t0-link2`.
    pub(crate) fn bonded(policy: &str) -> Self {
        let image = image(policy);
        let Self { mut interfaces, now, .. } = Self::of(&image);
        let mut links = BTreeMap::new();
        for (bond, index) in interfaces.clone() {
            let own = [index + 100, index + 200];
            interfaces.extend([1, 2].map(|link| format!("{bond}-link{link}")).into_iter().zip(own));
            links.insert(bond, own.to_vec());
        }
        let trial = Trial::bonded(&image, &interfaces, &links).unwrap().into();
        Self::with(trial, interfaces, now)
    }

    /// A resolved policy, with its rules in one table.
    pub(crate) fn of_policy(policy: &Policy) -> Self {
        Self::of(&compile_as(policy, Layering::BySize).unwrap())
    }

    /// A resolved policy, with its rules in one table, and in layers.
    pub(crate) fn both(policy: &Policy) -> [Self; 2] {
        [Layering::BySize, Layering::Always].map(|layering| Self::of(&compile_as(policy, layering).unwrap()))
    }

    pub(crate) fn ward() -> Self {
        Self::new(WARD)
    }

    /// Puts another policy in force.
    pub(crate) fn swap(&mut self, policy: &str) {
        assert!(self.bare.is_none());
        self.counted.take();
        self.trial.swap(&image(policy));
        writeln!(self.log, "-- another policy").unwrap();
    }

    /// Puts another resolved policy in force.
    pub(crate) fn swap_policy(&mut self, policy: &Policy) {
        self.counted.take();
        self.trial.swap(&compile_as(policy, Layering::BySize).unwrap());
        writeln!(self.log, "-- another policy").unwrap();
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now += seconds * 1_000_000_000;
        writeln!(self.log, "-- {seconds} s later").unwrap();
    }

    /// Runs a frame that arrives on `interface`, and compares all that can be seen of it.
    #[track_caller]
    pub(crate) fn frame(&mut self, what: &str, interface: &str, frame: &[u8], expected: Expected) {
        self.counted_as(what, interface, frame, expected);
    }

    /// The same; returns the pair that counted it.
    #[track_caller]
    fn counted_as(&mut self, what: &str, interface: &str, frame: &[u8], expected: Expected) -> PairKey {
        if let Some(bare) = &mut self.bare {
            bare.now = self.now;
            bare.frame(what, interface, frame, expected);
        }
        let before = self.counted.take().unwrap_or_else(|| self.counters());
        self.trial.events();
        let ifindex = self.interfaces.get(interface).copied().unwrap_or(999);
        let context = TestContext { now: self.now, ifindex, reserved: 0 };
        let outcome = self.run(context, frame);
        let after = self.counters();

        let (key, bytes) = self.moved(what, &before, &after);
        writeln!(self.log, "{what}: {key:?}").unwrap();
        let rules = moved_rules(&before, &after);
        let seen = (key.verdict, key.reason, rules.first().map(String::as_str));
        assert_eq!(seen, (expected.verdict, expected.reason, expected.rule), "{what}\n{}", self.log);
        assert!(rules.len() <= 1, "{what}: one packet, one rule: {rules:?}");
        assert_eq!(bytes, frame.len() as u64, "{what}: bytes counted");
        assert_eq!(outcome.passed(), expected.verdict != Verdict::Drop, "{what}: action {}", outcome.action);
        assert_eq!(outcome.frame, frame, "{what}: the frame goes on as it came");
        self.counted.set(Some(after));
        key
    }

    fn run(&self, context: TestContext, frame: &[u8]) -> Outcome {
        if !self.is_bare || !could_be_bare(frame) {
            return self.trial.run(context, frame).unwrap();
        }
        let outcome = self.trial.run_bare(context, &frame[LINK..]).unwrap();
        // What is dropped keeps the header that it was given.
        let taken = if outcome.passed() { LINK } else { 0 };
        let written = if taken == 0 { LINK } else { 0 };
        Outcome { frame: [&frame[..LINK], &outcome.frame[written..]].concat(), ..outcome }
    }

    /// Runs a packet on a device without a link layer.
    pub(crate) fn packet(&self, interface: &str, packet: &[u8]) -> Outcome {
        let context = TestContext { now: self.now, ifindex: self.interfaces[interface], reserved: 0 };
        self.counted.take();
        self.trial.run_bare(context, packet).unwrap()
    }

    /// The segments of the last frame's pair: source and destination.
    #[track_caller]
    pub(crate) fn frame_between(
        &mut self,
        what: &str,
        interface: &str,
        frame: &[u8],
        expected: Expected,
        (source, destination): (&str, &str),
    ) {
        let key = self.counted_as(what, interface, frame, expected);
        assert_eq!((key.source.as_str(), key.destination.as_str()), (source, destination), "{what}");
    }

    /// Runs the egress program on a frame that the gateway sends itself.
    pub(crate) fn sends(&mut self, what: &str, frame: &[u8]) {
        if let Some(bare) = &mut self.bare {
            bare.sends(what, frame);
        }
        self.counted.take();
        let outcome = self.trial.send(frame).unwrap();
        assert_eq!(outcome.action.cast_signed(), -1, "{what}: the egress program never decides");
        writeln!(self.log, "gateway sends {what}").unwrap();
    }

    /// Runs a frame and says only whether it passes.
    pub(crate) fn passes(&self, interface: &str, frame: &[u8]) -> bool {
        let context = TestContext { now: self.now, ifindex: self.interfaces[interface], reserved: 0 };
        self.counted.take();
        self.trial.run(context, frame).unwrap().passed()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.trial.counters().unwrap()
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.trial.events()
    }

    /// Connections that live now.
    pub(crate) fn live(&self) -> usize {
        self.trial.connections(self.now).unwrap().len()
    }

    /// The one pair counter that moved, by one packet, and by how many bytes.
    #[track_caller]
    fn moved(&self, what: &str, before: &Counters, after: &Counters) -> (PairKey, u64) {
        let moved: Vec<_> = after
            .pairs
            .iter()
            .filter_map(|(key, counter)| {
                let old = before.pairs.get(key).copied().unwrap_or_default();
                (*counter != old)
                    .then(|| (key.clone(), counter.packets - old.packets, counter.bytes - old.bytes))
            })
            .collect();
        let [(key, 1, bytes)] = &moved[..] else {
            panic!("{what}: one packet moves one counter by one, but: {moved:#?}\n{}", self.log)
        };
        (key.clone(), *bytes)
    }
}

/// Bytes of the header of Ethernet.
const LINK: usize = 14;

/// Whether a frame is a packet with the header of Ethernet before it, and nothing else: and one that the kernel takes
/// for a run without that.
fn could_be_bare(frame: &[u8]) -> bool {
    let version = match frame.get(LINK - 2..LINK) {
        Some([0x08, 0x00]) => 4,
        Some([0x86, 0xdd]) => 6,
        _ => return false,
    };
    frame.len() >= LINK + FRAME_MIN && frame[LINK] >> 4 == version
}

fn moved_rules(before: &Counters, after: &Counters) -> Vec<String> {
    let moved = after.rules.iter().filter(|(rule, counter)| before.rules.get(*rule) != Some(counter));
    moved.map(|(rule, _)| rule.clone()).collect()
}

/// Keeps the thread of a test on its CPU: budgets, and what was held back of events, are of one CPU each.
pub(crate) fn stay_on_this_cpu() {
    let mut one = CpuSet::new();
    one.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// A policy's text, compiled.
#[track_caller]
pub(crate) fn image(policy: &str) -> Image {
    image_as(policy, Layering::BySize)
}

/// The same, in layers or as its size wants it.
#[track_caller]
fn image_as(policy: &str, layering: Layering) -> Image {
    /// Most tests want the same few, and nothing here is optimised.
    static COMPILED: Mutex<BTreeMap<(String, bool), Image>> = Mutex::new(BTreeMap::new());
    let key = (policy.to_owned(), matches!(layering, Layering::Always));
    if let Some(image) = COMPILED.lock().unwrap().get(&key) {
        return image.clone();
    }
    let resolved = resolve(vec![SourceFile::new("policy.yaml", policy)]);
    let Some(policy) = resolved.policy else { panic!("{:#?}", resolved.diagnostics) };
    let image = compile_as(&policy, layering).unwrap();
    COMPILED.lock().unwrap().insert(key, image.clone());
    image
}
