//! Half-open flows that give way to others are counted, and nothing else is.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::flood::{Flood, Kind};
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::plain;
use lb_tests::scrape::{Scrape, wait_sum};
use lb_tests::topology::{Plan, Topology};

use crate::flood::parse_mac;
use crate::follow::mac_of;
use crate::measured;
use crate::scene::PATIENCE;

const EVICTED: &str = "fairlead_half_open_evicted_flows_total";
const MADE: &str = "fairlead_backend_opened_flows_total";
/// The least that there may be.
const ROOM: u32 = 1024;
const FLOOD: Duration = Duration::from_secs(3);
const PER_SECOND: u32 = 10_000;
/// Two passes over the maps, and the status after them.
const SETTLED: Duration = Duration::from_secs(4);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn half_open_flows_that_a_flood_evicts_are_counted() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let mut controller = Controller::new(&lab.lbs[0], &plain::binary()?, lab.directory());
    let yaml = plain::config(&lab, &plain::backends(&lab), controller.socket());
    let limits = format!("limits: {{ flows: {ROOM}, half_open: {ROOM} }}\n");
    controller.write_config(&(yaml + &limits))?;
    controller.start()?;
    for host in &lab.backends {
        controller.wait_backend(&host.name, "up", PATIENCE)?;
    }
    std::thread::sleep(SETTLED);

    // Whoever is answered at once is confirmed before anybody needs its place.
    let load = Load {
        target: plain::target(&lab),
        talk: Talk::Plain { server_closes_first: false },
        pace: Pace::Open { per_second: 300 },
        watches: 0,
    };
    let running = load.start(&lab.client.netns.handle())?;
    std::thread::sleep(SETTLED);
    let report = running.stop()?.report(&(Duration::ZERO..Duration::MAX));
    std::thread::sleep(SETTLED);
    let calm = Scrape::of(&controller)?;
    measured(&format!("{} connections: {} evicted", report.sent, calm.sum(EVICTED, &[])));
    ensure!(report.answered > 500, "{} answered", report.answered);
    ensure!(calm.sum(EVICTED, &[]) == 0.0, "{}", calm.sum(EVICTED, &[]));

    let flood = Flood {
        kind: Kind::Syn,
        per_second: PER_SECOND,
        target: plain::target(&lab),
        target_mac: parse_mac(&mac_of(&lab.lbs[0].host.netns)?)?,
    };
    let running = flood.start(&lab.fabric.handle(), &lab.lbs[0].host.name)?;
    std::thread::sleep(FLOOD);
    let sent = running.stop()?;
    wait_sum(&controller, EVICTED, &[], |evicted| evicted > 0.0)?;
    std::thread::sleep(SETTLED);
    let after = Scrape::of(&controller)?;
    let made = after.sum(MADE, &[]) - calm.sum(MADE, &[]);
    let (evicted, kept) = (after.sum(EVICTED, &[]), after.sum("fairlead_flows", &["half_open"]));
    measured(&format!(
        "{} SYNs: {made} flows, {kept} of them there, {evicted} evicted",
        sent.frames
    ));
    ensure!(made > 4.0 * f64::from(ROOM), "too few for a table of {ROOM}: {made}");
    ensure!(kept >= f64::from(ROOM), "{kept} are there, of {ROOM} that have room");
    // Of a few the original half went when their reply half had gone before it and nobody had seen the flow since.
    ensure!(
        (made - kept - evicted).abs() <= 0.01 * made,
        "{made} made, {kept} there, {evicted} evicted"
    );
    Ok(())
}
