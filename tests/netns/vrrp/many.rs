//! Two hundred VIPs in one instance.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::eventually::eventually_is;
use lb_tests::keepalived;
use lb_tests::standstill;
use lb_tests::wire::{Said, What};

use super::{INTERVAL, Ours, Pair, latest};
use crate::scene::PATIENCE;

const VIPS: u8 = 200;
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn two_hundred_vips_are_announced_within_a_second_and_delay_no_advertisement() -> Result<()> {
    let pair = Pair::build()?;
    let more = (1..VIPS).map(|last| IpAddr::from(Ipv4Addr::new(10, 77, 1, last)));
    let vips: Vec<IpAddr> = std::iter::once(pair.vip()).chain(more).collect();
    let theirs = keepalived::Settings { vips: vips.clone(), repeat: 1, ..pair.theirs_with(200) };
    let mut keepalived = pair.keepalived(&theirs)?;
    // While it announces it is silent, for longer than a backup waits.
    let announcements = || Ok(pair.wire.said().iter().filter(|said| is_garp(said)).count());
    let all = 2 * usize::from(VIPS);
    eventually_is("both of its rounds", PATIENCE, announcements, |said| *said >= all)?;
    let controller = pair.start(&Ours { vips: vips.clone(), ..pair.settings(100) })?;
    pair.wait_state(&controller, "backup")?;
    pair.wait_peer(&controller)?;
    let mac = pair.mac(pair.node())?;
    keepalived.kill9()?;
    let mark = pair.wire.mark();
    let first = pair.advertised(mark)?;
    let address = |said: &str| vips.iter().filter(|vip| said.contains(&format!(" {vip}/"))).count();
    let held = || Ok(address(&pair.node().host.netns.ip("-o addr show dev eth0")?));
    eventually_is("all VIPs", PATIENCE, held, |held| *held == vips.len())?;
    let end = first.at + Duration::from_millis(1500);
    pair.wire.wait("some time to pass", mark, PATIENCE, |said| {
        said.at > end && said.priority_of(pair.ours()).is_some()
    })?;

    let mut announced: BTreeMap<IpAddr, Duration> = BTreeMap::new();
    for said in pair.wire.said().into_iter().skip(mark) {
        if let What::Garp { vip, mac: from } = said.what
            && from == mac
        {
            announced.entry(vip.into()).or_insert(said.at);
        }
    }
    ensure!(announced.len() == vips.len(), "{} of {VIPS} were announced", announced.len());
    let last = *announced.values().max().context("none")?;
    let took = last.saturating_sub(first.at);
    let stood = standstill::during(&(first.at..last));
    let adverts = pair.wire.adverts(pair.ours(), mark);
    let late = latest(&adverts);
    super::super::measured(&format!("announced within {took:?}, advertisements late by {late:?}"));
    ensure!(took <= ANNOUNCED_WITHIN + stood, "announced within {took:?}");
    ensure!(adverts.len() > 11 && late < INTERVAL * 3 / 10, "late by {late:?}: {adverts:?}");
    Ok(())
}

const fn is_garp(said: &Said) -> bool {
    matches!(said.what, What::Garp { .. })
}
