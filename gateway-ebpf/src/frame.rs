//! Bounds-checked access to the bytes of a frame.

use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use gateway_common::reason::Reason;

/// Every header begins before this offset: two tags, IPv4 or IPv6 with every extension header that is
/// walked, and an ICMP error that quotes as much. A bound that the verifier can follow. Nothing is read at
/// the limit itself: offsets that [`bounded`] kept there stand for others, further on.
const OFFSET_LIMIT: usize = 0x3ff;

/// Makes the compiler forget what it knows of memory: values are read again, and are unknown to the
/// verifier. Placed where many paths meet.
#[inline(always)]
pub(crate) fn forget() {
    // SAFETY: a jump to the next instruction, which the kernel removes. A compiler fence would say the
    // same, but LLVM's BPF backend cannot lower one; and with no instruction at all two source lines
    // would share an address, which the kernel refuses.
    unsafe { core::arch::asm!("goto +0", options(nostack, preserves_flags)) };
}

/// The value of type `T` at `offset` bytes into the frame.
#[inline(always)]
pub(crate) fn read<T: Copy>(context: &XdpContext, offset: usize) -> Result<T, Reason> {
    if offset >= OFFSET_LIMIT {
        return Err(Reason::Truncated);
    }
    let begin = opaque(context.data() + opaque(offset & OFFSET_LIMIT));
    if begin + size_of::<T>() > context.data_end() {
        return Err(Reason::Truncated);
    }
    // SAFETY: the bytes lie between data and data_end, checked just above; packets have no
    // alignment.
    Ok(unsafe { (begin as *const T).read_unaligned() })
}

/// A header of the frame: `LENGTH` bytes that are known to be there, read word by word.
///
/// Headers in a frame have no alignment, and what has none the compiler reads byte by byte, which cost an established
/// packet a third of its time. The kernel takes unaligned loads from a frame where the processor does, which
/// those that Clinigate runs on do.
#[derive(Clone, Copy)]
pub(crate) struct Header<const LENGTH: usize>(usize);

/// The header at `offset` bytes into the frame.
#[inline(always)]
pub(crate) fn header<const LENGTH: usize>(
    context: &XdpContext,
    offset: usize,
) -> Result<Header<LENGTH>, Reason> {
    if offset >= OFFSET_LIMIT {
        return Err(Reason::Truncated);
    }
    let begin = opaque(context.data() + opaque(offset & OFFSET_LIMIT));
    if begin + LENGTH > context.data_end() {
        return Err(Reason::Truncated);
    }
    Ok(Header(begin))
}

macro_rules! words {
    ($($name:ident: $word:ty, $load:literal;)+) => {
        impl<const LENGTH: usize> Header<LENGTH> {
            $(
                /// The word at `AT`, in network byte order.
                #[inline(always)]
                pub(crate) fn $name<const AT: usize>(self) -> $word {
                    const { assert!(AT + size_of::<$word>() <= LENGTH) };
                    let word: u64;
                    // SAFETY: the bytes lie between data and data_end, as `header` checked.
                    unsafe {
                        core::arch::asm!(
                            concat!("{0} = *(", $load, " *)({1} + {2})"),
                            lateout(reg) word, in(reg) self.0, const AT,
                            options(pure, readonly, nostack, preserves_flags)
                        );
                    }
                    word as $word
                }
            )+
        }
    };
}

words! {
    u8: u8, "u8";
    u16: u16, "u16";
    u32: u32, "u32";
    u64: u64, "u64";
}

/// A number that the compiler cannot reason about: it keeps the bound that the verifier needs to see,
/// and the pointer that was checked is the one that is used.
#[inline(always)]
pub(crate) fn opaque(mut value: usize) -> usize {
    // SAFETY: a register keeps its value.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags));
    };
    value
}

/// The same, at every place anew: what the compiler learns where one was used it does not know of the next. For
/// offsets that are read at more than once: it would turn the second check into a signed comparison, of which the verifier
/// of Linux 6.1 learns nothing.
#[inline(always)]
pub(crate) fn anew(mut value: usize) -> usize {
    // SAFETY: a register keeps its value. Not `pure`: two of the same number would be one.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// An offset that a loop carries on, shown to the verifier as any offset at all: what it knows of one
/// turn then covers the next. Offsets past the limit are not wrapped but kept there, where reading
/// fails.
#[inline(always)]
pub(crate) fn bounded(offset: usize) -> usize {
    opaque(if offset > OFFSET_LIMIT { OFFSET_LIMIT } else { offset } & OFFSET_LIMIT)
}

/// Bytes of the frame that can be read here: all of it, but for a multi-buffer frame its first buffer.
#[inline(always)]
pub(crate) fn linear_length(context: &XdpContext) -> usize {
    context.data_end() - context.data()
}

/// Bytes of the whole frame, all buffers counted.
#[inline(always)]
pub(crate) fn whole_length(context: &XdpContext) -> usize {
    // SAFETY: the context is the program's own.
    unsafe { bpf_xdp_get_buff_len(context.ctx) as usize }
}

/// Bytes of the frame, for counters.
#[inline(always)]
pub(crate) fn length(context: &XdpContext) -> u64 {
    whole_length(context) as u64
}

/// The frame's source address; zeros where it is shorter than a link header.
#[inline(always)]
pub(crate) fn source_mac(context: &XdpContext) -> [u8; 6] {
    read(context, 6).unwrap_or([0; 6])
}

/// A 16-bit number in network byte order.
#[inline(always)]
pub(crate) fn read_be16(context: &XdpContext, offset: usize) -> Result<u16, Reason> {
    Ok(u16::from_be(read(context, offset)?))
}

/// An IPv4 address as the programs keep it: `::ffff:a.b.c.d`, network byte order.
#[inline(always)]
pub(crate) const fn mapped(v4: u32) -> [u64; 2] {
    [0, (v4 as u64) << 32 | 0xffff_0000]
}

/// Whether an address is one that [`mapped`] made.
#[inline(always)]
pub(crate) const fn is_mapped(address: [u64; 2]) -> bool {
    address[0] == 0 && address[1] as u32 == 0xffff_0000
}
