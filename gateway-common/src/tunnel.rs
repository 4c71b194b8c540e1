//! Ways on which packets arrive: a place has one, a condition those that it takes, one bit each.

/// Of a condition: whichever way. No place has it.
pub const ANY: u16 = 1;
/// Through no tunnel.
pub const DIRECT: u16 = 2;
/// Through IPsec.
pub const IPSEC: u16 = 4;
/// Through `WireGuard`.
pub const WIREGUARD: u16 = 8;
/// Through `OpenVPN`.
pub const OPENVPN: u16 = 16;
/// Through a closed network of a carrier.
pub const IP_VPN: u16 = 32;
