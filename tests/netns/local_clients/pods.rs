//! Clients with a network namespace of their own on a node: where the controller may enter it, none of their
//! connections outlives its backend.

use std::process::Command;

use lb_tests::command::{Process, run};
use lb_tests::netns::Netns;

use super::*;
use crate::packages::capabilities;

/// Until a backend that vanished is given up: `reset_delay`, three probes, and a busy machine.
const NOTICED: Duration = Duration::from_secs(10);
/// In which a connection that nobody ends stays as it is.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// How a node's controller can learn of a pod's namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// As runtimes do it: mounted below /run/netns.
    ByMount,
    /// Only by a process that is in it.
    ByProcess,
}

/// A namespace behind a node, which forwards for it.
struct Pod {
    netns: Netns,
    _process: Option<Process>,
    node: usize,
}

impl Pod {
    fn start(nodes: &Nodes, node: usize, known: Known) -> Result<Self> {
        let netns = Netns::unique("pod")?;
        let (host, name) = (&nodes.node(node).host, netns.name());
        host.netns.ip(&format!("link add pod type veth peer name eth0 netns {name}"))?;
        // XDP sees what comes back: no partial checksums.
        let off = ["tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
        host.netns.run("ethtool", ["-K", "pod"].into_iter().chain(off))?;
        netns.run("ethtool", ["-K", "eth0"].into_iter().chain(off))?;
        host.netns.sysctl("ipv4/ip_forward", "1")?;
        host.netns.sysctl("ipv6/conf/all/forwarding", "1")?;
        host.netns.ip("link set pod up")?;
        netns.ip("link set eth0 up")?;
        for family in Family::ALL {
            let subnet = |last: u8| {
                family
                    .pick(format!("10.78.{node}.{last}/24"), format!("fd78:0:0:{node}::{last}/64"))
            };
            let (ip, gateway) = (family.pick("-4", "-6"), subnet(1));
            let nodad = family.pick("", "nodad");
            host.netns.ip(&format!("addr add {gateway} dev pod {nodad}"))?;
            netns.ip(&format!("addr add {} dev eth0 {nodad}", subnet(2)))?;
            let gateway = gateway.split('/').next().context("an address")?;
            netns.ip(&format!("{ip} route add default via {gateway}"))?;
            for backend in &nodes.lab.backends {
                let (subnet, via) = (subnet(0), host.address_of(family));
                backend.netns.ip(&format!("{ip} route add {subnet} via {via}"))?;
            }
        }
        let mut process = None;
        if known == Known::ByProcess {
            process = Some(Process::spawn(netns.command("sleep").arg("infinity"))?);
            run(Command::new("ip").args(["netns", "del", netns.name()]))?;
        }
        Ok(Self { netns, _process: process, node })
    }

    /// Does `work` as a process of the pod would.
    fn on<T: Send>(&self, nodes: &Nodes, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.netns.on_thread(|| {
            let _member = nodes.cgroups[self.node].enter()?;
            work()
        })
    }

    /// Connections to a VIP, some to each backend.
    fn connections(&self, nodes: &Nodes, family: Family) -> Result<Vec<Client>> {
        let vip = nodes.vip(family);
        self.on(nodes, || (0..MANY / 4).map(|_| Client::connect(vip)).collect())
    }

    /// A connection to a backend's own address.
    fn direct(&self, nodes: &Nodes, name: &str) -> Result<Client> {
        let backend = SocketAddr::from((nodes.lab.backend(name)?.address, API_PORT));
        self.on(nodes, || Client::connect(backend))
    }
}

/// Takes a backend's frames away, or gives them back; its host does not notice.
fn plug(nodes: &Nodes, name: &str, is_in: bool) -> Result<()> {
    let state = if is_in { "up" } else { "down" };
    nodes.lab.fabric.ip(&format!("link set {name} {state}")).map(drop)
}

fn entering(nodes: &Nodes, index: usize) -> String {
    let cgroup = nodes.cgroups[index].shown().display();
    format!("{{ enabled: true, cgroup: {cgroup}, end_in_pods: true }}")
}

fn of_pods(controller: &Controller<'_>) -> Result<serde_json::Value> {
    Ok(local_clients(controller)?["pods"].clone())
}

/// Those of one backend, and all others.
fn split(clients: Vec<Client>, name: &str) -> Result<(Vec<Client>, Vec<Client>)> {
    let (lost, others): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|client| client.server == name);
    ensure!(!lost.is_empty() && !others.is_empty(), "{} {}", lost.len(), others.len());
    Ok((lost, others))
}

