//! Established connections survive the death of a load balancer, whatever kills it, and its return. Two of our
//! nodes with kernel TCP at both ends, in every mode and both families at once.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use lb_tests::command::Signal;
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family;
use lb_tests::recorder::Recorder;
use lb_tests::scrape::wait_sum;
use lb_tests::topology::Backends;
use serde_json::Value;

use super::measured;
use super::modes::{DNAT, DSR, NAT};
use super::scene::PATIENCE;
use pair::{Pair, wait_active, wait_state, wait_synced};
use traffic::{Amount, Traffic};

mod identity;
mod logged;
mod many;
mod opener;
mod pair;
mod scraped;
mod traffic;
mod unshared;
mod vanished;

/// Streams go to another port, so to another service.
const STREAM_PORT: u16 = 7443;
const CLOSING: Duration = Duration::from_secs(3);
/// What is over goes with the next pass, and with the other node's word.
const SWEEP: Duration = Duration::from_secs(3);
/// A client that closed first remembers it for 60 s, and is asked after that.
const TIME_WAIT: Duration = Duration::from_secs(65);

/// How a node ends, or what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// Its link goes down.
    Cut,
    /// Its controller is killed.
    Kill,
    /// Its controller stops to run, and goes on later.
    Stall,
    Drain,
    /// It is asked to end, and releases everything.
    End,
    /// Its controller hands over to a successor.
    Upgrade,
}

impl Death {
    const ALL: [Self; 6] =
        [Self::Cut, Self::Kill, Self::Stall, Self::Drain, Self::End, Self::Upgrade];
}

/// Lets the first node die and come back, under traffic. When the VIPs moved away and when they came back: from the
/// cause until the other one, or its successor, was seen Active.
fn die_and_return(
    pair: &Pair,
    nodes: &mut [Controller<'_>; 2],
    death: Death,
    clock: &Recorder,
) -> Result<[Range<Duration>; 2]> {
    let began = clock.now();
    let [first, second] = nodes;
    match death {
        Death::Cut => {
            pair.link(0, false)?;
            wait_active(second)?;
        }
        Death::Kill => {
            first.kill9()?;
            wait_active(second)?;
        }
        Death::Stall => {
            first.signal(Signal::SIGSTOP)?;
            wait_active(second)?;
        }
        Death::Drain => {
            first.cli(&["drain"])?;
            wait_active(second)?;
        }
        Death::End => {
            first.sigterm()?;
            first.wait_exit(PATIENCE)?;
            wait_active(second)?;
        }
        Death::Upgrade => {
            let said = first.log().len();
            ensure!(first.stop(true)?.success());
            first.start()?;
            wait_active(first)?;
            let adopted = || {
                let log = first.log();
                Ok(log[said..].matches("goes on where its predecessor ended").count())
            };
            let all = |count: &usize| *count == Family::ALL.len();
            eventually_is("both families to go on as before", PATIENCE, adopted, all)?;
        }
    }
    let away = began..clock.now();
    // Connections come and go that the first node does not hear of.
    std::thread::sleep(Duration::from_millis(1500));
    let began = clock.now();
    match death {
        Death::Cut => pair.link(0, true)?,
        Death::Kill | Death::End => first.start()?,
        Death::Stall => first.signal(Signal::SIGCONT)?,
        Death::Drain => drop(first.cli(&["drain", "--resume"])?),
        Death::Upgrade => {}
    }
    wait_active(first)?;
    wait_state(second, "backup")?;
    let back = began..clock.now();
    nodes.iter().try_for_each(wait_synced)?;
    Ok([away, back])
}

#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn now() -> Instant {
    Instant::now()
}

/// Everything that can happen to a node, one after the other.
fn survive(backends_are: Backends, deaths: &[Death]) -> Result<()> {
    let pair = Pair::build(backends_are)?;
    let mut nodes = pair.start()?;
    let mut traffic = Traffic::start(&pair, Amount::from_environment())?;
    for death in deaths {
        let what = format!("{} {death:?}", pair.lab.mode);
        let before = traffic.begin();
        let [away, back] = die_and_return(&pair, &mut nodes, *death, traffic.clock())
            .map_err(|error| with_logs(&error, &what, &nodes))?;
        let took = away.end - away.start;
        // A successor takes over a datapath that never pauses.
        if *death != Death::Upgrade {
            traffic.moved([away, back]);
        }
        traffic.ensure_unbroken(&what, before).map_err(|error| with_logs(&error, &what, &nodes))?;
        measured(&format!("{what}: the VIPs were served again after {took:?} at most"));
    }
    traffic.finish()?;
    ensure_same_flows(&pair, &nodes)
}

