//! What an outage costs: connections that fail, and how long nobody is answered. Two nodes that hold a VIP by
//! VRRP: Fairlead's, and HAProxy with keepalived.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_tests::command::Process;
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::keepalived::{self, Keepalived};
use lb_tests::load::{Load, Pace, Running, Talk};
use lb_tests::server_thread::ServerThread;
use lb_tests::steady::Steady;
use lb_tests::topology::{API_PORT, Plan, Topology};
use serde::Serialize;

use super::lab::fairlead::{self, Settings};
use super::lab::haproxy::Haproxy;
use super::lab::{self, Fabric, Service};
use super::peer::Peer;
use super::progress::Progress;

/// New connections each second.
const RATE: u32 = 500;
/// Connections that stay open, and speak all the time.
const STEADY: usize = 50;
const ECHO_PORT: u16 = 7000;
/// Both protocols' default.
const ADVERTISEMENT: Duration = Duration::from_secs(1);
/// Of the node that has the VIP at first, and of the other.
const PRIORITIES: [u8; 2] = [200, 100];
const PATIENCE: Duration = Duration::from_secs(15);
/// A connection that had no answer for so long at the end is lost.
const SILENT: Duration = Duration::from_secs(1);
/// What a node that is gone costs is over by then: who missed the take-over by a moment sends again 6.2 s after the
/// loss, since TCP doubles its pauses (0.2, 0.4, 0.8, 1.6 and 3.2 s).
const LOSS: Duration = Duration::from_secs(8);

/// What happens, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    BackendKilled,
    ControllerRestarted,
    NodeLost,
}

impl Event {
    const fn label(self) -> &'static str {
        match self {
            Self::BackendKilled => "a backend is killed",
            Self::ControllerRestarted => "the balancer is restarted in order",
            Self::NodeLost => "the node with the VIP is cut off",
        }
    }
}

/// What an event cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Outage {
    pub(crate) name: &'static str,
    pub(crate) event: &'static str,
    /// New connections that were tried, and those that failed.
    pub(crate) connections: usize,
    pub(crate) failed: usize,
    /// The longest time without any answer.
    pub(crate) longest_gap_ms: f64,
    pub(crate) slowest_connect_ms: f64,
    /// Connections that were open, and those that broke or had no answer in the last second.
    pub(crate) open: usize,
    pub(crate) lost: usize,
}

/// Two nodes of a kind.
enum Nodes<'lab> {
    Fairlead(Vec<Controller<'lab>>),
    Haproxy { proxies: Vec<Haproxy>, services: Vec<Service>, _keepers: Vec<Keepalived> },
}

/// Both kinds, one after the other, each event watched for so long.
pub(super) fn run(binary: &Path, watch: Duration, progress: &Progress) -> Result<Vec<Outage>> {
    let mut outages = Vec::new();
    for peer in [Peer::Haproxy, Peer::FairleadNat] {
        progress.part(&format!("fail-over: {}", peer.label()))?;
        let lab = Topology::build(&Plan { lb_nodes: 2, ..Fabric::Bare.plan(peer) })?;
        let found = Play::start(peer, &lab, binary).and_then(|play| play.run(watch, progress));
        outages.extend(found.with_context(|| format!("fail-over of {}", peer.label()))?);
    }
    Ok(outages)
}

/// Nodes, servers and load.
struct Play<'lab> {
    peer: Peer,
    lab: &'lab Topology,
    nodes: Nodes<'lab>,
    web: Vec<Process>,
    _echo: Vec<ServerThread>,
}

impl<'lab> Play<'lab> {
    fn start(peer: Peer, lab: &'lab Topology, binary: &Path) -> Result<Self> {
        let web: Vec<Process> =
            lab.backends.iter().map(|host| lab::start_web(lab, host)).collect::<Result<_>>()?;
        let echo = lab.backends.iter().map(|host| {
            echo::start(&host.netns, &host.name, SocketAddr::from((host.address, ECHO_PORT)))
        });
        let echo = echo.collect::<Result<_>>()?;
        let nodes = if peer.is_fairlead() { fairleads(lab, binary)? } else { haproxies(lab)? };
        let play = Self { peer, lab, nodes, web, _echo: echo };
        play.wait_balanced()?;
        Ok(play)
    }

    fn run(mut self, watch: Duration, progress: &Progress) -> Result<Vec<Outage>> {
        let mut outages = Vec::new();
        for event in [Event::BackendKilled, Event::ControllerRestarted, Event::NodeLost] {
            progress.step(&format!("fail-over: {}: {}", self.peer.label(), event.label()))?;
            self.wait_balanced()?;
            let netns = self.lab.client.netns.handle();
            let vip = self.lab.vip();
            let steady = Steady::start(&netns, (vip, ECHO_PORT).into(), STEADY)?;
            let load = Load {
                target: (vip, API_PORT).into(),
                talk: Talk::Http,
                pace: Pace::Open { per_second: RATE },
                watches: 0,
            };
            let running = load.start(&netns)?;
            // The load is under way before anything happens.
            sleep(Duration::from_millis(500));
            self.play(event)?;
            sleep(if event == Event::NodeLost { watch.max(LOSS) } else { watch });
            outages.push(self.outage(event, running, &steady)?);
        }
        Ok(outages)
    }

