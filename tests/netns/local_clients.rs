//! Clients on an LB node itself reach the VIP wherever it is, and no connection of theirs outlives its
//! backend.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::cgroup::Cgroup;
use lb_tests::controller::Controller;
use lb_tests::echo::{self, WHO};
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family;
use lb_tests::server_thread::ServerThread;
use lb_tests::topology::{API_PORT, Host, LbNode, Plan, Topology};
use socket2::{Domain, Socket, Type};

use super::scene::{PATIENCE, binary, run_on};

mod cluster;
mod ends;
mod pods;
mod stays;

/// Connections of which each backend gets some: of three, one gets none of them in 10^17.
const MANY: usize = 100;
/// What a connection to somebody who is there takes at most.
const SOON: Duration = Duration::from_secs(2);

/// LB nodes whose processes are known by their cgroups, and echo servers behind them.
struct Nodes {
    lab: Topology,
    servers: BTreeMap<String, ServerThread>,
    cgroups: Vec<Cgroup>,
}

impl Nodes {
    fn build(lb_nodes: usize) -> Result<Self> {
        let lab = Topology::build(&Plan { lb_nodes, ..Plan::default() })?;
        let cgroups = lab.lbs.iter().map(|lb| Cgroup::unique(&lb.host.name));
        let cgroups = cgroups.collect::<Result<_>>()?;
        let mut nodes = Self { lab, servers: BTreeMap::new(), cgroups };
        for name in nodes.names() {
            nodes.serve(&name)?;
        }
        Ok(nodes)
    }

    fn names(&self) -> Vec<String> {
        self.lab.backends.iter().map(|host| host.name.clone()).collect()
    }

    /// Starts the server of a backend.
    fn serve(&mut self, name: &str) -> Result<()> {
        let host = self.lab.backend(name)?;
        let server = echo::start(&host.netns, name, &host.listens(API_PORT)[..])?;
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }

    fn node(&self, index: usize) -> &LbNode {
        &self.lab.lbs[index]
    }

    fn vip(&self, family: Family) -> SocketAddr {
        (self.lab.vip_of(family), API_PORT).into()
    }

    /// Of the node that holds the VIPs while it is there (0), or of one that does not.
    fn yaml(&self, index: usize, controller: &Controller<'_>, local_clients: &str) -> String {
        let of = |host: &Host, family: Family| {
            let (name, address) = (&host.name, host.address_of(family));
            format!("{{ name: {name}{}, address: \"{address}\" }}", family.pick("", "-v6"))
        };
        let hosts = self.lab.backends.iter();
        let backends: Vec<String> =
            hosts.flat_map(|host| Family::ALL.map(|family| of(host, family))).collect();
        let [v4, v6] = Family::ALL.map(|family| self.lab.vip_of(family));
        let priority = 200 - 100 * index;
        let instance = |name: &str, vips: &str| {
            format!(
                "  - {{ name: {name}, interface: eth0, vrid: 51, priority: {priority}, \
                 advert_interval: 100ms, vips: [{vips}] }}\n"
            )
        };
        format!(
            "version: 1
interfaces: [eth0]
limits: {{ flows: 16384, half_open: 8192 }}
services:
  - name: api
    vips: [{v4}, \"{v6}\"]
    port: {API_PORT}
    reset_delay: 500ms
    backends: [{backends}]
    health: {{ type: tcp, interval: 300ms, fast_interval: 100ms, timeout: 500ms }}
local_clients: {local_clients}
vrrp:
{first}{second}admin: {{ socket: {socket} }}
",
            backends = backends.join(", "),
            first = instance("v4", &v4.to_string()),
            second = instance("v6", &format!("\"fe80::77:100\", \"{v6}\"")),
            socket = controller.socket().display(),
        )
    }

    /// Its processes are those of its cgroup.
    fn own_processes(&self, index: usize) -> String {
        format!("{{ enabled: true, cgroup: {} }}", self.cgroups[index].shown().display())
    }

    fn start(&self, index: usize) -> Result<Controller<'_>> {
        self.start_with(index, &self.own_processes(index))
    }

