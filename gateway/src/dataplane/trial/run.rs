//! Frames through the programs of a trial, and what came of each.

use aya::programs::{TestRun, TestRunOptions, TestRunResult, Xdp};
use gateway_common::layout;
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::{NO_RULE, TestContext, TestJudgement};
use std::time::Duration;

use super::super::error::DataplaneError;
use super::super::{object, sys};
use super::{Trial, refused};
use crate::packet::Decision;
use crate::policy::model::{RuleId, SegmentId};

/// What a program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `XDP_DROP` (1), `XDP_PASS` (2) and so on; of the egress program, its return value.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// What test runs read and write, kept between them.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
    /// `struct xdp_md`.
    context: [u8; 24],
}

impl Outcome {
    /// Whether the frame goes on its way, by the stack or by another interface.
    pub fn passed(&self) -> bool {
        goes_on(self.action)
    }

    /// Whether it left by another interface, past the stack.
    pub fn forwarded(&self) -> bool {
        self.action == XDP_REDIRECT
    }
}

/// Of `enum xdp_action` (include/uapi/linux/bpf.h).
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
/// Bytes of `struct __sk_buff` up to its end on the oldest kernel that is supported, and where its `ifindex`
/// and `tstamp` stand (include/uapi/linux/bpf.h).
const SKB_LENGTH: usize = 176;
const SKB_IFINDEX: usize = 40;
const SKB_TSTAMP: usize = 152;
/// Bytes of a [`TestContext`] and the [`TestJudgement`] behind it, which stand before the frame as XDP
/// metadata.
const META: u32 = 32;
const _: () = assert!(size_of::<TestContext>() + size_of::<TestJudgement>() == META as usize);
/// The shortest frame that the kernel takes for a test run (`ETH_HLEN`).
pub const FRAME_MIN: usize = 14;
/// The longest that we hand it, in bytes, well below its own limit.
pub const FRAME_MAX: usize = 1 << 16;

impl Trial {
    /// Runs the programs on one packet that arrives as `context` says on a device without a link layer.
    ///
    /// # Errors
    /// Also where the policy has no interface that may be one.
    pub fn run_bare(&self, context: TestContext, packet: &[u8]) -> Result<Outcome, DataplaneError> {
        let mut buffers = Buffers::default();
        let result = run_in(self.bare()?, context, packet, 1, &mut buffers)?;
        Ok(outcome(&result, &buffers))
    }

    /// [`Self::judge`] for a packet that arrives on a device without a link layer.
    ///
    /// # Errors
    /// As [`Self::run_bare`].
    pub fn judge_bare(
        &self,
        context: TestContext,
        packet: &[u8],
        buffers: &mut Buffers,
    ) -> Result<Decision, DataplaneError> {
        let result = run_in(self.bare()?, context, packet, 1, buffers)?;
        decision(&result, buffers)
    }

    fn bare(&self) -> Result<&Xdp, DataplaneError> {
        let name = layout::PROGRAM_BARE_ENTRY;
        self.bare.as_ref().ok_or_else(|| DataplaneError::Incomplete(format!("program {name} in use")))
    }

    /// Runs the programs, entry first, on one frame that arrives as `context` says.
    pub fn run(&self, context: TestContext, frame: &[u8]) -> Result<Outcome, DataplaneError> {
        let (outcome, _) = self.run_repeatedly(context, frame, 1)?;
        Ok(outcome)
    }

    /// Runs the programs `repeat` times on the same frame. The time is the mean of one run.
    pub fn run_repeatedly(
        &self,
        context: TestContext,
        frame: &[u8],
        repeat: u32,
    ) -> Result<(Outcome, Duration), DataplaneError> {
        let mut buffers = Buffers::default();
        let result = run_in(&self.entry, context, frame, repeat, &mut buffers)?;
        Ok((outcome(&result, &buffers), result.duration))
    }

    /// Judges one frame and says what the program found, all in one system call. `buffers` is for
    /// the caller to keep between calls: once grown, nothing is allocated.
    pub fn judge(
        &self,
        context: TestContext,
        frame: &[u8],
        buffers: &mut Buffers,
    ) -> Result<Decision, DataplaneError> {
        let result = run_in(&self.entry, context, frame, 1, buffers)?;
        decision(&result, buffers)
    }

