//! Elections, leases and the sharing of flows, as Prometheus sees them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use lb_tests::command::Signal;
use lb_tests::eventually::{Seen, eventually, eventually_is};
use lb_tests::family::Family;
use lb_tests::scrape::{Scrape, wait_sum};
use lb_tests::steady::Steady;
use lb_tests::topology::API_PORT;

use super::PATIENCE;
use super::pair::{Pair, SYNC_PORT};
use crate::modes::NAT;

const CONNECTIONS: usize = 20;
/// Advertisements do not get in; everything else does.
const DEAF: &str = "add table inet deaf;
    add chain inet deaf in { type filter hook input priority 0; };
    add rule inet deaf in meta l4proto 112 drop";

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn elections_leases_and_shared_flows_are_told() -> Result<()> {
    let pair = Pair::build(NAT)?;
    let mut nodes = pair.start()?;
    let ([first, second], both) = (&mut nodes, Family::ALL.len() as f64);
    for (node, state, owned, heard, priority) in [
        (&*first, "state=\"active\"", both, "fairlead_vrrp_sent_advertisements_total", 250.0),
        (&*second, "state=\"backup\"", 0.0, "fairlead_vrrp_rcvd_advertisements_total", 249.0),
    ] {
        wait_sum(node, "fairlead_vrrp_state", &[state], |sum| sum == both)?;
        wait_sum(node, "fairlead_vip_owner", &[], |sum| sum == owned)?;
        wait_sum(node, "fairlead_vip_lease_remaining_seconds", &[], |left| {
            if owned > 0.0 { left > 0.1 && left < 10.0 } else { left == 0.0 }
        })?;
        let before = wait_sum(node, heard, &[], |sum| sum > 0.0)?;
        wait_sum(node, heard, &[], |sum| sum > before + 3.0)?;
        wait_sum(node, "fairlead_vrrp_priority", &[], |sum| sum == priority * both)?;
        wait_sum(node, "fairlead_sync_warm", &[], |sum| sum == 1.0)?;
        wait_sum(node, "fairlead_sync_peer_state", &["state=\"synced\""], |sum| sum == 1.0)?;
    }
    wait_sum(second, "fairlead_vrrp_peer_priority", &[], |sum| sum == 250.0 * both)?;
    wait_sum(second, "fairlead_vrrp_peer_advert_interval_seconds", &[], |sum| {
        sum > 0.19 && sum < 0.21
    })?;
    wait_sum(second, "fairlead_vrrp_peer_silence_seconds", &[], |sum| sum > 0.0 && sum < 2.0)?;
    // No clock is so exact.
    wait_sum(second, "fairlead_vrrp_peer_lateness_seconds", &[], |sum| sum > 0.0 && sum < 0.5)?;

    let target = pair.target(Family::V4, API_PORT);
    let steady = Steady::start(&pair.lab.client.netns.handle(), target, CONNECTIONS)?;
    let shared = CONNECTIONS as f64;
    wait_sum(first, "fairlead_sync_sent_changes_total", &[], |sum| sum >= shared)?;
    wait_sum(second, "fairlead_sync_received_changes_total", &[], |sum| sum >= shared)?;
    wait_sum(second, "fairlead_sync_held_flows", &[], |sum| sum >= shared)?;
    // It says so with its answer to a change.
    let more = Steady::start(&pair.lab.client.netns.handle(), target, 1)?;
    wait_sum(first, "fairlead_sync_held_by_peer_flows", &[], |sum| sum >= shared)?;
    more.finish()?;
    steady.finish()?;

    // From the other node, which has no such message.
    let port = SocketAddr::new(pair.address(1), SYNC_PORT);
    pair.lab.lbs[0].host.netns.on_thread(|| {
        let mut stream = TcpStream::connect_timeout(&port, PATIENCE)?;
        // It may have been closed already.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
        Ok(())
    })?;
    let refused = "fairlead_sync_refused_connections_total";
    wait_sum(second, refused, &["reason=\"preface\""], |sum| sum >= 1.0)?;

    for name in ["fairlead_start_timestamp_seconds", "fairlead_vrrp_state_change_timestamp_seconds"]
    {
        wait_sum(first, name, &[], |sum| sum > 1e9)?;
    }
    wait_sum(second, "fairlead_sync_comparison_age_seconds", &[], |age| age > 0.0 && age < 60.0)?;
    // Whoever gives its VIPs up says so with priority 0.
    let (sent, heard) =
        ("fairlead_vrrp_sent_pri_zero_packets_total", "fairlead_vrrp_rcvd_pri_zero_packets_total");
    first.cli(&["drain"])?;
    wait_sum(first, sent, &[], |sum| sum >= 1.0)?;
    wait_sum(second, heard, &[], |sum| sum >= 1.0)?;
    wait_sum(second, "fairlead_vrrp_state", &["state=\"active\""], |sum| sum == both)?;
    first.cli(&["drain", "--resume"])?;
    wait_sum(first, "fairlead_vrrp_state", &["state=\"active\""], |sum| sum == both)?;

    first.kill9()?;
    wait_sum(second, "fairlead_vrrp_state", &["state=\"active\""], |sum| sum == both)?;
    wait_sum(second, "fairlead_vrrp_master_transitions_total", &[], |sum| sum >= both)?;
    wait_sum(second, "fairlead_vip_owner", &[], |sum| sum == both)?;
    wait_sum(second, "fairlead_vip_lease_remaining_seconds", &[], |left| left > 0.1)?;
    wait_sum(second, "fairlead_sync_peer_state", &["state=\"connecting\""], |sum| sum == 1.0)?;
    Ok(())
}

