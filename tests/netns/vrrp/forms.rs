//! Version 2, unicast and IPv6.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::eventually::eventually_is;
use lb_tests::keepalived;
use lb_tests::wire::What;

use super::{Ours, Pair};
use crate::scene::PATIENCE;

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn version_2_with_a_password_is_understood() -> Result<()> {
    let pair = Pair::build()?;
    let theirs = old(&pair, Some("secret"));
    let _keepalived = pair.keepalived(&theirs)?;
    let source = pair.theirs();
    let more = "    version: 2\n    authentication: { type: pass, password: secret }";
    let ours = Ours { interval: SECOND, more, ..pair.settings(250) };
    let controller = pair.start(&ours)?;
    pair.wire.wait("keepalived", 0, PATIENCE, |said| said.priority_of(source).is_some())?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    ensure!(controller.status()?["vrrp"][0]["counters"]["auth_failures"] == 0);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn another_password_makes_two_actives_and_an_alarm() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.keepalived(&old(&pair, Some("theirs")))?;
    let more = "    version: 2\n    authentication: { type: pass, password: ours }";
    let ours = Ours { interval: SECOND, more, ..pair.settings(250) };
    let controller = pair.start(&ours)?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), true)?;
    // Keepalived 2.2.7 puts its next advertisement off at each one that it drops: few are heard of it.
    let alarmed = |log: &String| log.contains("peer auth failure");
    eventually_is("the alarm", PATIENCE, || Ok(controller.log()), alarmed)?;
    ensure!(super::has(pair.node(), pair.vip())?, "keepalived was obeyed");
    let status = controller.status()?;
    ensure!(status["vrrp"][0]["counters"]["auth_failures"].as_u64() > Some(0), "{status}");
    ensure!(status["vrrp"][0]["alarms"][0]["kind"] == "refused_active", "{status}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn unicast_is_between_those_who_are_listed() -> Result<()> {
    let pair = Pair::build()?;
    let (ours, theirs) = (pair.ours(), pair.theirs());
    let settings = keepalived::Settings {
        unicast: Some((theirs, vec![ours, pair.lab.client.address.into()])),
        ..pair.theirs_with(100)
    };
    let mut keepalived = pair.keepalived(&settings)?;
    pair.wire.wait("keepalived", 0, PATIENCE, |said| said.priority_of(theirs).is_some())?;
    // The client's host is a peer that says nothing.
    let more = "    unicast_peers: [10.77.0.3, 10.77.0.2]";
    let controller = pair.start(&Ours { more, ..pair.settings(200) })?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    for peer in [theirs, pair.lab.client.address.into()] {
        pair.wire.wait("an advertisement for each peer", 0, PATIENCE, |said| {
            matches!(&said.what, What::Advert { source, destination, .. }
                if *source == ours && *destination == peer)
        })?;
    }
    // One that is in nobody's list.
    let stranger = pair.lab.backends[0].address;
    keepalived.stop()?;
    let settings = keepalived::Settings {
        unicast: Some((stranger.into(), vec![ours])),
        ..pair.theirs_with(254)
    };
    let host = &pair.lab.backends[0].netns;
    let _stranger = keepalived::Keepalived::start(host, pair.lab.directory(), &settings)?;
    let counted = || Ok(controller.status()?["vrrp"][0]["counters"]["stranger_packets"].as_u64());
    eventually_is("a stranger", PATIENCE, counted, |count| *count > Some(0))?;
    ensure!(controller.status()?["vrrp"][0]["state"] == "active");
    let multicast = |what: &What| matches!(what, What::Advert { destination, .. } if destination.is_multicast());
    let said = pair.wire.said();
    ensure!(!said.iter().any(|said| multicast(&said.what)), "multicast was sent");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn ipv6_moves_to_and_from_keepalived() -> Result<()> {
    let pair = Pair::build()?;
    let vips: Vec<IpAddr> = vec!["fe80::77:100".parse()?, "fd77::100".parse()?];
    let theirs = keepalived::Settings { vips: vips.clone(), ..pair.theirs_with(100) };
    let mut keepalived = pair.keepalived(&theirs)?;
    pair.wait_vip(pair.other(), vips[1], true)?;
    let controller = pair.controller(&pair.settings(200))?;
    let second = "    vips: [10.77.0.100]
  - name: api6
    interface: eth0
    vrid: 77
    priority: 200
    advert_interval: 100ms
    vips: [fe80::77:100, fd77::100]";
    let yaml = pair.yaml(&controller, &pair.settings(200));
    controller
        .write_config(&yaml.replace("    vips: [10.77.0.100]\n\n", &format!("{second}\n")))?;
    let mut controller = controller;
    let mark = pair.wire.mark();
    controller.start()?;
    for vip in &vips {
        let said =
            pair.wire.wait("an announcement", mark, PATIENCE, |said| said.announces(*vip))?;
        let What::Advertisement { flags, .. } = said.what else { continue };
        ensure!(flags == 0x20, "flags {flags:#x}: override alone");
    }
    let status = || Ok(controller.status()?["vrrp"].to_string());
    let both = |status: &String| status.matches("\"state\":\"active\"").count() == 2;
    eventually_is("both to be active", PATIENCE, status, both)?;
    for vip in &vips {
        pair.wait_vip(pair.node(), *vip, true)?;
        pair.wait_vip(pair.other(), *vip, false)?;
    }
    let addresses = pair.node().host.netns.ip("-6 -o addr show dev eth0")?;
    ensure!(!addresses.contains("tentative"), "{addresses}");
    keepalived.stop()?;
    Ok(())
}

/// Version 2, whose interval is in seconds.
fn old(pair: &Pair, password: Option<&'static str>) -> keepalived::Settings {
    keepalived::Settings { version: 2, interval: 1.0, password, ..pair.theirs_with(100) }
}