/// Every death in an order of its own; by hand ten of them.
fn in_a_row() -> Vec<Death> {
    let seed = std::env::var("FAIRLEAD_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut state: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    measured(&format!("FAIRLEAD_SEED={state}"));
    let mut left = Death::ALL.to_vec();
    let mut row = Vec::new();
    let length = if traffic::is_full() { 10 } else { left.len() };
    while row.len() < length {
        if left.is_empty() {
            left = Death::ALL.to_vec();
        }
        // Knuth's MMIX.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 33).unwrap_or(0) % left.len();
        row.push(left.remove(at));
    }
    row
}

/// The two that leave most to the other node; by hand all.
fn some_in_a_row() -> Vec<Death> {
    if traffic::is_full() { in_a_row() } else { vec![Death::Kill, Death::Cut] }
}

/// Both nodes hold the same, and nothing of what has ended, even if it ended at a node that died before it could tell,
/// or by a reset that neither heard of: whoever is silent is asked.
fn ensure_same_flows(pair: &Pair, nodes: &[Controller<'_>; 2]) -> Result<()> {
    let both = || Ok([established(&nodes[0])?, established(&nodes[1])?]);
    let began = now();
    let patience = forgotten(pair) + SWEEP + PATIENCE;
    let none = |left: &[u64; 2]| *left == [0, 0];
    eventually_is("no flow to be left", patience, both, none).map_err(|error| {
        let left = nodes.each_ref().map(|node| node.cli(&["flows", "list", "--json"]));
        anyhow!("{error:#}\nfirst: {:?}\nsecond: {:?}", left[0], left[1])
    })?;
    measured(&format!("no flow is left after {:?}", began.elapsed()));
    Ok(())
}

/// When at the latest an end that closed first has forgotten a connection, or its backend says so.
fn forgotten(pair: &Pair) -> Duration {
    if pair.lab.mode == "dsr" { TIME_WAIT } else { CLOSING }
}

fn established(node: &Controller<'_>) -> Result<u64> {
    let count: Value = serde_json::from_str(&node.cli(&["flows", "count", "--json"])?)?;
    let (flows, half_open) = (count["flows"].as_u64(), count["half_open"].as_u64());
    let both = flows.zip(half_open).with_context(|| format!("no counts in {count}"))?;
    Ok(both.0 - both.1)
}

/// What went wrong first: of a long message not all may be shown.
fn with_logs(error: &Error, what: &str, nodes: &[Controller<'_>; 2]) -> Error {
    let tail = |node: &Controller<'_>| {
        let log = node.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    };
    anyhow!("{what}: {error:#}\nfirst:\n{}\nsecond:\n{}", tail(&nodes[0]), tail(&nodes[1]))
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_survive_whatever_happens_to_the_active_node() -> Result<()> {
    survive(NAT, &in_a_row())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_survive_in_dnat() -> Result<()> {
    survive(DNAT, &some_in_a_row())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_survive_in_dsr() -> Result<()> {
    survive(DSR, &some_in_a_row())
}

/// Nobody hears the other, and both serve. Then the first one's connections go on, and those that came to the second
/// are told that they are over, if they cannot go on.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn after_a_partition_nobody_hangs() -> Result<()> {
    let pair = Pair::build(NAT)?;
    let nodes = pair.start()?;
    // A stream that is opened while both serve is the losing side's, and may end.
    let mut traffic = Traffic::start(&pair, Amount { streams: 0, ..Amount::small() })?;
    // What has just been opened the second node does not know yet.
    traffic.begin();
    pair.part(true)?;
    wait_active(&nodes[1])?;
    wait_active(&nodes[0])?;
    std::thread::sleep(partition());
    // By the last announcement these come to the second node.
    let mut theirs = traffic::open(&pair, 40)?;
    ensure!(established(&nodes[1])? >= 40, "the second node has none of them");
    let before = traffic.begin();
    pair.part(false)?;
    wait_state(&nodes[1], "backup")?;
    wait_active(&nodes[0])?;
    nodes.iter().try_for_each(wait_synced)?;
    traffic
        .ensure_unbroken("a partition", before)
        .map_err(|error| with_logs(&error, "partition", &nodes))?;
    let mut told = 0;
    wait_sum(&nodes[1], "fairlead_sync_discarded_flows_total", &[], |sum| sum > 0.0)?;
    for stream in &mut theirs {
        // At its next segment, if it was not told before.
        if traffic::ended(stream)? || traffic::is_reset(&traffic::echo(stream, "still here\n"))? {
            told += 1;
        }
    }
    measured(&format!("of 40 connections of the losing side {told} were told that they are over"));
    drop(theirs);
    traffic.finish()?;
    ensure_same_flows(&pair, &nodes)
}

/// How long: half a minute by hand.
fn partition() -> Duration {
    Duration::from_secs(if traffic::is_full() { 30 } else { 4 })
}
