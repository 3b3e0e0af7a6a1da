//! Three control-plane nodes, each a load balancer and an apiserver that speaks TLS on the VIP's port, with
//! clients on each of them and outside: everybody reaches every apiserver, whoever has the VIP and whoever
//! dies.

use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lb_tests::apiserver;
use lb_tests::load::{Load, Pace, Running, Talk};
use lb_tests::pki::Pki;
use lb_tests::transfer::TransferServer;

use super::*;

mod deaths;

/// Of each client in each state, in CI; FAIRLEAD_CLUSTER_CONNECTIONS says how many otherwise.
const CONNECTIONS: u64 = 150;
/// Of them at a time, in each family.
const WORKERS: usize = 4;
const NODES: usize = 3;
const SYNC_PORT: u16 = 7946;
/// A service of the third node alone.
const STREAM_PORT: u16 = 7443;
/// The lease of 300 ms, the linger of 2 s, ten seconds to spare, and a kernel that looks once a second.
const ADDRESS_LIFE: Duration = Duration::from_secs(15);

/// Where clients are: outside, or on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Outside,
    Node(usize),
}

const EVERYWHERE: [At; 4] = [At::Outside, At::Node(0), At::Node(1), At::Node(2)];

struct Cluster {
    lab: Topology,
    pki: Pki,
    servers: Mutex<[Option<ServerThread>; NODES]>,
    _streams: TransferServer,
    cgroups: Vec<Cgroup>,
    /// Of a probe.
    timeout: &'static str,
}

