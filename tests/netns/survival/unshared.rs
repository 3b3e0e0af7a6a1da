//! A node takes over of whose peer's flows it was told nothing: without `sync`, or from a keepalived. What it can
//! guess goes on, and the rest is told that it is over.

use std::net::TcpStream;

use anyhow::{Result, ensure};
use lb_tests::topology::Backends;

use super::pair::{Pair, wait_active};
use super::{DNAT, DSR, NAT, established, traffic};
use crate::measured;

const IDLE: usize = 300;
/// Opened at the new node before the idle ones say a word: they may have got their SNAT ports.
const BETWEEN: usize = 300;

/// Of [`IDLE`] connections those that went on; the others were reset, and none hung.
fn take_over_without_a_word(backends_are: Backends) -> Result<usize> {
    let mut pair = Pair::build(backends_are)?;
    pair.shares = false;
    let nodes = pair.start()?;
    let mut idle = traffic::open(&pair, IDLE)?;
    pair.link(0, false)?;
    wait_active(&nodes[1])?;
    ensure!(established(&nodes[1])? == 0, "it has been told of flows");
    let mut between = traffic::open(&pair, BETWEEN)?;
    let went_on = speak(&mut idle)?;
    ensure!(speak(&mut between)? == BETWEEN, "what it opened itself was reset");
    measured(&format!("{}: {went_on} of {IDLE} connections went on", pair.lab.mode));
    // Those that do are flows like any other.
    ensure!(idle.len() == went_on && speak(&mut idle)? == went_on, "some went on for a while");
    Ok(went_on)
}

/// Each says a line; those that are reset are not kept.
fn speak(streams: &mut Vec<TcpStream>) -> Result<usize> {
    let mut well = Vec::new();
    for mut stream in std::mem::take(streams) {
        if !traffic::is_reset(&traffic::echo(&mut stream, "still here\n"))? {
            well.push(stream);
        }
    }
    *streams = well;
    Ok(streams.len())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn without_sync_nat_guesses_nearly_all_ports_and_resets_the_rest() -> Result<()> {
    let went_on = take_over_without_a_word(NAT)?;
    ensure!(went_on >= IDLE * 9 / 10, "{went_on} of {IDLE}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn without_sync_dnat_and_dsr_lose_nothing() -> Result<()> {
    for backends_are in [DNAT, DSR] {
        let went_on = take_over_without_a_word(backends_are)?;
        ensure!(went_on == IDLE, "{went_on} of {IDLE}");
    }
    Ok(())
}
