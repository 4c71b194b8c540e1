#![no_std]
#![no_main]
use aya_ebpf::Global;
use aya_ebpf::{
    EbpfContext,
    bindings::xdp_action,
    btf_maps::{Array, ProgramArray},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use gateway_common::connection::Bucket;
use gateway_common::table::Config;

#[unsafe(no_mangle)]
static CONFIG: Global<Config> = Global::new(Config {
    generation: 0,
    segments: 0,
    destinations: 0,
    services: 0,
    source_ports: 0,
    hash_key: 0,
    midstream: 0,
    test_context: 0,
    timeouts: [0; 11],
    neighbour_rate: 0,
    event_rate: 0,
});

#[btf_map]
static CONNECTIONS: Array<Bucket, 16384> = Array::new();
#[btf_map]
static GENERATION: ProgramArray<1> = ProgramArray::new();

#[xdp(frags)]
pub fn clinigate(ctx: XdpContext) -> u32 {
    unsafe { GENERATION.tail_call(&ctx, 0) };
    xdp_action::XDP_DROP
}
#[xdp(frags)]
pub fn clinigate_judge(ctx: XdpContext) -> u32 {
    let Some(b) = CONNECTIONS.get_ptr_mut(ctx.rx_queue_index()) else { return 1 };
    unsafe {
        aya_ebpf::helpers::bpf_spin_lock((&raw mut (*b).lock).cast());
        (*b).tags[0] += 1;
        aya_ebpf::helpers::bpf_spin_unlock((&raw mut (*b).lock).cast());
    }
    if CONFIG.load().midstream == 1 {
        return 0;
    }
    xdp_action::XDP_PASS
}
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