    fn play(&mut self, event: Event) -> Result<()> {
        match (event, &mut self.nodes) {
            (Event::BackendKilled, _) => self.web.first_mut().context("no web server runs")?.kill(),
            (Event::ControllerRestarted, Nodes::Fairlead(controllers)) => {
                let first = controllers.first_mut().context("no controller runs")?;
                first.stop(true)?;
                first.start()
            }
            (Event::ControllerRestarted, Nodes::Haproxy { proxies, services, .. }) => {
                proxies.first_mut().context("no HAProxy runs")?.reload(services)
            }
            (Event::NodeLost, _) => self.lab.fabric.ip("link set lb1 down").map(drop),
        }
    }

    fn outage(&self, event: Event, running: Running, steady: &Steady) -> Result<Outage> {
        let lost = STEADY - steady.state().speaking(SILENT).min(STEADY);
        let report = running.stop()?.report(&(Duration::ZERO..Duration::MAX));
        let millis = |span: Duration| span.as_secs_f64() * 1e3;
        Ok(Outage {
            name: self.peer.name(),
            event: event.label(),
            connections: report.sent,
            failed: report.failed_total(),
            longest_gap_ms: millis(report.longest_gap),
            slowest_connect_ms: millis(report.connect_max),
            open: STEADY,
            lost,
        })
    }

    /// Ten connections in a row are answered.
    fn wait_balanced(&self) -> Result<()> {
        let load = Load {
            target: (self.lab.vip(), API_PORT).into(),
            talk: Talk::Http,
            pace: Pace::Closed { connections: 10, workers: 1 },
            watches: 0,
        };
        eventually("answers through the VIP", PATIENCE, || {
            let recorder = load.start(&self.lab.client.netns.handle())?.wait()?;
            let report = recorder.report(&(Duration::ZERO..Duration::MAX));
            let is_good = report.answered == report.sent;
            Ok(if is_good { Seen::Done(()) } else { Seen::Pending(format!("{report:?}")) })
        })
    }
}

/// The web service, and one whose connections stay.
fn services(lab: &Topology) -> Vec<Service> {
    let vip = lab.vip().into();
    let to = |port| {
        let each = lab.backends.iter();
        each.map(|host| (host.name.clone(), (host.address, port).into())).collect()
    };
    vec![
        Service { name: "api".to_owned(), vip, port: API_PORT, backends: to(API_PORT) },
        Service { name: "echo".to_owned(), vip, port: ECHO_PORT, backends: to(ECHO_PORT) },
    ]
}

fn fairleads<'lab>(lab: &'lab Topology, binary: &Path) -> Result<Nodes<'lab>> {
    let services = services(lab);
    let mut controllers = Vec::new();
    for (node, priority) in lab.lbs.iter().zip(PRIORITIES) {
        let mut controller = Controller::new(node, binary, lab.directory());
        let more = format!(
            "vrrp:\n  - {{ name: api, interface: eth0, vrid: 77, priority: {priority}, \
             advert_interval: {}s, vips: [{}] }}\n",
            ADVERTISEMENT.as_secs(),
            lab.vip()
        );
        let socket = controller.socket().to_owned();
        let settings = Settings { mode: "nat", services: &services, socket: &socket, more: &more };
        controller.write_config(&fairlead::text(&settings)?)?;
        controller.start()?;
        controllers.push(controller);
    }
    for controller in &controllers {
        for host in &lab.backends {
            controller.wait_backend(&host.name, "up", PATIENCE)?;
        }
    }
    wait_vip(lab)?;
    Ok(Nodes::Fairlead(controllers))
}

fn haproxies(lab: &Topology) -> Result<Nodes<'_>> {
    let services = services(lab);
    let (mut proxies, mut keepers) = (Vec::new(), Vec::new());
    for (node, priority) in lab.lbs.iter().zip(PRIORITIES) {
        let netns = &node.host.netns;
        // Listening on a VIP that the other node has.
        netns.sysctl("ipv4/ip_nonlocal_bind", "1")?;
        proxies.push(Haproxy::start(netns, lab.directory(), &services)?);
        let vips: [IpAddr; 1] = [lab.vip().into()];
        let interval = ADVERTISEMENT.as_secs_f64();
        let settings = keepalived::Settings::new(priority, interval, &vips);
        keepers.push(Keepalived::start(netns, lab.directory(), &settings)?);
    }
    wait_vip(lab)?;
    Ok(Nodes::Haproxy { proxies, services, _keepers: keepers })
}

/// The first node has the VIP.
fn wait_vip(lab: &Topology) -> Result<()> {
    let node = lab.lbs.first().context("a lab without an LB node")?;
    let wanted = format!(" {}/", lab.vip());
    eventually("the VIP on the first node", PATIENCE, || {
        let said = node.host.netns.ip("-o addr show dev eth0")?;
        Ok(if said.contains(&wanted) { Seen::Done(()) } else { Seen::Pending(said) })
    })
}