/// Each ends as the kernel has it, soon.
fn ensure_ended(lost: Vec<Client>) -> Result<u64> {
    let count = lost.len() as u64;
    for client in lost {
        let end = client.wait_end(NOTICED)?;
        ensure!(end == ErrorKind::ConnectionAborted, "{end:?}");
    }
    Ok(count)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_of_pods_end_with_their_backend_and_no_others_do() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let pods = [Pod::start(&nodes, 0, Known::ByMount)?, Pod::start(&nodes, 1, Known::ByProcess)?];
    let controllers =
        [nodes.start_with(0, &entering(&nodes, 0))?, nodes.start_with(1, &entering(&nodes, 1))?];
    for controller in &controllers {
        ensure!(of_pods(controller)?["state"] == "on", "{}", local_clients(controller)?);
    }
    let mut clients = Vec::new();
    for pod in &pods {
        for family in Family::ALL {
            clients.extend(pod.connections(&nodes, family)?);
        }
    }
    // Nobody led these, whatever their backend.
    let direct = pods.iter().map(|pod| pod.direct(&nodes, "cp1")).collect::<Result<Vec<_>>>()?;
    plug(&nodes, "cp1", false)?;
    let (lost, others) = split(clients, "cp1")?;
    let count = ensure_ended(lost)?;
    for mut client in others {
        ensure!(client.ask("still there\n")? == "still there");
    }
    let both = || {
        let said = [of_pods(&controllers[0])?, of_pods(&controllers[1])?];
        Ok(said.map(|it| it["ended"].as_u64().unwrap_or(0)))
    };
    let all = |[first, second]: &[u64; 2]| *first > 0 && *second > 0 && first + second == count;
    eventually_is("the count on both", PATIENCE, both, all)?;
    plug(&nodes, "cp1", true)?;
    for mut client in direct {
        ensure!(client.ask("still there\n")? == "still there");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn unless_the_configuration_says_so_pods_are_left_alone() -> Result<()> {
    let nodes = Nodes::build(1)?;
    let pod = Pod::start(&nodes, 0, Known::ByMount)?;
    let controller = nodes.start(0)?;
    ensure!(of_pods(&controller)?["state"] == "off");
    let own = nodes.on(0, || {
        (0..MANY / 4).map(|_| Client::connect(nodes.vip(Family::V4))).collect::<Result<Vec<_>>>()
    })?;
    let (of_pod, _) = split(pod.connections(&nodes, Family::V4)?, "cp1")?;
    plug(&nodes, "cp1", false)?;
    ensure_ended(split(own, "cp1")?.0)?;
    std::thread::sleep(LEFT_ALONE);
    plug(&nodes, "cp1", true)?;
    for mut client in of_pod {
        ensure!(client.ask("still there\n")? == "still there");
    }
    ensure!(of_pods(&controller)?["ended"] == 0, "{}", local_clients(&controller)?);
    Ok(())
}

/// As the packaged unit has it, and as the unit does that is made for this configuration.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_entering_pods_takes_is_said_where_it_is_lacking_and_is_enough() -> Result<()> {
    let nodes = Nodes::build(1)?;
    let pod = Pod::start(&nodes, 0, Known::ByMount)?;
    let unit = capabilities()?.join(",+");
    for (more, state) in [("", "failed"), (",+sys_admin", "on")] {
        let mut controller = nodes.controller(0, &entering(&nodes, 0))?;
        let bounding = format!("--bounding-set=-all,+{unit}{more}");
        controller.set_wrapper(&["setpriv", &bounding, "--inh-caps=-all", "--no-new-privs"]);
        controller.start()?;
        nodes.wait_all_up(&controller)?;
        let said = local_clients(&controller)?;
        ensure!(said["state"] == "on" && said["pods"]["state"] == state, "{said}");
        let (lost, _) = split(pod.connections(&nodes, Family::V6)?, "cp1")?;
        if state == "failed" {
            let reason = said["pods"]["reason"].as_str().context("no reason")?;
            ensure!(
                reason.contains("CAP_SYS_ADMIN") && controller.log().contains(reason),
                "{said}"
            );
            let table = controller.cli(&["status"])?;
            ensure!(table.contains("NONE IN PODS"), "{table}");
        } else {
            plug(&nodes, "cp1", false)?;
            ensure_ended(lost)?;
            plug(&nodes, "cp1", true)?;
        }
        ensure!(controller.stop(false)?.success());
    }
    Ok(())
}
