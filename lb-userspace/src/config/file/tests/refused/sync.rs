//! Nodes that share flows.

use rstest::rstest;

use super::super::MINIMAL;
use super::assert_refused;

const REST: &str = "peers: [10.0.0.3:7946], key_file: /k";

/// What follows the lines of `MINIMAL`, as the sixth.
#[rstest]
#[case::no_listen(
    "sync: { peers: [\"10.0.0.3:1\"], key_file: /k }",
    "6:7",
    "sync.listen",
    "an address of this node and a port"
)]
#[case::no_peers(
    "sync: { listen: \"10.0.0.2:1\", key_file: /k }",
    "6:7",
    "sync.peers",
    "where the other node listens"
)]
#[case::no_key(
    "sync: { listen: \"10.0.0.2:1\", peers: [\"10.0.0.3:1\"] }",
    "6:7",
    "sync.key_file",
    "openssl rand -hex 32 >"
)]
#[case::no_port("LISTEN: 10.0.0.2", "6:17", "sync.listen", "write one such as 10.0.0.2:7946")]
#[case::port_of_nothing("LISTEN: 10.0.0.2:0", "6:17", "sync.listen", "address with a port")]
#[case::name("LISTEN: lb1:7946", "6:17", "sync.listen", "address with a port")]
#[case::all("LISTEN: 0.0.0.0:7946", "6:17", "sync.listen", "that other hosts can reach")]
#[case::vip("LISTEN: 10.0.0.100:7946", "6:17", "sync.listen", "write the node's own address")]
#[case::itself("LISTEN: 10.0.0.3:1", "6:39", "sync.peers[0]", "write the other nodes")]
#[case::family("LISTEN: [fd00::2]:1", "6:40", "sync.peers[0]", "both of one family")]
#[case::nobody(
    "sync: { listen: \"10.0.0.2:1\", peers: [], key_file: /k }",
    "6:38",
    "sync.peers",
    "is empty; write where"
)]
#[case::twice(
    "sync: { listen: \"10.0.0.2:1\", peers: [\"10.0.0.3:1\", \"10.0.0.3:2\"], key_file: /k }",
    "6:53",
    "sync.peers[1]",
    "remove one of the two"
)]
#[case::relative(
    "sync: { listen: \"10.0.0.2:1\", peers: [\"10.0.0.3:1\"], key_file: k }",
    "6:64",
    "sync.key_file",
    "such as /etc/fairlead/sync-key"
)]
#[case::unknown(
    "sync: { port: 1 }",
    "6:9",
    "sync.port",
    "Keys known here: listen, peers, key_file"
)]
fn sync(#[case] line: &str, #[case] place: &str, #[case] key: &str, #[case] remedy: &str) {
    let line = line
        .strip_prefix("LISTEN: ")
        .map_or_else(|| line.to_owned(), |at| format!("sync: {{ listen: \"{at}\", {REST} }}"));
    assert_refused(&format!("{MINIMAL}{line}\n"), place, key, remedy);
}
