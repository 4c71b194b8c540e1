//! The network cards of a guest, in pairs that are joined by a cable: one with a driver that runs XDP programs itself,
//! on a cable with several queues where this machine lets us lay one, and one with a driver that does not.

use std::path::Path;
use std::process::Command;

use crate::process;

/// What a card is to qemu, by pair and end.
const PAIRS: [[&str; 2]; 2] = [["virtio-net-pci", "virtio-net-pci"], ["e1000", "virtio-net-pci"]];

/// Queues of a card on a cable of the kernel's: the guest has two processors, each of which receives on one, and sends
/// from XDP programs on another.
const QUEUES: usize = 4;

/// Lays a cable in the network namespace that it runs in, which goes with the last process there, and goes on with what
/// follows: what one end sends comes out at the other, and the kernel in between says nothing.
const LAY: &str = r#"
for scope in all default; do echo 1 > /proc/sys/net/ipv6/conf/$scope/disable_ipv6; done
for end in end0 end1; do ip tuntap add dev $end mode tap multi_queue; ip link set $end up; done
nft -f - <<RULES
table netdev cable {
  chain there { type filter hook ingress device end0 priority 0; fwd to end1; }
  chain back { type filter hook ingress device end1 priority 0; fwd to end0; }
}
RULES
exec "$@""#;

/// How the first pair is joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cable {
    /// By the kernel, with several queues at both ends.
    Kernel,
    /// By qemu, with one.
    Qemu,
}

impl Cable {
    /// The better one that can be laid here. By the kernel it takes root, tap devices, and nftables that forward.
    pub(super) fn find() -> Self {
        let has_taps = process::is_root() && Path::new("/dev/net/tun").exists();
        if has_taps && process::output(&mut Self::Kernel.around("true")).is_ok() {
            Self::Kernel
        } else {
            Self::Qemu
        }
    }

    /// A program's command where the cable is; that of the kernel's goes with it.
    pub(super) fn around(self, program: &str) -> Command {
        match self {
            Self::Qemu => process::command(program),
            Self::Kernel => {
                let mut command = process::command("unshare");
                command.args(["--net", "--", "sh", "-ec", LAY, "sh", program]);
                command
            }
        }
    }

    /// What qemu is told of a guest's cards. The deployments know them by their addresses.
    pub(super) fn arguments(self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (number, pair) in PAIRS.iter().enumerate() {
            for (end, model) in pair.iter().enumerate() {
                let name = format!("pair{number}end{end}");
                let address = format!("02:c9:aa:00:0{number}:0{end}");
                let card = format!("{model},netdev={name},mac={address},romfile=");
                let (backend, card) = if number == 0 && self == Self::Kernel {
                    // An interrupt for each queue and direction, one for changes of the card, one for its control queue.
                    let vectors = 2 * QUEUES + 2;
                    let tap = format!("tap,ifname=end{end},script=no,downscript=no,queues={QUEUES}");
                    (tap, format!("{card},mq=on,vectors={vectors}"))
                } else {
                    (format!("hubport,hubid={}", number + 1), card)
                };
                arguments.extend(["-netdev".into(), format!("{backend},id={name}"), "-device".into(), card]);
            }
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cables_have_the_same_cards_at_their_ends() {
        let cards = |cable: Cable| -> Vec<String> {
            let cards = cable.arguments().into_iter().filter(|argument| argument.contains("mac="));
            cards.map(|card| card.replace(",mq=on,vectors=10", "")).collect()
        };
        assert_eq!(cards(Cable::Kernel), cards(Cable::Qemu));
        assert_eq!(cards(Cable::Qemu)[2], "e1000,netdev=pair1end0,mac=02:c9:aa:00:01:00,romfile=");
    }
}