    fn start_with(&self, index: usize, local_clients: &str) -> Result<Controller<'_>> {
        let mut controller = self.controller(index, local_clients)?;
        controller.start()?;
        self.wait_all_up(&controller)?;
        Ok(controller)
    }

    fn controller(&self, index: usize, local_clients: &str) -> Result<Controller<'_>> {
        let controller = Controller::new(self.node(index), &binary(), self.lab.directory());
        controller.write_config(&self.yaml(index, &controller, local_clients))?;
        Ok(controller)
    }

    fn wait_all_up(&self, controller: &Controller<'_>) -> Result<()> {
        let names = self.names().into_iter().flat_map(|name| [format!("{name}-v6"), name]);
        names.into_iter().try_for_each(|name| controller.wait_backend(&name, "up", PATIENCE))
    }

    /// Does `work` as a process of the node would.
    fn on<T: Send>(&self, index: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.node(index).host.netns.on_thread(|| {
            let _member = self.cgroups[index].enter()?;
            work()
        })
    }

    /// Who answers so many connections from the node, each of which believes to talk to the VIP.
    fn who_answers(&self, index: usize, family: Family, count: usize) -> Result<BTreeSet<String>> {
        let (vip, own) = (self.vip(family), self.node(index).host.address_of(family));
        self.on(index, || (0..count).map(|_| Client::connect(vip)?.ensure_seen_as(own)).collect())
    }
}

/// A connection to an echo server.
struct Client {
    stream: BufReader<TcpStream>,
    server: String,
}

impl Client {
    fn connect(vip: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&vip, SOON).context("connecting")?;
        ensure!(stream.peer_addr()? == vip, "it is connected to {}", stream.peer_addr()?);
        Self::greeted(stream)
    }

    fn greeted(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(SOON))?;
        let mut client = Self { stream: BufReader::new(stream), server: String::new() };
        client.server = client.line().context("reading the greeting")?;
        Ok(client)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        self.stream.get_mut().write_all(line.as_bytes())?;
        self.line()
    }

    /// The server sees the client under this address; its name.
    fn ensure_seen_as(mut self, own: IpAddr) -> Result<String> {
        let seen: SocketAddr = self.ask(WHO)?.parse()?;
        ensure!(seen.ip() == own, "{} sees {seen} instead of {own}", self.server);
        Ok(self.server)
    }

    /// How reading ends.
    fn wait_end(mut self, patience: Duration) -> Result<ErrorKind> {
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        let error = self.stream.read(&mut [0; 1]).expect_err("a server that says something");
        Ok(error.kind())
    }
}

fn local_clients(controller: &Controller<'_>) -> Result<serde_json::Value> {
    Ok(controller.status()?["local_clients"].clone())
}

/// Connections of local clients that each backend of the first service got.
fn counts(controller: &Controller<'_>) -> Result<Vec<u64>> {
    let status = controller.status()?;
    let backends = status["services"][0]["backends"].as_array().context("no backends")?;
    Ok(backends.iter().map(|it| it["local_connections"].as_u64().unwrap_or(0)).collect())
}

