//! The kernel's table of IPv4 neighbours: which addresses an Ethernet address was seen with.

use std::fs;
use std::net::IpAddr;

/// Addresses of the neighbour with this Ethernet address (lower case, with colons), as far as the kernel knows any.
pub fn neighbours_with(mac: &str) -> Vec<IpAddr> {
    addresses(&fs::read_to_string("/proc/net/arp").unwrap_or_default(), mac)
}

/// From the table as the kernel shows it: address, type, flags, Ethernet address, mask, device.
fn addresses(table: &str, mac: &str) -> Vec<IpAddr> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.nth(2).filter(|found| found.eq_ignore_ascii_case(mac)).map(|_| address)
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.0.1.5         0x1         0x2         02:00:00:00:00:05     *        a0\n\
                     10.0.1.6         0x1         0x2         02:00:00:00:00:06     *        a0\n\
                     10.0.9.5         0x1         0x2         02:00:00:00:00:05     *        b0\n";
        let found: Vec<String> =
            addresses(table, "02:00:00:00:00:05").iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.1.5", "10.0.9.5"]);
        assert!(addresses("", "02:00:00:00:00:05").is_empty());
    }
}
