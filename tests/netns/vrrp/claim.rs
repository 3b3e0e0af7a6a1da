//! Hosts that say to have a VIP of ours.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fairlead::netlink::garp::FrameSocket;
use fairlead::vrrp::announce;
use lb_common::link::Mac;
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::netns::Netns;
use lb_tests::topology::Host;
use serde_json::Value;

use super::{Pair, latest, wait_both};
use crate::scene::PATIENCE;

const LATE: Duration = Duration::from_millis(80);

/// One that says nothing of itself is asked for once this node is Active.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_host_that_has_the_vip_already_is_found_and_named() -> Result<()> {
    let pair = Pair::build()?;
    let squatter = &pair.lab.backends[0];
    squatter.netns.ip(&format!("addr add {}/32 dev eth0", pair.vip()))?;
    squatter.netns.ip(&format!("-6 addr add {}/128 dev eth0 nodad", pair.vip6()))?;
    let controller = pair.start(&pair.dual_stack(""))?;
    wait_both(&controller, "active")?;
    let mac = mac_of(squatter)?;
    for (instance, vip) in [(0, pair.vip()), (1, pair.vip6())] {
        let message = wait_claim(&controller, instance)?;
        ensure!(message.contains(&mac) && message.contains(&vip.to_string()), "{message}");
    }
    let events = controller.cli(&["events"])?;
    ensure!(events.contains(&format!("{mac} says to have VIP {} too", pair.vip6())), "{events}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_host_that_takes_the_vip_is_named_and_contradicted() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(100)?;
    let controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    // Of keepalived, which had the VIP, nothing is said; and the announcements of the beginning are over.
    std::thread::sleep(Duration::from_millis(2500));
    ensure!(claim(&controller.status()?, 0).is_none(), "{}", controller.status()?);
    let mark = pair.wire.mark();
    let client = &pair.lab.client;
    client.netns.ip(&format!("addr add {}/32 dev eth0", pair.vip()))?;
    speak_as(&client.netns, pair.vip())?;
    let message = wait_claim(&controller, 0)?;
    ensure!(message.contains(&mac_of(client)?), "{message}");
    pair.wire.wait("our announcement", mark, PATIENCE, |said| said.announces(pair.vip()))?;

    // However many there are: little is told of them, and advertisements go on.
    let before = count(&controller)?;
    let mark = pair.wire.mark();
    flood(client, &pair)?;
    // They are listened to once a second.
    std::thread::sleep(Duration::from_millis(2500));
    let told = count(&controller)? - before;
    ensure!((1..=6).contains(&told), "{told} of them were told");
    let adverts = pair.wire.adverts(pair.ours(), mark);
    let late = latest(&adverts);
    super::super::measured(&format!("{told} told; the latest advertisement {late:?}"));
    ensure!(late <= LATE, "late by {late:?}: {adverts:?}");
    ensure!(controller.status()?["vrrp"][0]["state"] == "active");
    Ok(())
}

/// An instance's alarm of this kind, if there is one.
fn claim(status: &Value, instance: usize) -> Option<Value> {
    let alarms = status["vrrp"][instance]["alarms"].as_array()?;
    alarms.iter().find(|alarm| alarm["kind"] == "foreign_claimant").cloned()
}

fn wait_claim(controller: &Controller<'_>, instance: usize) -> Result<String> {
    let seen = || Ok(claim(&controller.status()?, instance));
    let found = eventually_is("the alarm", PATIENCE, seen, Option::is_some)?;
    Ok(found.context("no alarm")?["message"].to_string())
}

fn count(controller: &Controller<'_>) -> Result<u64> {
    let status = controller.status()?;
    claim(&status, 0).and_then(|alarm| alarm["count"].as_u64()).context("no alarm")
}

/// Has a host ask the link for somebody, from that address.
fn speak_as(netns: &Netns, address: IpAddr) -> Result<()> {
    netns.on_thread(|| {
        let socket = UdpSocket::bind((address, 0))?;
        socket.send_to(b"?", SocketAddr::from(([10, 77, 0, 250], 9)))?;
        Ok(())
    })
}

/// 20,000 claims of as many hosts.
fn flood(host: &Host, pair: &Pair) -> Result<()> {
    let index = link(host)?.split(':').next().and_then(|index| index.trim().parse().ok());
    let index: u32 = index.context("no index")?;
    let vip = pair.lab.vip();
    host.netns.on_thread(|| {
        let socket = FrameSocket::open()?;
        for number in 0..20_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            // What the queue has no room for is lost.
            let _ = socket.send(index, &announce::garp(Mac([2, 0x66, 0, a, b, c]), vip));
        }
        Ok(())
    })
}

fn mac_of(host: &Host) -> Result<String> {
    let said = link(host)?;
    let mac = said.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    mac.map(str::to_owned).context("no MAC")
}

fn link(host: &Host) -> Result<String> {
    host.netns.ip("-o link show eth0")
}