/// A flow whose backend the other node does not know means nothing there.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn flows_of_backends_that_only_one_node_has_are_not_kept_and_counted() -> Result<()> {
    let pair = Pair::build(NAT)?;
    let nodes = pair.start()?;
    let yaml = pair.yaml(1, &pair.key, nodes[1].socket());
    nodes[1].write_config(&yaml.replace("\"10.77.0.13\"", "\"10.77.0.23\""))?;
    nodes[1].reload()?;
    let target = pair.target(Family::V4, API_PORT);
    let steady = Steady::start(&pair.lab.client.netns.handle(), target, 3 * CONNECTIONS)?;
    wait_sum(
        &nodes[1],
        "fairlead_sync_not_kept_flows_total",
        &["reason=\"unknown_backend\""],
        |sum| sum >= 1.0,
    )?;
    steady.finish().map(drop)
}

/// Both nodes serve, as the one does not hear the other's advertisements; what they share goes on to be told, and
/// neither follows.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn changes_of_flows_that_both_nodes_serve_are_ignored_and_counted() -> Result<()> {
    const IGNORED: &str = "fairlead_sync_ignored_changes_total";
    let pair = Pair::build(NAT)?;
    let nodes = pair.start()?;
    let ([first, second], both) = (&nodes, Family::ALL.len() as f64);
    wait_sum(first, IGNORED, &[], |sum| sum == 0.0)?;
    let netns = &pair.lab.lbs[1].host.netns;
    netns.run("nft", [DEAF])?;
    for node in &nodes {
        wait_sum(node, "fairlead_vrrp_state", &["state=\"active\""], |sum| sum == both)?;
        wait_sum(node, "fairlead_sync_peer_state", &["state=\"connecting\""], |sum| sum == 0.0)?;
    }
    // By the last announcement these come to the second node, and whoever got them tells the other.
    let target = pair.target(Family::V4, API_PORT);
    let steady = Steady::start(&pair.lab.client.netns.handle(), target, CONNECTIONS)?;
    let of_both = || -> Result<f64> {
        Ok(Scrape::of(first)?.sum(IGNORED, &[]) + Scrape::of(second)?.sum(IGNORED, &[]))
    };
    eventually_is("to be ignored", PATIENCE, of_both, |sum| *sum >= CONNECTIONS as f64)?;
    netns.run("nft", ["delete table inet deaf"])?;
    wait_sum(second, "fairlead_vrrp_state", &["state=\"backup\""], |sum| sum == both)?;
    drop(steady);
    Ok(())
}

/// What was told and is not acknowledged is behind, by as long as that is so.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_peer_that_stops_for_a_moment_is_behind_by_that() -> Result<()> {
    const LAG: &str = "fairlead_sync_lag_seconds";
    const STOPPED: Duration = Duration::from_secs(1);
    let pair = Pair::build(NAT)?;
    let [first, mut second] = pair.start()?;
    let (client, target) = (pair.lab.client.netns.handle(), pair.target(Family::V4, API_PORT));
    let one = Steady::start(&client, target, 1)?;
    wait_sum(&first, "fairlead_sync_sent_changes_total", &[], |sum| sum >= 1.0)?;
    wait_sum(&first, LAG, &[], |lag| lag < 0.1)?;
    second.signal(Signal::SIGSTOP)?;
    let more = Steady::start(&client, target, CONNECTIONS)?;
    std::thread::sleep(STOPPED);
    second.signal(Signal::SIGCONT)?;
    // It stays what it was until another change is carried out.
    wait_sum(&first, LAG, &[], |lag| (0.5..5.0).contains(&lag))?;
    let mut last = Vec::new();
    eventually("to be behind no more", PATIENCE, || {
        last.push(Steady::start(&client, target, 1)?);
        std::thread::sleep(Duration::from_secs(1));
        let lag = Scrape::of(&first)?.sum(LAG, &[]);
        Ok(if lag < 0.1 { Seen::Done(()) } else { Seen::Pending(lag.to_string()) })
    })?;
    for steady in [one, more].into_iter().chain(last) {
        steady.finish()?;
    }
    Ok(())
}
