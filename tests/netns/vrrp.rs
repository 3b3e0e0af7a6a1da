//! VRRP against a real keepalived: who holds the VIP, and how soon.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family;
use lb_tests::keepalived::{self, Keepalived};
use lb_tests::link::mac_of;
use lb_tests::server_thread::ServerThread;
use lb_tests::standstill;
use lb_tests::topology::{API_PORT, Host, LbNode, Plan, Topology};
use lb_tests::wire::{Said, Wire};

use super::scene::{PATIENCE, binary};

mod accept;
mod claim;
mod clients;
mod counted;
mod drain;
mod election;
mod failure;
mod flapping;
mod forms;
mod groups;
mod handover;
mod header;
mod hooks;
mod hostile;
mod ipv6;
mod lease;
mod life;
mod many;
mod membership;
mod neighbours;
mod pressure;
mod reboot;
mod reload;
mod side_by_side;
mod tracking;

/// Of most tests: a failover is short, and a busy machine not too busy for it.
const INTERVAL: Duration = Duration::from_millis(100);
/// Keepalived has no real-time priority here: on a busy machine it wakes late.
const KEEPALIVED_LATE: Duration = Duration::from_millis(150);
/// Before something is looked at that has happened.
const LATELY: Duration = Duration::from_secs(3);

/// LB nodes: ours, and one for a keepalived.
struct Pair {
    wire: Wire,
    lab: Topology,
    _servers: Vec<ServerThread>,
}

/// What our instance is configured as.
#[derive(Clone, Debug)]
struct Ours {
    priority: u8,
    interval: Duration,
    vips: Vec<IpAddr>,
    /// Of a second instance, if any.
    vips6: Vec<IpAddr>,
    /// Further lines of each instance.
    more: &'static str,
}

impl Pair {
    fn build() -> Result<Self> {
        Self::build_with(2, 1)
    }

    fn build_with(lb_nodes: usize, backends: usize) -> Result<Self> {
        // Those that are side by side are made one after the other.
        static BUILDING: Mutex<()> = Mutex::new(());
        let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        standstill::watch()?;
        let lab = Topology::build(&Plan { lb_nodes, backends, ..Plan::default() })?;
        let server = |host: &Host| {
            let listens: Vec<SocketAddr> = host.listens(API_PORT);
            echo::start(&host.netns, &host.name, &listens[..])
        };
        let servers = lab.backends.iter().map(server).collect::<Result<_>>()?;
        let wire = Wire::listen(&lab.fabric, "br-front")?;
        Ok(Self { wire, lab, _servers: servers })
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
        let vips = vec![self.vip()];
        Ours { priority, interval: INTERVAL, vips, vips6: Vec::new(), more: "" }
    }

    fn yaml(&self, controller: &Controller<'_>, ours: &Ours) -> String {
        let families: &[Family] = if ours.vips6.is_empty() { &[Family::V4] } else { &Family::ALL };
        let of = |host: &Host, family: Family| {
            let (name, address) = (&host.name, host.address_of(family));
            format!("{{ name: {name}{}, address: \"{address}\" }}", family.pick("", "-v6"))
        };
        let hosts = self.lab.backends.iter();
        let backends: Vec<String> =
            hosts.flat_map(|host| families.iter().map(move |family| of(host, *family))).collect();
        let vips: Vec<IpAddr> = families.iter().map(|family| self.lab.vip_of(*family)).collect();
        let second =
            if ours.vips6.is_empty() { String::new() } else { instance("api6", ours, &ours.vips6) };
        format!(
            "version: 1
interfaces: [eth0]
limits: {{ flows: 16384, half_open: 8192 }}
services:
  - name: api
    vips: [{vips}]
    port: {API_PORT}
    backends: [{backends}]
    health: {{ type: tcp, interval: 500ms, timeout: 1s }}
vrrp:
{first}{second}admin:
  socket: {socket}
",
            vips = list(&vips),
            backends = backends.join(", "),
            first = instance("api", ours, &ours.vips),
            socket = controller.socket().display(),
        )
    }

    /// With a second instance, of the other family.
    fn dual_stack(&self, more: &'static str) -> Ours {
        Ours { vips6: self.vips6(), more, ..self.settings(200) }
    }

    fn vip6(&self) -> IpAddr {
        self.lab.vip_of(Family::V6)
    }