    /// Runs the egress program on a frame that the gateway itself sends now, by the kernel's clock.
    pub fn send(&mut self, frame: &[u8]) -> Result<Outcome, DataplaneError> {
        self.send_at(0, frame)
    }

    /// The same at `now`, on the clock of the runs' contexts; 0 stands for the kernel's own.
    pub fn send_at(&mut self, now: u64, frame: &[u8]) -> Result<Outcome, DataplaneError> {
        self.send_on(0, now, frame)
    }

    /// The same on an interface of this thread's network namespace; 0 stands for none in particular.
    pub fn send_on(&mut self, ifindex: u32, now: u64, frame: &[u8]) -> Result<Outcome, DataplaneError> {
        check_length(frame)?;
        let mut output = vec![0; frame.len() + 256];
        let mut context = [0_u8; SKB_LENGTH];
        context[SKB_IFINDEX..SKB_IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
        context[SKB_TSTAMP..SKB_TSTAMP + 8].copy_from_slice(&now.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = object::egress(&mut self.loaded)?.test_run(options).map_err(refused)?;
        output.truncate(result.data_size_out as usize);
        Ok(Outcome { action: result.return_value, frame: output })
    }
}

fn run_in(
    program: &Xdp,
    context: TestContext,
    frame: &[u8],
    repeat: u32,
    buffers: &mut Buffers,
) -> Result<TestRunResult, DataplaneError> {
    let length = check_length(frame)?;
    let Buffers { input, output, context: context_out } = buffers;
    input.clear();
    input.extend_from_slice(sys::bytes_of(&[context]));
    input.extend_from_slice(sys::bytes_of(&[TestJudgement::default()]));
    input.extend_from_slice(frame);
    if output.len() < input.len() + 256 {
        output.resize(input.len() + 256, 0);
    }
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    // What lies between data_meta and data is metadata.
    let context_in = [META, META.saturating_add(length), 0, 0, 0, 0];
    let options = TestRunOptions {
        data_in: Some(input.as_slice()),
        data_out: Some(output.as_mut_slice()),
        ctx_in: Some(sys::bytes_of(&context_in)),
        ctx_out: Some(context_out.as_mut_slice()),
        repeat,
        ..TestRunOptions::default()
    };
    program.test_run(options).map_err(refused)
}

/// What the program found, as it says itself.
fn decision(result: &TestRunResult, buffers: &Buffers) -> Result<Decision, DataplaneError> {
    let found = buffers.output.get(size_of::<TestContext>()..META as usize);
    let found = found.and_then(sys::read::<TestJudgement>).filter(|found| found.written == 1);
    // What it did must be what it says.
    let passed = goes_on(result.return_value);
    let found = found.filter(|found| passed != (found.verdict == Verdict::Drop as u8));
    let named = found.and_then(|found| {
        let verdict = *Verdict::ALL.get(usize::from(found.verdict))?;
        Some((found, Reason::from_number(found.reason)?, verdict))
    });
    let (found, reason, verdict) = named.ok_or(DataplaneError::NotJudged)?;
    Ok(Decision {
        reason,
        rule: (found.rule != NO_RULE).then_some(RuleId(found.rule)),
        source_segment: SegmentId(found.source_segment),
        destination_segment: SegmentId(found.destination_segment),
        verdict,
    })
}

/// What a program did.
fn outcome(result: &TestRunResult, buffers: &Buffers) -> Outcome {
    let start = sys::read::<u32>(&buffers.context).unwrap_or(META) as usize;
    let end = result.data_size_out as usize;
    let frame = buffers.output.get(start..end).unwrap_or_default().to_vec();
    Outcome { action: result.return_value, frame }
}

const fn goes_on(action: u32) -> bool {
    action == XDP_PASS || action == XDP_REDIRECT
}

fn check_length(frame: &[u8]) -> Result<u32, DataplaneError> {
    let length = u32::try_from(frame.len()).ok().filter(|_| (FRAME_MIN..=FRAME_MAX).contains(&frame.len()));
    length.ok_or(DataplaneError::Frame { length: frame.len(), least: FRAME_MIN, most: FRAME_MAX })
}