impl Cluster {
    fn build(timeout: &'static str) -> Result<Self> {
        let lab = Topology::build(&Plan { lb_nodes: NODES, backends: 0, ..Plan::default() })?;
        let cgroups = lab.lbs.iter().map(|lb| Cgroup::unique(&lb.host.name));
        let cgroups = cgroups.collect::<Result<_>>()?;
        let hosts: Vec<_> = lab
            .lbs
            .iter()
            .flat_map(|lb| Family::ALL.map(|it| (lb.host.name.as_str(), lb.host.address_of(it))))
            .collect();
        let vips = Family::ALL.map(|family| lab.vip_of(family));
        let pki = Pki::create(&lab.directory().join("pki"), &hosts, &vips)?;
        let key = lab.directory().join("sync-key");
        std::fs::write(&key, "1111111111111111111111111111111122222222222222222222222222222222\n")?;
        let only_root = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, only_root)?;
        let wildcard = SocketAddr::from((Family::V6.unspecified(), STREAM_PORT));
        let streams = TransferServer::start(&lab.lbs[2].host.netns, wildcard)?;
        let servers = Mutex::default();
        let cluster = Self { lab, pki, servers, _streams: streams, cgroups, timeout };
        (0..NODES).try_for_each(|index| cluster.serve(index))?;
        Ok(cluster)
    }

    fn node(&self, index: usize) -> &Host {
        &self.lab.lbs[index].host
    }

    fn servers(&self) -> MutexGuard<'_, [Option<ServerThread>; NODES]> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the node's apiserver, on the wildcard address of both families.
    fn serve(&self, index: usize) -> Result<()> {
        let host = self.node(index);
        let wildcard = SocketAddr::from((Family::V6.unspecified(), API_PORT));
        let (server, _) = apiserver::start(&host.netns, &host.name, wildcard, &self.pki)?;
        self.servers()[index] = Some(server);
        Ok(())
    }

    /// Ends the node's apiserver as SIGKILL does.
    fn end_apiserver(&self, index: usize) {
        drop(self.servers()[index].take());
    }

    /// A controller, whose priority is higher the lower the node's number.
    fn start(&self, index: usize) -> Result<Controller<'_>> {
        let mut controller = Controller::new(&self.lab.lbs[index], &binary(), self.lab.directory());
        controller.write_config(&self.yaml(index, controller.socket()))?;
        controller.start()?;
        Ok(controller)
    }

    fn yaml(&self, index: usize, socket: &std::path::Path) -> String {
        let backends = |hosts: &[LbNode]| -> String {
            let of = |host: &Host, family: Family| {
                let (name, address) = (&host.name, host.address_of(family));
                format!("{{ name: {name}{}, address: \"{address}\" }}", family.pick("", "-v6"))
            };
            let each = hosts.iter().flat_map(|lb| Family::ALL.map(|it| of(&lb.host, it)));
            each.collect::<Vec<_>>().join(", ")
        };
        let [v4, v6] = Family::ALL.map(|family| self.lab.vip_of(family));
        let instance = |name: &str, vips: &str| {
            format!(
                "  - {{ name: {name}, interface: eth0, vrid: 51, priority: {}, advert_interval: 100ms, \
                 restart_grace: 0s, sync_group: api, vips: [{vips}] }}\n",
                250 - index
            )
        };
        let at = |index: usize| SocketAddr::from((self.node(index).address, SYNC_PORT)).to_string();
        let others = (0..NODES).filter(|other| *other != index).map(at);
        format!(
            "version: 1
interfaces: [eth0]
limits: {{ flows: 65536, half_open: 16384 }}
services:
  - name: api
    vips: [{v4}, \"{v6}\"]
    port: {API_PORT}
    reset_delay: 500ms
    backends: [{backends}]
    health:
      {{ type: https, path: /readyz, ca_file: {ca_file}, server_name: kubernetes, interval: 300ms, \
         fast_interval: 100ms, connect_timeout: 500ms, timeout: {timeout} }}
  - name: streams
    vips: [{v4}, \"{v6}\"]
    port: {STREAM_PORT}
    backends: [{third}]
    health: {{ type: tcp, interval: 300ms }}
local_clients: {{ cgroup: {cgroup} }}
vrrp:
{first}{second}sync:
  listen: {own}
  peers: [{others}]
  key_file: {key}
admin: {{ socket: {socket} }}
",
            backends = backends(&self.lab.lbs),
            timeout = self.timeout,
            third = backends(&self.lab.lbs[2..]),
            ca_file = self.pki.ca_file().display(),
            cgroup = self.cgroups[index].shown().display(),
            first = instance("v4", &v4.to_string()),
            second = instance("v6", &format!("\"fe80::77:100\", \"{v6}\"")),
            own = at(index),
            others = others.collect::<Vec<_>>().join(", "),
            key = self.lab.directory().join("sync-key").display(),
            socket = socket.display(),
        )
    }

    /// Waits until a node has the VIPs, and all of `nodes` know who is up.
    fn settle(
        &self,
        nodes: &[&Controller<'_>],
        owner: &Controller<'_>,
        up: &[usize],
    ) -> Result<()> {
        let owns = || Ok(owner.status()?["vips"].clone());
        let all = |vips: &serde_json::Value| {
            vips.as_array().into_iter().flatten().all(|vip| vip["owner"] == true)
        };
        eventually_is("the VIPs", PATIENCE, owns, all)?;
        for controller in nodes {
            for index in 0..NODES {
                let state = if up.contains(&index) { "up" } else { "down" };
                let name = &self.node(index).name;
                controller.wait_backend(name, state, PATIENCE)?;
                controller.wait_backend(&format!("{name}-v6"), state, PATIENCE)?;
            }
        }
        Ok(())
    }

    /// Waits until the kernel of a node whose controller is dead has let the VIPs go.
    fn wait_addresses_gone(&self, index: usize) -> Result<()> {
        let addresses = || self.node(index).netns.ip("-o addr show dev eth0");
        let gone = |seen: &String| {
            Family::ALL.iter().all(|it| !seen.contains(&format!(" {}/", self.lab.vip_of(*it))))
        };
        eventually_is("the addresses to go", ADDRESS_LIFE, addresses, gone).map(drop)
    }

    /// Starts a load of clients outside or of a node.
    fn load(&self, at: At, load: &Load) -> Result<Running> {
        let At::Node(index) = at else { return load.start(&self.lab.client.netns.handle()) };
        // What a thread starts is in its cgroup.
        let _member = self.cgroups[index].enter()?;
        load.start(&self.node(index).netns.handle())
    }

    fn vip(&self, family: Family, port: u16) -> SocketAddr {
        (self.lab.vip_of(family), port).into()
    }

    /// Clients everywhere in `clients` connect at once and ask by TLS; none fails, and each of `up` answers
    /// some of each client.
    fn everybody_is_served(&self, what: &str, clients: &[At], up: &[usize]) -> Result<()> {
        let wanted = env::var("FAIRLEAD_CLUSTER_CONNECTIONS");
        let connections = wanted.map_or(Ok(CONNECTIONS), |count| count.parse())?.div_ceil(2);
        let expected: BTreeSet<&str> = up.iter().map(|it| self.node(*it).name.as_str()).collect();
        let mut loads = Vec::new();
        for family in Family::ALL {
            for at in clients {
                let load = Load {
                    target: self.vip(family, API_PORT),
                    talk: Talk::tls(&self.pki)?,
                    pace: Pace::Closed { connections, workers: WORKERS },
                    watches: 0,
                };
                loads.push((family, *at, self.load(*at, &load)?));
            }
        }
        let mut slowest = Duration::ZERO;
        for (family, at, load) in loads {
            let report = load.wait()?.report(&(Duration::ZERO..Duration::MAX));
            let some = &report.failures[..report.failures.len().min(5)];
            let all = report.answered as u64 == connections;
            ensure!(all, "{what}: {family:?}, {at:?}: {:?}: {some:?}", report.failed);
            let answered: BTreeSet<&str> = report.by_server.keys().map(|name| &**name).collect();
            ensure!(answered == expected, "{what}: {family:?}, {at:?}: {:?}", report.by_server);
            slowest = slowest.max(report.connect_max);
        }
        crate::measured(&format!(
            "{what}: {} connections of each of {clients:?}, none failed, the slowest connect {slowest:?}",
            2 * connections
        ));
        Ok(())
    }
}

fn wait_synced(nodes: &[&Controller<'_>]) -> Result<()> {
    for node in nodes {
        let sync = || Ok(node.status()?["sync"].clone());
        let is_synced = |sync: &serde_json::Value| {
            let peers = sync["peers"].as_array().into_iter().flatten();
            sync["warm"] == true && peers.clone().all(|peer| peer["state"] == "synced")
        };
        eventually_is("the peers to be synced", PATIENCE, sync, is_synced)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn on_three_nodes_every_client_reaches_every_apiserver_whoever_is_active_or_dies() -> Result<()> {
    // So many handshakes at once are work for the machine, and a probe waits its turn.
    let cluster = Cluster::build("3s")?;
    let mut first = cluster.start(0)?;
    let (second, third) = (cluster.start(1)?, cluster.start(2)?);
    cluster.settle(&[&first, &second, &third], &first, &[0, 1, 2])?;
    wait_synced(&[&first, &second, &third])?;
    cluster.everybody_is_served("first active", &EVERYWHERE, &[0, 1, 2])?;

    first.cli(&["drain"])?;
    cluster.settle(&[], &second, &[])?;
    cluster.everybody_is_served("second active", &EVERYWHERE, &[0, 1, 2])?;
    first.cli(&["drain", "--resume"])?;
    cluster.settle(&[], &first, &[])?;

    cluster.end_apiserver(0);
    cluster.settle(&[&first, &second, &third], &first, &[1, 2])?;
    cluster.everybody_is_served("without the first apiserver", &EVERYWHERE, &[1, 2])?;

    cluster.serve(0)?;
    cluster.settle(&[&first, &second, &third], &first, &[0, 1, 2])?;
    first.kill9()?;
    cluster.settle(&[&second, &third], &second, &[0, 1, 2])?;
    // Until then its kernel takes what the new owner sends from there for forged.
    cluster.wait_addresses_gone(0)?;
    cluster.everybody_is_served("without the first controller", &EVERYWHERE, &[0, 1, 2])?;

    first.start()?;
    cluster.settle(&[&first, &second, &third], &first, &[0, 1, 2])?;
    cluster.node(0).netns.ip("link set eth0 down")?;
    cluster.settle(&[&second, &third], &second, &[1, 2])?;
    let others = [At::Outside, At::Node(1), At::Node(2)];
    cluster.everybody_is_served("without the first node", &others, &[1, 2])
}
