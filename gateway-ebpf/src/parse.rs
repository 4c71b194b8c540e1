//! Reading a frame: Ethernet and tags, then IPv4 or IPv6, then the transport.

use aya_ebpf::programs::XdpContext;
use gateway_common::reason::Reason;

use crate::packet::{Fragment, Link, Packet, ethertype};
use crate::{frame, ipv4, ipv6, transport};

/// Reads the Ethernet header and up to two tags.
#[inline(always)]
pub(crate) fn link(context: &XdpContext, ifindex: u32, link: &mut Link) -> Result<(), Reason> {
    link.place.ifindex = ifindex;
    link.network = 14;
    let mut kind = u16::from_be(frame::header::<14>(context, 0)?.u16::<12>());
    if kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN {
        let tag = frame::header::<18>(context, 0)?;
        link.place.vlan = u16::from_be(tag.u16::<14>()) & 0xfff;
        kind = u16::from_be(tag.u16::<16>());
        link.network = 18;
        if kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN {
            let tag = frame::header::<22>(context, 0)?;
            link.place.outer = link.place.vlan;
            link.place.vlan = u16::from_be(tag.u16::<18>()) & 0xfff;
            kind = u16::from_be(tag.u16::<20>());
            link.network = 22;
            if link.place.outer == 0 {
                // A priority tag around a tag: the place is the inner one's with an outer tag that
                // no policy can name.
                link.place.outer = 0xfff;
            }
        }
    }
    link.ethertype = if kind < ethertype::LOWEST { 0 } else { kind };
    Ok(())
}

/// Reads the network and transport headers of a frame whose EtherType is IPv4 or IPv6.
#[inline(always)]
pub(crate) fn network(context: &XdpContext, link: &Link, packet: &mut Packet) -> Result<(), Reason> {
    if link.ethertype == ethertype::IPV4 {
        ipv4::parse(context, link.network, packet)?;
    } else {
        ipv6::parse(context, link.network, packet)?;
    }
    frame::forget();
    if packet.fragment != Fragment::Later {
        transport::parse(context, packet)?;
    }
    Ok(())
}
