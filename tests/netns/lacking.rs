//! What an old kernel or a container lacks is named, with why it matters and what works all the same; and
//! that does.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::cgroup::Cgroup;
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::eventually_is;
use lb_tests::old_kernel::{self, Lacks};
use lb_tests::plain::{self, EchoClient};
use lb_tests::server_thread::ServerThread;
use lb_tests::topology::{API_PORT, Host, Plan, Topology};
use serde_json::Value;

use super::scene::{PATIENCE, binary};

/// Of which a backend that is used gets some.
const MANY: usize = 30;
const SOON: Duration = Duration::from_secs(2);

/// An LB node with a backend of its own, and one elsewhere.
struct Lab {
    lab: Topology,
    cgroup: Cgroup,
    servers: Vec<ServerThread>,
}

impl Lab {
    fn build() -> Result<Self> {
        let lab = Topology::build(&Plan { backends: 1, ..Plan::default() })?;
        let cgroup = Cgroup::unique("lb1")?;
        let mut built = Self { lab, cgroup, servers: Vec::new() };
        built.servers = built.serve()?;
        Ok(built)
    }

    fn hosts(&self) -> [&Host; 2] {
        [&self.lab.lbs[0].host, &self.lab.backends[0]]
    }

    fn serve(&self) -> Result<Vec<ServerThread>> {
        let start = |host: &Host| echo::start(&host.netns, &host.name, (host.address, API_PORT));
        self.hosts().into_iter().map(start).collect()
    }

    /// A controller whose configuration ends with `keys`.
    fn controller(&self, keys: &str) -> Result<Controller<'_>> {
        let controller = Controller::new(&self.lab.lbs[0], &binary(), self.lab.directory());
        let backends = self.hosts().map(|host| (host.name.as_str(), IpAddr::from(host.address)));
        let yaml = plain::config(&self.lab, &backends, controller.socket());
        controller.write_config(&format!("{yaml}{keys}"))?;
        Ok(controller)
    }

    /// Who answers connections from outside, all of which are answered.
    fn answering(&self) -> Result<BTreeSet<String>> {
        let target = plain::target(&self.lab);
        self.lab.client.netns.on_thread(|| {
            (0..MANY).map(|_| Ok(EchoClient::connect(target, None)?.server)).collect()
        })
    }

    fn wait_up(&self, controller: &Controller<'_>) -> Result<()> {
        ["lb1", "cp1"].iter().try_for_each(|name| controller.wait_backend(name, "up", PATIENCE))
    }
}

fn local_clients(controller: &Controller<'_>) -> Result<Value> {
    Ok(controller.status()?["local_clients"].clone())
}

/// Every one of these is in what was said.
fn ensure_says(said: &str, words: &[&str]) -> Result<()> {
    words.iter().try_for_each(|word| {
        ensure!(said.contains(word), "no {word:?} in {said}");
        Ok(())
    })
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn without_tcx_only_the_backend_on_the_node_gets_nothing() -> Result<()> {
    let lab = Lab::build()?;
    old_kernel::without(Lacks::Tcx, || {
        let mut controller = lab.controller("")?;
        controller.start()?;
        lab.wait_up(&controller)?;
        let answering = lab.answering()?;
        ensure!(answering.iter().eq(["cp1"]), "{answering:?}");
        let said = ["backends on this node get no connections", "eth0", "tcx", "6.6"];
        ensure_says(&controller.log(), &said)?;
        ensure_says(&controller.log(), &["all others are served"])?;
        ensure!(controller.stop(false)?.success());
        let left = controller.leftovers(&lab.lab)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn without_bpf_set_retval_local_clients_are_led_and_refused_all_the_same() -> Result<()> {
    let mut lab = Lab::build()?;
    // Of a service that never had a backend which is up, and so does not fail open.
    lab.servers.clear();
    let vip = SocketAddr::from((lab.lab.vip(), API_PORT));
    let connect = |lab: &Lab| {
        lab.lab.lbs[0].host.netns.on_thread(|| {
            let _member = lab.cgroup.enter()?;
            Ok(TcpStream::connect_timeout(&vip, SOON).map(drop).map_err(|error| error.kind()))
        })
    };
    let cgroup = lab.cgroup.shown().display();
    let keys = format!("local_clients: {{ enabled: true, cgroup: {cgroup} }}\n");
    old_kernel::without(Lacks::SetRetval, || {
        let mut controller = lab.controller(&keys)?;
        controller.start()?;
        ensure_says(&controller.log(), &["bpf_set_retval", "6.0", "refused by the VIP"])?;
        ensure!(local_clients(&controller)?["state"] == "on");
        let refused = connect(&lab)?;
        ensure!(refused == Err(ErrorKind::ConnectionRefused), "{refused:?}");
        let counted = |said: &Value| said["refused"] == 1;
        eventually_is("its count", PATIENCE, || local_clients(&controller), counted)?;
        let _servers = lab.serve()?;
        lab.wait_up(&controller)?;
        ensure!(connect(&lab)? == Ok(()));
        Ok(())
    })
}

/// Takes away what is mounted of version 2, also where a lab's mounts hide it.
const ONLY_VERSION_1: &str = "mount --move /sys/fs/bpf /mnt && umount -l /sys && \
                              umount -a -l -t cgroup2 && mount -t sysfs sysfs /sys && \
                              mount --move /mnt /sys/fs/bpf && exec \"$@\"";

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn with_cgroups_of_version_1_alone_everybody_but_local_clients_is_served() -> Result<()> {
    let lab = Lab::build()?;
    let mut controller =
        lab.controller("local_clients: { enabled: true, cgroup: /sys/fs/cgroup }\n")?;
    controller.set_wrapper(&["sh", "-c", ONLY_VERSION_1, "sh"]);
    controller.start()?;
    lab.wait_up(&controller)?;
    let said = local_clients(&controller)?;
    ensure!(said["state"] == "failed", "{said}");
    let reason = said["reason"].as_str().context("no reason")?;
    let expected = [
        "no cgroup filesystem of version 2 is mounted",
        "mount -t cgroup2",
        "everybody else is served",
    ];
    ensure_says(reason, &expected)?;
    ensure_says(&controller.log(), &expected)?;
    let answering = lab.answering()?;
    ensure!(answering.iter().eq(["cp1", "lb1"]), "{answering:?}");
    Ok(())
}
