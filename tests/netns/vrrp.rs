//! VRRP against a real keepalived: who holds the VIP, and how soon.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::eventually_is;
use lb_tests::keepalived::{self, Keepalived};
use lb_tests::server_thread::ServerThread;
use lb_tests::topology::{API_PORT, LbNode, Plan, Topology};
use lb_tests::wire::{Said, Wire};

use super::scene::{PATIENCE, binary};

mod drain;
mod election;
mod failure;
mod forms;
mod reload;

/// Of most tests: a failover is short, and a busy machine not too busy for it.
const INTERVAL: Duration = Duration::from_millis(100);

/// Two LB nodes: ours, and one for a keepalived.
struct Pair {
    wire: Wire,
    lab: Topology,
    _server: ServerThread,
}

/// What our instance is configured as.
#[derive(Clone, Debug)]
struct Ours {
    priority: u8,
    interval: Duration,
    vips: Vec<IpAddr>,
    /// Further lines of the instance.
    more: &'static str,
}

impl Pair {
    fn build() -> Result<Self> {
        let lab = Topology::build(&Plan { lb_nodes: 2, backends: 1, ..Plan::default() })?;
        let host = &lab.backends[0];
        let server = echo::start(&host.netns, &host.name, &host.listens(API_PORT)[..])?;
        let wire = Wire::listen(&lab.fabric, "br-front")?;
        Ok(Self { wire, lab, _server: server })
    }

    fn node(&self) -> &LbNode {
        &self.lab.lbs[0]
    }

    fn other(&self) -> &LbNode {
        &self.lab.lbs[1]
    }

    /// Where our advertisements come from.
    fn ours(&self) -> IpAddr {
        self.node().host.address.into()
    }

    /// And keepalived's.
    fn theirs(&self) -> IpAddr {
        self.other().host.address.into()
    }

    fn vip(&self) -> IpAddr {
        self.lab.vip().into()
    }

    fn settings(&self, priority: u8) -> Ours {
        Ours { priority, interval: INTERVAL, vips: vec![self.vip()], more: "" }
    }

    fn yaml(&self, controller: &Controller<'_>, ours: &Ours) -> String {
        let Ours { priority, interval, vips, more } = ours;
        let backend = self.lab.backends[0].address;
        let vips: Vec<String> = vips.iter().map(ToString::to_string).collect();
        format!(
            "version: 1
interfaces: [eth0]
limits: {{ flows: 16384, half_open: 8192 }}
services:
  - name: api
    vips: [{vip}]
    port: {API_PORT}
    backends: [{{ name: cp1, address: {backend} }}]
    health: {{ type: tcp, interval: 500ms, timeout: 1s }}
vrrp:
  - name: api
    interface: eth0
    vrid: 77
    priority: {priority}
    advert_interval: {interval}ms
    vips: [{vips}]
{more}
admin:
  socket: {socket}
",
            vip = self.vip(),
            vips = vips.join(", "),
            interval = interval.as_millis(),
            socket = controller.socket().display(),
        )
    }

    /// Our controller, which does not run.
    fn controller(&self, ours: &Ours) -> Result<Controller<'_>> {
        let controller = Controller::new(self.node(), &binary(), self.lab.directory());
        controller.write_config(&self.yaml(&controller, ours))?;
        Ok(controller)
    }

    /// One that runs.
    fn start(&self, ours: &Ours) -> Result<Controller<'_>> {
        let mut controller = self.controller(ours)?;
        controller.start()?;
        Ok(controller)
    }

    /// The other's settings, of the same interval and VIP.
    fn theirs_with(&self, priority: u8) -> keepalived::Settings {
        keepalived::Settings::new(priority, INTERVAL.as_secs_f64(), &[self.vip()])
    }

    fn keepalived(&self, settings: &keepalived::Settings) -> Result<Keepalived> {
        Keepalived::start(&self.other().host.netns, self.lab.directory(), settings)
    }

    /// Keepalived, once it is Active.
    fn active_keepalived(&self, priority: u8) -> Result<Keepalived> {
        let mark = self.wire.mark();
        let keepalived = self.keepalived(&self.theirs_with(priority))?;
        let theirs = self.theirs();
        self.wire.wait("keepalived", mark, PATIENCE, |said| said.priority_of(theirs).is_some())?;
        Ok(keepalived)
    }

    /// Waits for our next advertisement after `mark`.
    fn advertised(&self, mark: usize) -> Result<Said> {
        let ours = self.ours();
        self.wire.wait("our advertisement", mark, PATIENCE, |said| said.priority_of(ours).is_some())
    }

    /// Waits for our instance's state.
    fn wait_state(&self, controller: &Controller<'_>, state: &str) -> Result<()> {
        let seen = || Ok(controller.status()?["vrrp"][0]["state"].clone());
        eventually_is(&format!("to be {state}"), PATIENCE, seen, |seen| *seen == *state).map(drop)
    }

    /// Waits until our instance has heard keepalived.
    fn wait_peer(&self, controller: &Controller<'_>) -> Result<()> {
        let seen = || Ok(controller.status()?["vrrp"][0]["peers"].to_string());
        let theirs = self.theirs();
        let known = |seen: &String| seen.contains(&theirs.to_string());
        eventually_is("to hear keepalived", PATIENCE, seen, known)?;
        // What it heard before it took part does not count.
        let (mark, wanted) = (self.wire.mark(), |said: &Said| said.priority_of(theirs).is_some());
        self.wire.wait("keepalived", mark, PATIENCE, wanted).map(drop)
    }

    /// Waits until a node has the VIP, or has not.
    fn wait_vip(&self, node: &LbNode, vip: IpAddr, there: bool) -> Result<()> {
        let what = format!("{vip} on {}: {there}", node.host.name);
        eventually_is(&what, PATIENCE, || has(node, vip), |has| *has == there).map(drop)
    }

    /// A node's own MAC.
    fn mac(&self, node: &LbNode) -> Result<[u8; 6]> {
        let said = node.host.netns.ip("-o link show eth0")?;
        let text = said.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        let bytes = text.context("no MAC")?.split(':').map(|byte| u8::from_str_radix(byte, 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
        <[u8; 6]>::try_from(bytes.as_slice()).context("a MAC of another length")
    }

    /// What clients connect to.
    fn target(&self) -> SocketAddr {
        SocketAddr::from((self.lab.vip(), API_PORT))
    }
}

/// Whether a node has an address.
fn has(node: &LbNode, vip: IpAddr) -> Result<bool> {
    Ok(node.host.netns.ip("-o addr show dev eth0")?.contains(&format!(" {vip}/")))
}

/// It is as long as that, with so much more because the machine may be busy.
fn ensure_between(what: &str, seen: Duration, least: Duration, most: Duration) -> Result<()> {
    super::measured(&format!("{what}: {seen:?} ({least:?} to {most:?})"));
    ensure!(least <= seen && seen <= most, "{what}: {seen:?}, not {least:?} to {most:?}");
    Ok(())
}

/// Of a priority, with three intervals: RFC 9568 6.1.
fn down_interval(priority: u8, interval: Duration) -> Duration {
    interval * 3 + skew(priority, interval)
}

fn skew(priority: u8, interval: Duration) -> Duration {
    interval * (256 - u32::from(priority)) / 256
}
