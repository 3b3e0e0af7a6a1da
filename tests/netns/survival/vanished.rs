//! Clients that end while nobody serves their VIP, or somebody who tells nobody: the node that serves it then knows
//! nothing of what they said last, and neither end of their connections says anything more.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::eventually::eventually_is;
use socket2::SockRef;

use super::pair::{Pair, wait_active, wait_state, wait_synced};
use super::{DNAT, DSR, NAT, PATIENCE, established, forgotten, traffic};
use crate::measured;

const GONE: usize = 20;
const STAY: usize = 20;
/// Longer than the VIPs are away: the other node must not ask before they are back.
const CLOSING: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn the_node_that_comes_back_asks_who_was_its_own_before() -> Result<()> {
    for backends_are in [DNAT, NAT] {
        let pair = Pair::build(backends_are)?;
        let mut nodes = [pair.controller(0)?, pair.controller(1)?];
        for (number, node) in nodes.iter().enumerate() {
            let closing = format!("closing: {}s", CLOSING.as_secs());
            let yaml = pair.yaml(number, &pair.key, node.socket());
            ensure!(yaml.contains("closing: 3s"), "{yaml}");
            node.write_config(&yaml.replace("closing: 3s", &closing))?;
        }
        pair.start_nodes(&mut nodes)?;
        let gone = traffic::open(&pair, GONE)?;
        let mut stay = traffic::open(&pair, STAY)?;
        let all = u64::try_from(GONE + STAY)?;
        for node in &nodes {
            eventually_is("to know them", PATIENCE, || established(node), |count| *count == all)?;
        }

        pair.link(0, false)?;
        vanish(gone)?;
        wait_active(&nodes[1])?;
        pair.link(0, true)?;
        wait_active(&nodes[0])?;
        wait_state(&nodes[1], "backup")?;
        nodes.iter().try_for_each(wait_synced)?;
        for node in &nodes {
            ensure!(established(node)? == all, "it was found out before: {}", node.log());
        }

        let left = u64::try_from(STAY)?;
        for node in &nodes {
            let seen = || established(node);
            eventually_is("to find out", CLOSING + PATIENCE, seen, |count| *count == left)?;
        }
        for stream in &mut stay {
            traffic::echo(stream, "still here\n")?;
        }
        measured(&format!("{}: {GONE} of {all} clients were found to be gone", pair.lab.mode));
    }
    Ok(())
}

/// Clients that close in good order by a node whose controller is dead, so that the other one is told of nothing: they
/// are in TIME_WAIT, and their backends have forgotten them.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn the_node_that_takes_over_finds_out_who_closed_before() -> Result<()> {
    for backends_are in [NAT, DSR] {
        let pair = Pair::build(backends_are)?;
        let mut nodes = pair.start()?;
        let gone = traffic::open(&pair, GONE)?;
        let mut stay = traffic::open(&pair, STAY)?;
        let all = u64::try_from(GONE + STAY)?;
        for node in &nodes {
            eventually_is("to know them", PATIENCE, || established(node), |count| *count == all)?;
        }

        nodes[0].kill9()?;
        drop(gone);
        wait_active(&nodes[1])?;
        let known = established(&nodes[1])?;
        ensure!(known == all, "it was told of {known} of {all}");
        if pair.lab.mode == "dsr" {
            // By the other node, or they would be gone by then.
            std::thread::sleep(super::CLOSING * 2);
            let known = established(&nodes[1])?;
            ensure!(known == all, "{known} of {all} after a while");
        }
        let left = u64::try_from(STAY)?;
        let seen = || established(&nodes[1]);
        eventually_is("to find out", forgotten(&pair) + PATIENCE, seen, |count| *count == left)?;
        for stream in &mut stay {
            traffic::echo(stream, "still here\n")?;
        }
        measured(&format!("{}: {GONE} of {all} clients had closed before", pair.lab.mode));
    }
    Ok(())
}

/// They end at once, with a RST that is lost.
fn vanish(streams: Vec<TcpStream>) -> Result<()> {
    for stream in streams {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}
