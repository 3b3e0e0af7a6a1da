//! What advertisements are sent with: RFC 9568 5.1.1 and 5.1.2, and what puts them ahead of other traffic.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use lb_tests::eventually::eventually_is;
use lb_tests::wire::{Said, What};
use serde_json::Value;

use super::{INTERVAL, Ours, Pair, link_local, wait_both};
use crate::scene::PATIENCE;

/// Of an advertisement: destination, TOS or traffic class, TTL or hop limit.
type Header = (IpAddr, u8, u8);

/// Internetwork control (RFC 791 3.1).
const TOS: u8 = 0xc0;

/// What the queue would not send first (`TC_PRIO_CONTROL`, 7) does not leave the node.
const FIRST_ONLY: &str = "add table inet first;
    add chain inet first out { type filter hook output priority 0; };
    add rule inet first out meta l4proto 112 meta priority != 0:7 drop";

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn advertisements_have_their_header_are_sent_first_and_do_not_come_back() -> Result<()> {
    let pair = Pair::build()?;
    let netns = &pair.node().host.netns;
    netns.run("nft", [FIRST_ONLY])?;
    let controller = pair.start(&pair.dual_stack(""))?;
    wait_both(&controller, "active")?;
    for (source, group) in [(pair.ours(), "224.0.0.18"), (link_local(pair.node())?, "ff02::12")] {
        ensure_headers(&pair, 0, source, (group.parse()?, TOS, 255))?;
    }
    for instance in 0..2 {
        let counters = || Ok(controller.status()?["vrrp"][instance]["counters"].clone());
        let some = |counters: &Value| counters["advertisements_sent"].as_u64() > Some(5);
        let counters = eventually_is("to count them", PATIENCE, counters, some)?;
        ensure!(counters["own_source_packets"] == 0, "they came back: {counters}");
    }
    drop(controller);
    let mark = pair.wire.mark();
    let more = "    unicast_peers: [10.77.0.3]";
    let controller = pair.start(&Ours { more, ..pair.settings(200) })?;
    pair.wait_state(&controller, "active")?;
    ensure_headers(&pair, mark, pair.ours(), (pair.theirs(), TOS, 255))
}

/// Some advertisements of `source` after `mark` have this header, and none has another one.
fn ensure_headers(pair: &Pair, mark: usize, source: IpAddr, expected: Header) -> Result<()> {
    let first = pair
        .wire
        .wait("an advertisement", mark, PATIENCE, |said| said.priority_of(source).is_some())?;
    pair.wire.wait("some more", mark, PATIENCE, |said| {
        said.at > first.at + INTERVAL * 5 && said.priority_of(source).is_some()
    })?;
    let said = pair.wire.said();
    let headers: BTreeSet<Header> =
        said.iter().skip(mark).filter_map(|said| header(said, source)).collect();
    ensure!(headers == BTreeSet::from([expected]), "{source} sends with {headers:?}");
    Ok(())
}

fn header(said: &Said, from: IpAddr) -> Option<Header> {
    match &said.what {
        What::Advert { source, destination, tos, ttl, .. } if *source == from => {
            Some((*destination, *tos, *ttl))
        }
        What::Advert { .. }
        | What::Garp { .. }
        | What::Advertisement { .. }
        | What::Answer { .. } => None,
    }
}