/// The programs of a cgroup, by the kernel's word.
fn hooks(cgroup: &Cgroup) -> Result<BTreeSet<String>> {
    let said = lb_tests::command::run(
        std::process::Command::new("bpftool").args(["cgroup", "list"]).arg(cgroup.path()),
    )?;
    Ok(said.lines().skip(1).map(str::to_owned).collect())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn clients_on_active_and_backup_reach_every_backend_and_believe_in_the_vip() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let (active, backup) = (nodes.start(0)?, nodes.start(1)?);
    let holds = |controller: &Controller<'_>| Ok(controller.status()?["vips"][0]["owner"].clone());
    eventually_is("the VIP on the first node", PATIENCE, || holds(&active), |it| *it == true)?;
    ensure!(holds(&backup)? == false);
    let all: BTreeSet<String> = nodes.names().into_iter().collect();
    for (index, controller) in [&active, &backup].into_iter().enumerate() {
        for family in Family::ALL {
            let answered = nodes.who_answers(index, family, MANY)?;
            ensure!(answered == all, "{index} {family:?}: only {answered:?}");
        }
        let all_are = |counts: &Vec<u64>| {
            counts.iter().sum::<u64>() == 2 * MANY as u64 && counts.iter().all(|it| *it > 0)
        };
        eventually_is("their counts", PATIENCE, || counts(controller), all_are)?;
        let status = controller.status()?;
        ensure!(status["local_clients"]["state"] == "on", "{status}");
        // XDP has seen none of them.
        ensure!(status["counters"]["forward_request"] == 0, "{status}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn an_ipv6_socket_reaches_an_ipv4_vip() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let _controller = nodes.start(1)?;
    let IpAddr::V4(vip) = nodes.vip(Family::V4).ip() else { unreachable!("an IPv4 VIP") };
    let mapped = SocketAddr::from((vip.to_ipv6_mapped(), API_PORT));
    nodes.on(1, || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(false)?;
        socket.connect_timeout(&mapped.into(), SOON)?;
        let stream = TcpStream::from(socket);
        ensure!(stream.peer_addr()? == mapped, "{}", stream.peer_addr()?);
        Client::greeted(stream)?.ensure_seen_as(nodes.node(1).host.address.into()).map(drop)
    })
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn other_destinations_and_other_processes_are_left_alone() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let controller = nodes.start(1)?;
    let backend = SocketAddr::from((nodes.lab.backends[0].address, API_PORT));
    let mut other_port = nodes.vip(Family::V4);
    other_port.set_port(API_PORT + 1);
    nodes.on(1, || {
        // Directly, so that it is called what it is.
        Client::connect(backend)?;
        // To a VIP that nobody has: no answer, and surely none of a backend.
        ensure!(TcpStream::connect_timeout(&other_port, Duration::from_millis(300)).is_err());
        Ok(())
    })?;
    // Not of the node's cgroup: to a VIP that nobody has.
    nodes.node(1).host.netns.on_thread(|| {
        let vip = nodes.vip(Family::V4);
        ensure!(TcpStream::connect_timeout(&vip, Duration::from_millis(300)).is_err());
        Ok(())
    })?;
    // Of the next second, so that they would be in it.
    std::thread::sleep(Duration::from_millis(1100));
    ensure!(counts(&controller)?.iter().all(|count| *count == 0), "{:?}", counts(&controller)?);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_cold_start_refuses_at_once_and_the_first_backend_is_used() -> Result<()> {
    let mut nodes = Nodes::build(2)?;
    nodes.servers.clear();
    let mut controller = nodes.controller(1, &nodes.own_processes(1))?;
    controller.start()?;
    let vips = Family::ALL.map(|family| nodes.vip(family));
    nodes.on(1, || {
        for vip in vips {
            let error = TcpStream::connect_timeout(&vip, SOON).expect_err("nobody is there");
            ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
        }
        Ok(())
    })?;
    let refused = |said: &serde_json::Value| said["refused"] == 2;
    eventually_is("their count", PATIENCE, || local_clients(&controller), refused)?;
    drop(controller);

    nodes.serve("cp2")?;
    let mut controller = nodes.controller(1, &nodes.own_processes(1))?;
    controller.start()?;
    for (name, family) in [("cp2", Family::V4), ("cp2-v6", Family::V6)] {
        controller.wait_backend(name, "up", PATIENCE)?;
        let answered = nodes.who_answers(1, family, 10)?;
        ensure!(answered == BTreeSet::from(["cp2".to_owned()]), "{answered:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn without_a_cgroup_nobody_is_led_in_a_namespace_that_is_not_the_machines() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let controller = nodes.start_with(1, "{ enabled: true }")?;
    let said = local_clients(&controller)?;
    ensure!(said["state"] == "off", "{said}");
    ensure!(
        said["reason"].as_str().is_some_and(|it| it.contains("local_clients.cgroup")),
        "{said}"
    );
    drop(controller);

    let controller = nodes.start_with(1, "{ enabled: true, cgroup: /proc }")?;
    let said = local_clients(&controller)?;
    ensure!(said["state"] == "failed", "{said}");
    let reason = said["reason"].as_str().context("no reason")?.to_owned();
    ensure!(reason.contains("no cgroup of version 2") && reason.contains("is served"), "{reason}");
    Ok(())
}
