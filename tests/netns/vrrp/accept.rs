//! `accept: false`: the VIPs are for their services only.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_tests::netns::Netns;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Pair, wait_both};
use crate::scene::PATIENCE;

/// Of nothing that is said to be there.
const SHORT: Duration = Duration::from_millis(300);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_vip_that_accepts_nothing_serves_and_is_found_all_the_same() -> Result<()> {
    let pair = Pair::build()?;
    let vips = [pair.vip(), pair.vip6()];
    let ours = pair.dual_stack("    accept: true");
    let controller = pair.start(&ours)?;
    let open = pair.yaml(&controller, &ours);
    wait_both(&controller, "active")?;
    controller.wait_backend("cp1", "up", PATIENCE)?;
    // The host itself listens at every address.
    let netns = &pair.node().host.netns;
    let host = netns.on_thread(|| TcpListener::bind("[::]:7777").context("listening"))?;
    let client = &pair.lab.client.netns;
    for vip in vips {
        ensure!(answers_echo(client, vip)?, "{vip} is to accept all");
        ensure!(connects(client, SocketAddr::new(vip, 7777))?, "{vip} is to accept all");
    }
    controller.write_config(&open.replace("accept: true", "accept: false"))?;
    controller.reload()?;
    for vip in vips {
        // The neighbour has to be found anew.
        client.ip(&format!("neigh flush to {vip} dev eth0"))?;
        ensure!(!answers_echo(client, vip)?, "{vip} answers");
        ensure!(!connects(client, SocketAddr::new(vip, 7777))?, "{vip} takes connections");
        let neighbour = client.ip(&format!("neigh show {vip} dev eth0"))?;
        ensure!(neighbour.contains("lladdr"), "{vip} is not found: {neighbour}");
    }
    ensure!(connects(client, pair.target())?, "the service is gone");
    let status = controller.status()?;
    ensure!(status["counters"]["drop_not_accepted"].as_u64() >= Some(4), "{status}");
    // The node's own addresses are as they were.
    ensure!(answers_echo(client, pair.ours())?, "the node does not answer");
    ensure!(connects(client, SocketAddr::new(pair.ours(), 7777))?, "nor take connections");
    drop(host);
    let shown = controller.cli(&["config", "show"])?;
    ensure!(shown.contains("accept: false"), "{shown}");

    controller.write_config(&open)?;
    controller.reload()?;
    for vip in vips {
        ensure!(answers_echo(client, vip)?, "{vip} stays closed");
    }
    Ok(())
}

fn connects(netns: &Netns, target: SocketAddr) -> Result<bool> {
    netns.on_thread(|| Ok(TcpStream::connect_timeout(&target, SHORT * 2).is_ok()))
}

/// Whether an echo request is answered: two are sent, for the first may wait for a neighbour.
#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn answers_echo(netns: &Netns, target: IpAddr) -> Result<bool> {
    let (domain, protocol, message, reply) = match target {
        // Type, code, checksum, identifier, number.
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1], 0),
        // The kernel works the checksum out.
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, [128, 0, 0, 0, 0x12, 0x34, 0, 1], 129),
    };
    netns.on_thread(|| {
        let mut socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        socket.connect(&SocketAddr::new(target, 0).into())?;
        let end = Instant::now() + SHORT;
        let mut buffer = [0; 256];
        socket.send(&message)?;
        while Instant::now() < end {
            // What was sent before the neighbour was known may be lost.
            socket.send(&message)?;
            let Ok(length) = socket.read(&mut buffer) else { continue };
            let packet = &buffer[..length];
            let start = if target.is_ipv4() { usize::from(packet[0] & 0xf) * 4 } else { 0 };
            if packet.get(start) == Some(&reply) {
                return Ok(true);
            }
        }
        Ok(false)
    })
}
