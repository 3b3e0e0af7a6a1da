//! A backend on the LB node itself, behind the node's own kernel TCP.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::plain::{self, EchoClient};
use lb_tests::server_thread::ServerThread;
use lb_tests::steady::Steady;
use lb_tests::topology::{API_PORT, LbNode, Plan, Topology};
use lb_tests::transfer::{MIB, TransferServer, Way, transfer};
use rstest::rstest;

use crate::scene::{PATIENCE, Traces, binary, run_on};

mod beside;
mod handover;

/// Not the service's port.
const OTHER_PORT: u16 = 7443;
const CONNECTIONS: u64 = 500;
/// As the kernel has it: fifteen bytes.
const OURS: &str = "fairlead_egress";

/// Where the server on the node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Wildcard,
    Address,
}

/// A client, and an LB node that is to be its own backend.
struct Here {
    lab: Topology,
}

impl Here {
    fn build() -> Result<Self> {
        let lab = Topology::build(&Plan { backends: 0, ..Plan::default() })?;
        // As strict as it gets: what is taken for forged is dropped.
        for sysctl in ["conf/all/rp_filter", "conf/eth0/rp_filter"] {
            lab.lbs[0].host.netns.sysctl(&format!("ipv4/{sysctl}"), "1")?;
        }
        Ok(Self { lab })
    }

    fn node(&self) -> &LbNode {
        &self.lab.lbs[0]
    }

    fn yaml(&self, family: Family, port: u16, socket: &Path) -> String {
        let address = self.node().host.address_of(family);
        let yaml = plain::config(&self.lab, &[("own", address)], socket);
        let (alone, with_port) =
            (format!("address: {address} }}"), format!("address: {address}, port: {port} }}"));
        yaml.replace(&alone, &with_port).replace("interval: 1s", "interval: 200ms")
    }

    fn controller(&self, family: Family, port: u16) -> Result<Controller<'_>> {
        let controller = Controller::new(self.node(), &binary(), self.lab.directory());
        controller.write_config(&self.yaml(family, port, controller.socket()))?;
        Ok(controller)
    }

    /// A controller that uses the server on `port`.
    fn balanced(&self, family: Family, port: u16) -> Result<Controller<'_>> {
        let mut controller = self.controller(family, port)?;
        controller.start()?;
        controller.wait_backend("own", "up", PATIENCE)?;
        Ok(controller)
    }

    fn listens(&self, at: At, family: Family, port: u16) -> SocketAddr {
        match at {
            // Of both families, as an apiserver does.
            At::Wildcard => SocketAddr::from((V6.unspecified(), port)),
            At::Address => SocketAddr::from((self.node().host.address_of(family), port)),
        }
    }

    fn server(&self, at: At, family: Family, port: u16) -> Result<ServerThread> {
        echo::start(&self.node().host.netns, "own", self.listens(at, family, port))
    }

    fn target(&self, family: Family) -> SocketAddr {
        plain::target_of(&self.lab, family)
    }

    /// A connection of the client, which talks over it.
    fn connect(&self, to: SocketAddr) -> Result<EchoClient> {
        self.lab.client.netns.on_thread(|| {
            let mut client = EchoClient::connect(to, None)?;
            client.exchange("question")?;
            Ok(client)
        })
    }

    /// Short connections, none of which may fail.
    fn many(&self, family: Family, server_closes_first: bool) -> Result<()> {
        let load = Load {
            target: self.target(family),
            talk: Talk::Plain { server_closes_first },
            pace: Pace::Closed { connections: CONNECTIONS, workers: 16 },
            watches: 0,
        };
        let recorder = load.start(&self.lab.client.netns.handle())?.wait()?;
        let report = recorder.report(&(Duration::ZERO..Duration::MAX));
        ensure!(report.answered as u64 == CONNECTIONS, "{report:?}");
        Ok(())
    }
}

/// Packets that the kernel took for forged, and what would let them through.
fn strictness(node: &LbNode) -> Result<[String; 2]> {
    let netns = &node.host.netns;
    let filtered = netns.run("nstat", ["-asz", "TcpExtIPReversePathFilter", "IpInAddrErrors"])?;
    let sysctls = ["all", "eth0", "default"].map(|which| {
        ["rp_filter", "accept_local", "route_localnet", "forwarding"]
            .map(|name| format!("net.ipv4.conf.{which}.{name}"))
    });
    let sysctls = sysctls.concat();
    let words: Vec<&str> = sysctls.iter().map(String::as_str).collect();
    Ok([filtered, netns.run("sysctl", words)?])
}

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn remote_clients_are_served_and_seen(
    #[values(V4, V6)] family: Family,
    #[values(At::Wildcard, At::Address)] at: At,
    #[values(API_PORT, OTHER_PORT)] port: u16,
) -> Result<()> {
    let here = Here::build()?;
    let _server = here.server(at, family, port)?;
    let before = strictness(here.node())?;
    let controller = here.balanced(family, port)?;
    let mut client = here.connect(here.target(family))?;
    ensure!(client.server == "own");
    // By a socket of both families, IPv4 clients are seen at addresses of IPv6.
    let seen = client.seen_as()?.ip().to_canonical();
    ensure!(seen == here.lab.client.address_of(family), "seen as {seen}");
    client.close()?;
    here.connect(here.target(family))?.bye()?;
    for server_closes_first in [false, true] {
        here.many(family, server_closes_first)?;
    }
    // The node's own address is as it was.
    let direct = SocketAddr::from((here.node().host.address_of(family), port));
    here.connect(direct)?.close()?;
    assert_eq!(strictness(here.node())?, before);

    for counter in ["forward_local_request", "forward_local_reply"] {
        plain::wait_counter(&controller, counter, |packets| *packets > 3 * CONNECTIONS)?;
    }
    let status = controller.status()?;
    let backend = &status["services"][0]["backends"][0];
    ensure!(backend["local"] == true && backend["replies"]["packets"] != 0, "{backend}");
    Ok(())
}

