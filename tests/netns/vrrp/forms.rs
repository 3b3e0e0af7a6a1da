//! Version 2 and unicast.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::advert::{is_sealed, is_sealed_alone};
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::keepalived::{self, Keepalived};
use lb_tests::scrape::wait_sum;
use lb_tests::wire::What;

use super::{INTERVAL, Ours, Pair, together};
use crate::scene::PATIENCE;

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn version_2_is_understood_with_a_password_and_without() -> Result<()> {
    together(&[
        ("none", &|| version_2(None, "    version: 2")),
        ("pass", &|| {
            let more = "    version: 2\n    authentication: { type: pass, password: secret }";
            version_2(Some("secret"), more)
        }),
    ])
}

fn version_2(password: Option<&'static str>, more: &'static str) -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.keepalived(&old(&pair, password))?;
    let source = pair.theirs();
    // Whoever comes first of two that hear nobody is the only one to be heard.
    pair.wire.wait("keepalived", 0, PATIENCE, |said| said.priority_of(source).is_some())?;
    let ours = Ours { interval: SECOND, more, ..pair.settings(250) };
    let controller = pair.start(&ours)?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    let counters = controller.status()?["vrrp"][0]["counters"].clone();
    let errors = ["auth_failures", "auth_type_mismatches", "version_errors", "checksum_errors"];
    ensure!(errors.iter().all(|error| counters[error] == 0), "{counters}");
    let said = pair.wire.said();
    let wrong = said.iter().find(|said| match &said.what {
        What::Advert { message, .. } => message.len() != 20 || !is_sealed_alone(message),
        What::Garp { .. } | What::Advertisement { .. } | What::Answer { .. } => false,
    });
    ensure!(wrong.is_none(), "{wrong:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn another_password_makes_two_actives_and_an_alarm() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.keepalived(&old(&pair, Some("theirs")))?;
    let source = pair.theirs();
    pair.wire.wait("keepalived", 0, PATIENCE, |said| said.priority_of(source).is_some())?;
    let more = "    version: 2\n    authentication: { type: pass, password: ours }";
    let ours = Ours { interval: SECOND, more, ..pair.settings(250) };
    let controller = pair.start(&ours)?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), true)?;
    // Keepalived 2.2.7 puts its next advertisement off at each one that it drops: few are heard of it.
    let alarmed = |log: &String| log.contains("peer auth failure");
    eventually_is("the alarm", PATIENCE, || Ok(controller.log()), alarmed)?;
    ensure!(super::has(pair.node(), pair.vip())?, "keepalived was obeyed");
    // What is published is a moment old.
    let status = || Ok(controller.status()?["vrrp"][0].clone());
    eventually_is("the refusals in the status", PATIENCE, status, |status| {
        status["counters"]["auth_failures"].as_u64() > Some(0)
            && status["alarms"][0]["kind"] == "refused_active"
    })?;
    wait_sum(&controller, "fairlead_vrrp_auth_failures_total", &[], |sum| sum > 0.0)?;
    wait_sum(&controller, "fairlead_vrrp_alarm", &["refused_active"], |sum| sum >= 1.0)?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn unicast_is_between_those_who_are_listed() -> Result<()> {
    let pair = Pair::build_with(3, 1)?;
    let (ours, theirs) = (pair.ours(), pair.theirs());
    let third = IpAddr::from(pair.lab.lbs[2].host.address);
    let settings = keepalived::Settings {
        unicast: Some((theirs, vec![ours, third])),
        ..pair.theirs_with(100)
    };
    let mut keepalived = pair.keepalived(&settings)?;
    pair.wire.wait("keepalived", 0, PATIENCE, |said| said.priority_of(theirs).is_some())?;
    let more = "    unicast_peers: [10.77.0.3, 10.77.0.5]";
    let mut controller = pair.start(&Ours { more, ..pair.settings(200) })?;
    pair.wait_state(&controller, "active")?;
    let more = "    unicast_peers: [10.77.0.3, 10.77.0.1]";
    let second = pair.start_on(&pair.lab.lbs[2], &Ours { more, ..pair.settings(150) })?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    pair.wait_state(&second, "backup")?;
    std::thread::sleep(INTERVAL * 10);
    pair.wait_state(&controller, "active")?;
    pair.wait_state(&second, "backup")?;
    ensure_sealed_for(&pair, ours, &[theirs, third])?;
    stranger_is_ignored(&pair, &controller)?;

    // Of the two that are left, ours ranks higher, and keepalived takes what it says.
    let mark = pair.wire.mark();
    controller.kill9()?;
    pair.wait_state(&second, "active")?;
    std::thread::sleep(INTERVAL * 10);
    let heard = pair.wire.adverts(theirs, mark);
    ensure!(heard.is_empty(), "keepalived took over: {heard:?}");
    ensure_sealed_for(&pair, third, &[theirs, ours])?;
    let multicast = |what: &What| matches!(what, What::Advert { destination, .. } if destination.is_multicast());
    let said = pair.wire.said();
    ensure!(!said.iter().any(|said| multicast(&said.what)), "multicast was sent");
    keepalived.stop()
}

/// Each peer got advertisements whose checksum is right for its address and no other's.
fn ensure_sealed_for(pair: &Pair, from: IpAddr, peers: &[IpAddr]) -> Result<()> {
    let said = pair.wire.said();
    for peer in peers {
        let mut messages = said.iter().filter_map(|said| match &said.what {
            What::Advert { source, destination, message, .. }
                if (source, destination) == (&from, peer) =>
            {
                Some(message)
            }
            What::Advert { .. }
            | What::Garp { .. }
            | What::Advertisement { .. }
            | What::Answer { .. } => None,
        });
        let first = messages.next().with_context(|| format!("nothing from {from} to {peer}"))?;
        ensure!(is_sealed(from, *peer, first), "to {peer}: {first:02x?}");
        ensure!(messages.all(|message| is_sealed(from, *peer, message)), "to {peer}");
    }
    Ok(())
}

/// One that is in nobody's list, and would be Active.
fn stranger_is_ignored(pair: &Pair, controller: &Controller<'_>) -> Result<()> {
    let stranger = &pair.lab.backends[0];
    let settings = keepalived::Settings {
        unicast: Some((stranger.address.into(), vec![pair.ours()])),
        ..pair.theirs_with(254)
    };
    let _stranger = Keepalived::start(&stranger.netns, pair.lab.directory(), &settings)?;
    let counted = || Ok(controller.status()?["vrrp"][0]["counters"]["stranger_packets"].as_u64());
    eventually_is("a stranger", PATIENCE, counted, |count| *count > Some(5))?;
    ensure!(controller.status()?["vrrp"][0]["state"] == "active");
    Ok(())
}

/// Version 2, whose interval is in seconds.
fn old(pair: &Pair, password: Option<&'static str>) -> keepalived::Settings {
    keepalived::Settings { version: 2, interval: 1.0, password, ..pair.theirs_with(100) }
}