    /// Our controller, which does not run.
    fn controller(&self, ours: &Ours) -> Result<Controller<'_>> {
        self.controller_on(self.node(), ours)
    }

    fn controller_on<'lab>(
        &'lab self,
        node: &'lab LbNode,
        ours: &Ours,
    ) -> Result<Controller<'lab>> {
        let controller = Controller::new(node, &binary(), self.lab.directory());
        controller.write_config(&self.yaml(&controller, ours))?;
        Ok(controller)
    }

    /// One that runs.
    fn start(&self, ours: &Ours) -> Result<Controller<'_>> {
        let mut controller = self.controller(ours)?;
        controller.start()?;
        Ok(controller)
    }

    fn start_on<'lab>(&'lab self, node: &'lab LbNode, ours: &Ours) -> Result<Controller<'lab>> {
        let mut controller = self.controller_on(node, ours)?;
        controller.start()?;
        Ok(controller)
    }

    /// The other's settings, of the same interval and VIP.
    fn theirs_with(&self, priority: u8) -> keepalived::Settings {
        keepalived::Settings::new(priority, INTERVAL.as_secs_f64(), &[self.vip()])
    }

    /// IPv6's: the link-local one that each advertisement begins with, and the one that clients use.
    fn vips6(&self) -> Vec<IpAddr> {
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x77, 0x100);
        vec![link_local.into(), self.lab.vip_of(Family::V6)]
    }

    /// A keepalived with both families, once it holds the VIPs.
    fn dual_keepalived(&self, priority: u8) -> Result<Keepalived> {
        let first = self.theirs_with(priority);
        let second = keepalived::Settings { vips: self.vips6(), ..first.clone() };
        let (netns, directory) = (&self.other().host.netns, self.lab.directory());
        let keepalived = Keepalived::start_group(netns, directory, &[first, second])?;
        for family in Family::ALL {
            self.wait_vip(self.other(), self.lab.vip_of(family), true)?;
        }
        Ok(keepalived)
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
        mac_of(&node.host.netns, "eth0")
    }

    /// What clients connect to.
    fn target(&self) -> SocketAddr {
        SocketAddr::from((self.lab.vip(), API_PORT))
    }
}

/// An instance as the configuration has it; with a second one both are in a sync group.
fn instance(name: &str, ours: &Ours, vips: &[IpAddr]) -> String {
    let Ours { priority, interval, more, .. } = ours;
    let group = if ours.vips6.is_empty() { "" } else { "    sync_group: edge\n" };
    format!(
        "  - name: {name}
    interface: eth0
    vrid: 77
    priority: {priority}
    advert_interval: {interval}ms
    vips: [{vips}]
{group}{more}
",
        interval = interval.as_millis(),
        vips = list(vips),
    )
}

fn list(addresses: &[IpAddr]) -> String {
    let shown: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    shown.join(", ")
}

/// Waits for the state of both instances of a sync group.
fn wait_both(controller: &Controller<'_>, state: &str) -> Result<()> {
    let states = || {
        let status = controller.status()?;
        Ok([0, 1].map(|index| status["vrrp"][index]["state"].to_string()))
    };
    let (what, wanted) = (format!("both to be {state}"), format!("\"{state}\""));
    eventually_is(&what, PATIENCE, states, |states| states.iter().all(|it| *it == wanted)).map(drop)
}

/// Runs what waits for most of its time side by side; each has a lab of its own.
fn together(jobs: &[(&str, &(dyn Fn() -> Result<()> + Sync))]) -> Result<()> {
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = jobs.iter().map(|(_, job)| scope.spawn(job)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let failed: Vec<String> = jobs
        .iter()
        .zip(outcomes)
        .filter_map(|((name, _), outcome)| Some(format!("{name}: {:#}", outcome.err()?)))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Whether a node has an address.
fn has(node: &LbNode, vip: IpAddr) -> Result<bool> {
    Ok(node.host.netns.ip("-o addr show dev eth0")?.contains(&format!(" {vip}/")))
}

/// A node's link-local address, which is no VIP.
fn link_local(node: &LbNode) -> Result<IpAddr> {
    let said = node.host.netns.ip("-6 -o addr show dev eth0 scope link")?;
    let own = said.split_whitespace().find_map(|word| word.strip_suffix("/64"));
    Ok(own.context("no link-local address")?.parse()?)
}

/// It is as long as that, with so much more because the machine may be busy, and likewise if it stood still.
fn ensure_between(what: &str, seen: Duration, least: Duration, most: Duration) -> Result<()> {
    let stood = standstill::lately(seen + LATELY);
    let (least, most) = (least.saturating_sub(stood), most + stood);
    super::measured(&format!("{what}: {seen:?} ({least:?} to {most:?})"));
    ensure!(least <= seen && seen <= most, "{what}: {seen:?}, not {least:?} to {most:?}");
    Ok(())
}

/// How late the latest of these advertisements was, each of which is due an interval after the one before it. What is
/// late because the machine was is not late.
fn latest(adverts: &[(Duration, u8)]) -> Duration {
    let late = |two: &[(Duration, u8)]| {
        let gap = two[0].0..two[1].0;
        (gap.end - gap.start).saturating_sub(INTERVAL).saturating_sub(standstill::during(&gap))
    };
    adverts.windows(2).map(late).max().unwrap_or_default()
}

/// Of a priority, with three intervals: RFC 9568 6.1.
fn down_interval(priority: u8, interval: Duration) -> Duration {
    interval * 3 + skew(priority, interval)
}

fn skew(priority: u8, interval: Duration) -> Duration {
    interval * (256 - u32::from(priority)) / 256
}
