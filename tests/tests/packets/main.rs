//! Packet tables: frames through the real programs (`BPF_PROG_TEST_RUN`), each with the verdict, the
//! reason, the rule and the one counter that it must move.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "the noise says what it came to")]

mod bench;
mod connections;
mod decision;
mod forwarding;
mod fragments;
mod frame;
mod generations;
mod icmp;
mod lent;
mod limits;
mod neighbours;
mod noise;
mod parsing;
mod places;
mod times;
mod tunnels;
mod variants;
