//! What of the maps a packet needs, by the program's design: constant, however many flows there are.
//!
//! Times of two machines differ by what these cost on each: a hash lookup of a cold element more than
//! all the rest of the program, an array lookup next to nothing.

use std::fmt;

/// One path: lookups in hashes and tries, and elements stored.
struct Path {
    name: &'static str,
    hashes: u8,
    tries: u8,
    stores: u8,
}

const PATHS: [Path; 11] = [
    path("not for a VIP, not IP", 0, 0, 0),
    path("known flow, both directions", 1, 0, 0),
    path("known flow, with a reason to look after it", 4, 1, 0),
    path("known flow, FIN or RST", 3, 0, 0),
    path("half-open flow, SYN-ACK", 3, 0, 0),
    path("half-open flow, ACK of the handshake", 3, 0, 0),
    path("half-open flow, unanswered data, a second long", 1, 0, 0),
    path("new flow, nat", 3, 1, 2),
    path("new flow, dnat", 4, 1, 2),
    path("new flow, dsr", 3, 0, 1),
    path("of a dnat backend's host, not for a VIP", 4, 0, 0),
];

const fn path(name: &'static str, hashes: u8, tries: u8, stores: u8) -> Path {
    Path { name, hashes, tries, stores }
}

/// The table of all paths.
pub(crate) struct Lookups;

impl fmt::Display for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [path, hashes, tries, stores] = ["lookups by design", "hash", "trie", "stores"];
        writeln!(f, "{path:<48}{hashes:>7}{tries:>7}{stores:>7}")?;
        PATHS.iter().try_for_each(|Path { name, hashes, tries, stores }| {
            writeln!(f, "{name:<48}{hashes:>7}{tries:>7}{stores:>7}")
        })
    }
}