/// With offloads, what leaves is to be cut into segments and has no checksum yet; without, it is whole.
#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn data_arrives_intact_both_ways(
    #[values(V4, V6)] family: Family,
    #[values("on", "off")] offloads: &str,
) -> Result<()> {
    const LENGTH: u64 = 32 * MIB;
    let here = Here::build()?;
    let words = ["-K", "eth0", "tx", offloads, "tso", offloads, "gso", offloads];
    here.node().host.netns.run("ethtool", words)?;
    let listens = here.listens(At::Address, family, API_PORT);
    let _server = TransferServer::start(&here.node().host.netns, listens)?;
    let _controller = here.balanced(family, API_PORT)?;
    for way in [Way::Download, Way::Upload] {
        let target = here.target(family);
        let hashes = here.lab.client.netns.on_thread(|| transfer(target, way, LENGTH))?;
        assert_eq!(hashes.sent, hashes.received, "{way:?}");
    }
    Ok(())
}

/// `kubeadm init --control-plane-endpoint VIP:6443`: what waits for the first apiserver is told at once that
/// there is none, and finds it as soon as it answers.
#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn a_cold_start_refuses_at_once_and_serves_the_first_that_answers(
    #[values(V4, V6)] family: Family,
) -> Result<()> {
    const AT_ONCE: Duration = Duration::from_millis(500);
    const SOON: Duration = Duration::from_secs(3);
    let here = Here::build()?;
    let mut controller = here.controller(family, API_PORT)?;
    controller.start()?;
    let target = here.target(family);
    for _ in 0..5 {
        let refused = here.lab.client.netns.on_thread(|| {
            let tried = TcpStream::connect_timeout(&target, AT_ONCE);
            Ok(tried.map(drop).map_err(|error| error.kind()))
        })?;
        ensure!(refused == Err(ErrorKind::ConnectionRefused), "{refused:?}");
    }
    let _server = here.server(At::Wildcard, family, API_PORT)?;
    eventually("the first answer", SOON, || match here.connect(target) {
        Ok(client) => Ok(Seen::Done(client.close()?)),
        Err(error) => Ok(Seen::Pending(format!("{error:#}"))),
    })
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_outlive_controllers_and_a_stop_leaves_nothing() -> Result<()> {
    let here = Here::build()?;
    // The kernel's neighbour entry of the client is its own. Nobody listens there.
    let nobody = SocketAddr::from((here.lab.client.address, 1));
    here.node().host.netns.on_thread(|| {
        drop(TcpStream::connect_timeout(&nobody, Duration::from_secs(1)));
        Ok(())
    })?;
    let before = Traces::of(here.node())?;
    let _server = here.server(At::Wildcard, V4, API_PORT)?;
    let mut controller = here.balanced(V4, API_PORT)?;
    let netns = here.lab.client.netns.handle();
    let steady = Steady::start(&netns, here.target(V4), 20)?;
    for _ in 0..3 {
        ensure!(controller.stop(true)?.success());
        steady.ensure_unbroken()?;
        here.many(V4, false)?;
        controller.start()?;
        here.many(V4, false)?;
        controller.kill9()?;
        here.many(V4, false)?;
        controller.start()?;
    }
    steady.ensure_unbroken()?;
    let finished = steady.finish()?;
    ensure!(finished.exchanges > 20, "{finished:?}");
    ensure!(tcx(here.node())? == [OURS], "{:?}", tcx(here.node())?);

    controller.sigterm()?;
    ensure!(controller.wait_exit(PATIENCE)?.success());
    ensure!(tcx(here.node())?.is_empty());
    assert_eq!(Traces::of(here.node())?, before);

    // Likewise what a killed one leaves.
    controller.start()?;
    controller.wait_backend("own", "up", PATIENCE)?;
    controller.kill9()?;
    let said = lb_tests::command::run(&mut run_on(
        here.node(),
        &[&binary().display().to_string(), "cleanup"],
    ))?;
    ensure!(said.contains("removed tcx program on eth0"), "{said}");
    ensure!(tcx(here.node())?.is_empty());
    assert_eq!(Traces::of(here.node())?, before);
    Ok(())
}

/// The programs of the node's egress, in the order in which they run.
fn tcx(node: &LbNode) -> Result<Vec<String>> {
    node.host.netns.on_thread(|| {
        let (_, programs) = SchedClassifier::query_tcx("eth0", TcAttachType::Egress)?;
        let names = programs.iter().map(|it| it.name_as_str().unwrap_or_default().to_owned());
        Ok(names.collect())
    })
}
