//! A node that shares its flows and logs them does both: one task reads the events, and each of the two gets all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lb_tests::plain::EchoClient;
use lb_tests::steady::Steady;
use lb_tests::topology::API_PORT;

use super::*;
use crate::flow_log::lines;

const STEADY: usize = 40;
const SHORT: usize = 60;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_is_shared_with_a_peer_is_logged_too_and_neither_lacks_anything() -> Result<()> {
    let pair = Pair::build(NAT)?;
    let mut nodes = [pair.controller(0)?, pair.controller(1)?];
    let logs: Vec<PathBuf> =
        (1..=2).map(|node| pair.lab.directory().join(format!("lb{node}.flows"))).collect();
    for ((number, node), log) in nodes.iter().enumerate().zip(&logs) {
        let yaml = pair.yaml(number, &pair.key, node.socket());
        node.write_config(&format!("{yaml}flow_log: {{ file: {} }}\n", log.display()))?;
    }
    pair.start_nodes(&mut nodes)?;
    let [first, second] = &mut nodes;
    let target = pair.target(Family::V4, API_PORT);
    let client = &pair.lab.client.netns;
    let steady = Steady::start(&client.handle(), target, STEADY)?;
    let ends = client.on_thread(|| end_some(target))?;

    // Each of them begins once and ends once, in its own way.
    let told = || Ok(lines(&logs[0])?.into_iter().filter(|it| it["event"] == "end").count());
    eventually_is("the ends to be logged", PATIENCE, told, |count| *count >= ends.len())?;
    let log = lines(&logs[0])?;
    ensure!(log.iter().all(|line| line["event"] != "lost"), "something was lost");
    for (address, reason) in &ends {
        let of = |event: &str| {
            let is_it = |line: &&Value| line["event"] == event && line["client"] == **address;
            log.iter().filter(is_it).collect::<Vec<_>>()
        };
        let (starts, ends) = (of("start"), of("end"));
        ensure!((starts.len(), ends.len()) == (1, 1), "{address}: {starts:?} {ends:?}");
        ensure!(ends[0]["reason"] == **reason, "{reason}: {:#}", ends[0]);
    }
    let starts = log.iter().filter(|line| line["event"] == "start").count();
    ensure!(starts == STEADY + ends.len(), "{starts} began");

    // The peer has all that are open and none that has ended, and serves them when this one is gone.
    let held = || Ok(second.status()?["sync"]["peers"][0]["held"].as_u64());
    eventually_is("the peer to hold them", PATIENCE, held, |held| *held == Some(STEADY as u64))?;
    ensure!(
        first.status()?["sync"]["lost_changes"].as_u64().unwrap_or_default() == 0,
        "changes were lost"
    );
    first.kill9()?;
    wait_active(second)?;
    let clock = Recorder::new();
    let speaking = || Ok(steady.state().speaking(clock.now()));
    eventually_is("all to go on", PATIENCE, speaking, |count| *count == STEADY)?;
    steady.finish()?;
    // Who took over logs how they end.
    let told = || ends_of(&logs[1]);
    eventually_is("their ends at the other node", PATIENCE, told, |ends| {
        ends.get("closed_by_client") == Some(&STEADY)
    })?;
    Ok(())
}

/// Connections that end, by the client's address, with the reason that is to be logged.
fn end_some(target: SocketAddr) -> Result<BTreeMap<String, &'static str>> {
    let mut ends = BTreeMap::new();
    for number in 0..SHORT {
        let mut connection = EchoClient::connect(target, None)?;
        connection.exchange("hello")?;
        let address = connection.local_addr()?.to_string();
        let reason = match number % 3 {
            0 => connection.close().map(|()| "closed_by_client")?,
            1 => connection.abort().map(|()| "reset_by_client")?,
            _ => connection.bye().map(|()| "closed_by_backend")?,
        };
        ends.insert(address, reason);
    }
    Ok(ends)
}

fn ends_of(log: &Path) -> Result<BTreeMap<String, usize>> {
    let mut ends = BTreeMap::new();
    for line in lines(log)?.iter().filter(|line| line["event"] == "end") {
        *ends.entry(line["reason"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(ends)
}
