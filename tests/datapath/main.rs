//! The XDP program, and the one for what leaves, frame by frame, through `BPF_PROG_TEST_RUN`.
//!
//! The maps are filled as the controller fills them. Each frame must move exactly one counter; what
//! passes or drops must be untouched, and what is rewritten must be, byte for byte, the frame that
//! `lb_tests::packet` builds with checksums of its own.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

mod admission;
mod clock;
mod close;
mod connects;
mod corners;
mod counted;
mod extension;
mod forward;
mod handshake;
mod harness;
mod hops;
mod icmp;
mod local;
mod malformed;
mod midstream;
mod modes;
mod neighbour;
mod packets;
mod pass;
mod race;
mod random;
mod refused;
mod replica;
mod reset;
mod scale;
mod select;
mod snat;
mod states;
mod tags;
mod told;
mod trace;
