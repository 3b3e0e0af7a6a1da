//! Three control-plane nodes, each a load balancer and an apiserver on the VIP's port, with clients on each
//! of them and outside: everybody reaches every apiserver, whoever has the VIP and whoever dies.

use std::env;

use super::*;

/// Of each client in each state, in CI; FAIRLEAD_CLUSTER_CONNECTIONS says how many otherwise.
const CONNECTIONS: usize = 150;
const NODES: usize = 3;

struct Cluster {
    lab: Topology,
    servers: Vec<Option<ServerThread>>,
    cgroups: Vec<Cgroup>,
    connections: usize,
}

impl Cluster {
    fn build() -> Result<Self> {
        let lab = Topology::build(&Plan { lb_nodes: NODES, backends: 0, ..Plan::default() })?;
        let cgroups = lab.lbs.iter().map(|lb| Cgroup::unique(&lb.host.name));
        let cgroups = cgroups.collect::<Result<_>>()?;
        let connections = env::var("FAIRLEAD_CLUSTER_CONNECTIONS");
        let connections = connections.map_or(Ok(CONNECTIONS), |count| count.parse())?;
        let servers = (0..NODES).map(|_| None).collect();
        let mut cluster = Self { lab, servers, cgroups, connections };
        (0..NODES).try_for_each(|index| cluster.serve(index))?;
        Ok(cluster)
    }

    fn node(&self, index: usize) -> &Host {
        &self.lab.lbs[index].host
    }

    /// Starts the node's apiserver, on the wildcard address of both families.
    fn serve(&mut self, index: usize) -> Result<()> {
        let host = self.node(index);
        let wildcard = SocketAddr::from((Family::V6.unspecified(), API_PORT));
        self.servers[index] = Some(echo::start(&host.netns, &host.name, wildcard)?);
        Ok(())
    }

    /// A controller, whose priority is higher the lower the node's number.
    fn start(&self, index: usize) -> Result<Controller<'_>> {
        let mut controller = Controller::new(&self.lab.lbs[index], &binary(), self.lab.directory());
        let of = |host: &Host, family: Family| {
            let (name, address) = (&host.name, host.address_of(family));
            format!("{{ name: {name}{}, address: \"{address}\" }}", family.pick("", "-v6"))
        };
        let hosts = self.lab.lbs.iter().map(|lb| &lb.host);
        let backends: Vec<String> =
            hosts.flat_map(|host| Family::ALL.map(|family| of(host, family))).collect();
        let [v4, v6] = Family::ALL.map(|family| self.lab.vip_of(family));
        let instance = |name: &str, vips: &str| {
            format!(
                "  - {{ name: {name}, interface: eth0, vrid: 51, priority: {}, \
                 advert_interval: 100ms, sync_group: api, vips: [{vips}] }}\n",
                250 - index
            )
        };
        controller.write_config(&format!(
            "version: 1
interfaces: [eth0]
limits: {{ flows: 65536, half_open: 16384 }}
services:
  - name: api
    vips: [{v4}, \"{v6}\"]
    port: {API_PORT}
    reset_delay: 500ms
    backends: [{backends}]
    health: {{ type: tcp, interval: 300ms, fast_interval: 100ms, timeout: 500ms }}
local_clients: {{ cgroup: {cgroup} }}
vrrp:
{first}{second}admin: {{ socket: {socket} }}
",
            backends = backends.join(", "),
            cgroup = self.cgroups[index].shown().display(),
            first = instance("v4", &v4.to_string()),
            second = instance("v6", &format!("\"fe80::77:100\", \"{v6}\"")),
            socket = controller.socket().display(),
        ))?;
        controller.start()?;
        Ok(controller)
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

    /// Clients outside and on `nodes` connect, and each of `up` answers some of each client; nobody else but
    /// `perhaps` does.
    fn everybody_is_served(
        &self,
        what: &str,
        nodes: &[usize],
        up: &[usize],
        perhaps: &[usize],
    ) -> Result<()> {
        let named = |of: &[usize]| -> BTreeSet<String> {
            of.iter().map(|index| self.node(*index).name.clone()).collect()
        };
        let (expected, perhaps) = (named(up), named(perhaps));
        let is_right = |answered: &BTreeSet<String>| {
            answered.difference(&perhaps).collect::<Vec<_>>()
                == expected.difference(&perhaps).collect::<Vec<_>>()
        };
        for family in Family::ALL {
            let vip = SocketAddr::from((self.lab.vip_of(family), API_PORT));
            let connect = || {
                let each = (0..self.connections).map(|number| {
                    let mut client =
                        Client::connect(vip).with_context(|| format!("connection {number}"))?;
                    ensure!(client.ask("hello\n")? == "hello");
                    Ok(client.server)
                });
                each.collect::<Result<BTreeSet<_>>>()
            };
            let context = |who: &str| format!("{what}: {family:?}, client {who}");
            let outside =
                self.lab.client.netns.on_thread(connect).with_context(|| context("outside"))?;
            ensure!(is_right(&outside), "{}: {outside:?}", context("outside"));
            for index in nodes {
                let host = self.node(*index);
                let answered = host.netns.on_thread(|| {
                    let _member = self.cgroups[*index].enter()?;
                    connect()
                });
                let answered = answered.with_context(|| context(&host.name))?;
                ensure!(is_right(&answered), "{}: {answered:?}", context(&host.name));
            }
        }
        Ok(())
    }
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn on_three_nodes_every_client_reaches_every_apiserver_whoever_is_active_or_dies() -> Result<()> {
    let mut cluster = Cluster::build()?;
    // Moved out, so that it can end while controllers look at the cluster.
    let first_server = cluster.servers[0].take();
    let mut first = cluster.start(0)?;
    let (second, third) = (cluster.start(1)?, cluster.start(2)?);
    cluster.settle(&[&first, &second, &third], &first, &[0, 1, 2])?;
    cluster.everybody_is_served("first active", &[0, 1, 2], &[0, 1, 2], &[])?;

    first.cli(&["drain"])?;
    cluster.settle(&[], &second, &[])?;
    cluster.everybody_is_served("second active", &[0, 1, 2], &[0, 1, 2], &[])?;
    first.cli(&["drain", "--resume"])?;
    cluster.settle(&[], &first, &[])?;

    drop(first_server);
    cluster.settle(&[&first, &second, &third], &first, &[1, 2])?;
    cluster.everybody_is_served("without the active node's apiserver", &[0, 1, 2], &[1, 2], &[])?;

    let host = cluster.node(0);
    let wildcard = SocketAddr::from((Family::V6.unspecified(), API_PORT));
    let _server = echo::start(&host.netns, &host.name, wildcard)?;
    cluster.settle(&[&first, &second, &third], &first, &[0, 1, 2])?;
    first.kill9()?;
    cluster.settle(&[&second, &third], &second, &[0, 1, 2])?;
    // A killed controller leaves the VIP's address to its kernel, which takes what the new owner sends from
    // there for forged: who was to go to that apiserver goes to another one with the second SYN.
    cluster.everybody_is_served("without the first controller", &[0, 1, 2], &[1, 2], &[0])?;

    first.start()?;
    cluster.settle(&[&first, &second, &third], &first, &[0, 1, 2])?;
    host.netns.ip("link set eth0 down")?;
    cluster.settle(&[&second, &third], &second, &[1, 2])?;
    cluster.everybody_is_served("without the first node", &[1, 2], &[1, 2], &[])
}
