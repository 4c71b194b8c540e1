//! Time in decisions: rules that hold only at times, quarantine, break-glass. All of it goes by the kernel's clock
//! alone. And the way in decisions: rules that hold only for what arrives through a tunnel. The verifier removes it where
//! the policy has nothing of the kind.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use gateway_common::condition::{ALWAYS, CHOICES as LONGEST, NONE};
use gateway_common::connection::Connection;
use gateway_common::place::{Place, SEGMENT_GATEWAY, SEGMENT_UNKNOWN, SEGMENT_WAN};
use gateway_common::reason::{Reason, Verdict};
use gateway_common::table::{Atom, Cell};

use crate::maps::{BREAK_GLASS, CHOICES, CONDITIONS, QUARANTINES, paged};
use crate::work::Judgement;
use crate::{config, verdict};

/// What the time has to do with the packet in hand.
#[repr(C)]
struct Moment {
    now: u64,
    /// The strongest cell that was asked and holds at times.
    at_times: u32,
    /// The strongest that holds always.
    always: u32,
    /// 1: one end is in quarantine.
    quarantined: u32,
    /// The way on which the packet counts as arriving, a bit of [`gateway_common::tunnel`]; 0 where that is not known.
    way: u32,
}

#[btf_map]
static MOMENT: PerCpuArray<Moment, 1> = PerCpuArray::new();

/// A packet begins that no known connection decides about, from this place.
#[inline(always)]
pub(crate) fn begin(now: u64, place: &Place) {
    if config::conditional() == 1
        && let Some(moment) = moment()
    {
        let way = if config::ways() == 1 { u32::from(place.way()) } else { 0 };
        *moment = Moment { now, at_times: u32::MAX, always: u32::MAX, quarantined: 0, way };
    }
}

/// The way on which the packet counts as arriving.
#[inline(always)]
pub(crate) fn way() -> u32 {
    if config::ways() == 1 { moment().map_or(0, |moment| moment.way) } else { 0 }
}

/// From here on decisions are on packets that arrive on this way; 0 where nobody knows.
#[inline(always)]
pub(crate) fn arrive(way: u32) {
    if config::ways() == 1
        && let Some(moment) = moment()
    {
        moment.way = way;
    }
}

/// This CPU's element; a packet is judged to its end before the next begins.
#[inline(always)]
fn moment<'a>() -> Option<&'a mut Moment> {
    // SAFETY: the map returned a whole element, which no other CPU writes, and no caller holds another.
    MOMENT.get_ptr_mut(0).map(|moment| unsafe { &mut *moment })
}

/// A decision begins: what the cells say that are asked from here on says whether the time has a say in it.
#[inline(always)]
pub(crate) fn ask() {
    if config::conditional() == 1
        && let Some(moment) = moment()
    {
        moment.at_times = u32::MAX;
        moment.always = u32::MAX;
    }
}

/// A cell as it counts now.
#[inline(always)]
pub(crate) fn resolve(cell: Cell) -> Option<Cell> {
    if config::conditional() == 0 {
        return Some(cell);
    }
    let Some(first) = cell.choice() else {
        if let Some(moment) = moment() {
            moment.always = moment.always.min(cell.0);
        }
        return Some(cell);
    };
    u32::try_from(clinigate_choose(first)).ok().map(Cell)
}

/// The first choice whose condition holds, as the number of its cell; none is a number beyond those. A function that
/// the verifier checks once and by itself: it is called for each layer.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn clinigate_choose(first: u32) -> u64 {
    let Some(moment) = moment() else { return u64::MAX };
    let mut chosen = u64::MAX;
    for step in 0..LONGEST as u32 {
        let Some(choice) = CHOICES.get(first + step) else { break };
        if step == 0 {
            // They stand in order of strength.
            moment.at_times = moment.at_times.min(choice.cell);
        }
        if chosen == u64::MAX && applies(choice.condition, moment) {
            chosen = u64::from(choice.cell);
        }
        if choice.condition == ALWAYS {
            moment.always = moment.always.min(choice.cell);
            break;
        }
    }
    chosen
}

/// Whether a condition holds now, for packets that arrive as this one counts to.
#[inline(always)]
fn applies(condition: u32, moment: &Moment) -> bool {
    let Some(condition) = CONDITIONS.get(condition) else { return false };
    let takes = config::ways() == 0 || condition.takes(moment.way.into());
    takes && condition.holds(moment.now)
}

#[inline(always)]
fn holds(condition: u32, now: u64) -> bool {
    CONDITIONS.get(condition).is_some_and(|condition| condition.holds(now))
}

/// The strongest cell as what it comes to.
#[inline(always)]
pub(crate) fn plain(cell: Cell) -> Cell {
    if config::conditional() == 1 { cell.plain() } else { cell }
}

/// Whether the time, or the way of its packets, decides about a connection.
#[inline(always)]
pub(crate) fn binds(connection: &Connection) -> bool {
    // Asks for the connection's flags alone, which are at hand: fewer instructions than to ask whether the policy
    // has anything of the kind. One of a policy that has is of another generation.
    connection.flags & Connection::CONDITIONAL != 0
}

/// The flag of a connection that was decided about just now, if the time or the way had a say, or 0: a rule that holds
/// at times, or for one way, goes before what always decides. Asked of all layers together: what always decides may stand in one, and the
/// choices in another.
#[inline(always)]
pub(crate) fn flag() -> u8 {
    let is_bound = |moment: &mut Moment| moment.at_times < moment.always;
    if config::conditional() == 1 && moment().is_some_and(is_bound) { Connection::CONDITIONAL } else { 0 }
}

/// Notes on a connection that was judged again whether the time or the way decided about it.
#[inline(always)]
pub(crate) fn bind(connection: &mut Connection) {
    connection.flags = connection.flags & !Connection::CONDITIONAL | flag();
}

/// Looks whether one end of the packet is in quarantine.
#[inline(always)]
pub(crate) fn look(atom: &Atom) {
    if config::conditional() == 0 {
        return;
    }
    if let Some(condition) = paged(&QUARANTINES, atom.source)
        && condition != NONE
        && let Some(moment) = moment()
        && holds(condition, moment.now)
    {
        moment.quarantined = 1;
    }
}

/// Gives what does not pass the reason that goes before the modes of its segments, where there is one.
#[inline(always)]
pub(crate) fn overrule(judgement: &mut Judgement, now: u64) {
    // From an unknown place everything drops, and nothing was looked up.
    if judgement.source == SEGMENT_UNKNOWN {
        return;
    }
    if config::conditional() == 1 && moment().is_some_and(|moment| moment.quarantined == 1) {
        judgement.reason = Reason::Quarantined;
    } else if config::break_glass() == 1
        && is_open(judgement, now)
        && verdict::by_modes(judgement) == Verdict::Drop
    {
        judgement.reason = Reason::BreakGlass;
    }
}

/// Whether the glass of one of the packet's segments is broken. It opens nothing to the world, and not the
/// gateway.
#[inline(always)]
fn is_open(judgement: &Judgement, now: u64) -> bool {
    let inside = |segment| segment != SEGMENT_WAN && segment != SEGMENT_GATEWAY;
    let until = |segment: u16| paged(&BREAK_GLASS, u32::from(segment)).unwrap_or(0);
    inside(judgement.source)
        && inside(judgement.destination)
        && (until(judgement.source) > now || until(judgement.destination) > now)
}

/// The verdict that a reason brings whatever the modes are.
#[inline(always)]
pub(crate) fn settled(reason: Reason) -> Option<Verdict> {
    if config::conditional() == 1 || config::break_glass() == 1 { reason.settled() } else { None }
}
