//! Elections, leases and the sharing of flows, as Prometheus sees them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::Result;
use lb_tests::family::Family;
use lb_tests::scrape::wait_sum;
use lb_tests::steady::Steady;
use lb_tests::topology::API_PORT;

use super::PATIENCE;
use super::pair::{Pair, SYNC_PORT};
use crate::modes::NAT;

const CONNECTIONS: usize = 20;

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
