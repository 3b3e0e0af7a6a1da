//! The README's way from HAProxy and keepalived to Fairlead, typed as it is written there, on two nodes that have a
//! systemd each, with clients that never stop. What each step costs is measured.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::apiserver;
use lb_tests::eventually::eventually_is;
use lb_tests::load::{Load, Pace, Running, Talk};
use lb_tests::pki::Pki;
use lb_tests::server_thread::ServerThread;
use lb_tests::topology::{API_PORT, Host, Plan, Topology};
use serde_json::Value;

use super::systemd::{Booted, CONFIG};
use crate::measured;
use crate::scene::PATIENCE;

/// As Kubernetes' own instructions have the pair.
const HAPROXY: &str =
    include_str!("../../../lb-userspace/src/import/corpus/01-kubeadm-services/haproxy.cfg");
const KEEPALIVED: &str =
    include_str!("../../../lb-userspace/src/import/corpus/01-kubeadm-services/keepalived.conf");
/// Where HAProxy listens there.
const PORT: u16 = 8443;
const KEY: &str = "/etc/fairlead/sync-key";

/// New connections a second, and streams that stay.
const RATE: u32 = 50;
const WATCHES: usize = 30;
/// How long what a step does may take to show: a node that hears nobody takes over within four seconds.
const SHOWS: Duration = Duration::from_secs(6);
/// A connect may take 3 s, and an answer 5 s: what became of them is known after that.
const AFTERMATH: Duration = Duration::from_secs(8);
/// New connections that may fail with the HAProxy that they went through.
const UNDER_WAY: usize = 5;

#[test]
#[ignore = "needs root: cargo xtask test packages"]
fn a_pair_of_haproxy_and_keepalived_is_replaced_as_the_readme_says() -> Result<()> {
    let site = Site::build()?;
    site.wait_vip(0)?;
    let clients = Clients::start(&site)?;
    clients.during("as it was", || Ok(()))?.ensure(0, 0)?;
    let [active, standby] = &site.nodes;

    // 1.
    let imported = clients.during("imported", || site.import())?;
    imported.ensure(0, 0)?;

    // 2.
    let standby_changes = clients.during("the standby is replaced", || {
        typed(standby, "systemctl disable --now haproxy keepalived")?;
        typed(standby, "systemctl start fairlead")?;
        standby.wait_all_up()?;
        let peers = || Ok(standby.status()?["vrrp"][0]["peers"].clone());
        let own = site.lab.lbs[0].host.address.to_string();
        let heard = |peers: &Value| peers[0]["address"] == own;
        eventually_is("the other node as a peer", PATIENCE, peers, heard).map(drop)
    })?;
    standby_changes.ensure(0, 0)?;

    // 3.
    let active_stops = clients.during("keepalived stops on the active node", || {
        typed(active, "systemctl disable --now keepalived")?;
        site.wait_vip(1)
    })?;
    active_stops.ensure(UNDER_WAY, WATCHES)?;

    // 4.
    let active_changes = clients.during("the active node is replaced", || {
        typed(active, "systemctl disable --now haproxy")?;
        typed(active, "systemctl start fairlead")?;
        active.wait_all_up()?;
        site.wait_vip(0)
    })?;
    active_changes.ensure(0, 0)?;

    // 5.
    let version_changes = clients.during("version 3", || {
        for node in &site.nodes {
            let text = fs::read_to_string(node.overlay.path(CONFIG))?;
            let lines = text.lines().filter(|line| !line.trim().starts_with("authentication:"));
            let text: String = lines.map(|line| format!("{line}\n")).collect();
            node.write(CONFIG, &text.replace("version: 2", "version: 3"))?;
        }
        site.nodes.iter().try_for_each(|node| typed(node, "fairlead reload"))?;
        site.wait_vip(0)
    })?;
    version_changes.ensure(0, 0)?;
    for node in &site.nodes {
        let vrrp = &node.status()?["vrrp"][0];
        ensure!(vrrp["version"] == 3, "{vrrp}");
    }
    site.wait_vip(0)
}

/// Has a node's shell do what the README says in these words.
fn typed(node: &Booted, line: &str) -> Result<()> {
    const README: &str = include_str!("../../../README.md");
    let guide = README.split("\nStep by step, with two nodes.").nth(1).context("no guide")?;
    let guide = guide.split("\n## ").next().unwrap_or_default();
    let is_there =
        guide.contains(&format!("`{line}`")) || guide.lines().any(|written| written.trim() == line);
    ensure!(is_there, "the README does not say: {line}");
    node.sh(line).map(drop)
}

/// Two LB nodes with HAProxy and keepalived, and apiservers behind them.
struct Site {
    // In the order in which they go.
    nodes: [Booted; 2],
    _servers: Vec<ServerThread>,
    pki: Pki,
    lab: Topology,
}

impl Site {
    fn build() -> Result<Self> {
        let lab = Topology::build(&Plan { lb_nodes: 2, ..Plan::default() })?;
        let hosts: Vec<_> =
            lab.backends.iter().map(|host| (host.name.as_str(), host.address)).collect();
        let pki = Pki::create(&lab.directory().join("pki"), &hosts, &[lab.vip()])?;
        let serve = |host: &Host| {
            let address = (host.address, API_PORT);
            Ok(apiserver::start(&host.netns, &host.name, address, &pki)?.0)
        };
        let servers = lab.backends.iter().map(serve).collect::<Result<_>>()?;
        let nodes = [
            Booted::start(&lab.lbs[0], lab.directory())?,
            Booted::start(&lab.lbs[1], lab.directory())?,
        ];
        let site = Self { nodes, _servers: servers, pki, lab };
        for (index, node) in site.nodes.iter().enumerate() {
            site.start_old(node, index)?;
        }
        Ok(site)
    }

    /// Instructions name other addresses than the lab has.
    fn of_lab(&self, text: &str) -> String {
        let backends = self.lab.backends.iter().enumerate();
        let text = text.replace("10.0.0.100", &self.lab.vip().to_string());
        backends.fold(text, |text, (index, host)| {
            text.replace(&format!("10.0.0.1{}", index + 1), &host.address.to_string())
        })
    }

    /// Starts HAProxy and keepalived on a node, with a check as the instructions have one.
    fn start_old(&self, node: &Booted, index: usize) -> Result<()> {
        node.write("/etc/haproxy/haproxy.cfg", &self.of_lab(HAPROXY))?;
        let ask = format!("curl -sfk --max-time 2 https://localhost:{PORT}/healthz -o /dev/null");
        node.write("/etc/keepalived/check_apiserver.sh", &format!("#!/bin/sh\n{ask}\n"))?;
        node.sh("chmod 755 /etc/keepalived/check_apiserver.sh")?;
        let mut text = self.of_lab(KEEPALIVED);
        if index > 0 {
            text = text.replace("state MASTER", "state BACKUP");
            text = text.replace("priority 101", "priority 100");
        }
        node.write("/etc/keepalived/keepalived.conf", &text)?;
        node.sh("systemctl enable --now haproxy keepalived").map(drop)
    }

    /// Installs the package on both nodes and makes their configurations.
    fn import(&self) -> Result<()> {
        let addresses = [0, 1].map(|index| self.lab.lbs[index].host.address);
        for (node, [own, other]) in self.nodes.iter().zip([addresses, [addresses[1], addresses[0]]])
        {
            node.install("0.0.1")?;
            typed(
                node,
                "fairlead import --haproxy /etc/haproxy/haproxy.cfg \
                 --keepalived /etc/keepalived/keepalived.conf --output /etc/fairlead/fairlead.yaml",
            )?;
            let imported = fs::read_to_string(node.overlay.path(CONFIG))?;
            let sync =
                format!("sync: {{ listen: {own}:7946, peers: [{other}:7946], key_file: {KEY} }}\n");
            node.write(CONFIG, &(imported + &sync))?;
        }
        let [first, second] = &self.nodes;
        first.sh(&format!("openssl rand -hex 32 > {KEY} && chmod 600 {KEY}"))?;
        second.write(KEY, &fs::read_to_string(first.overlay.path(KEY))?)?;
        second.sh(&format!("chmod 600 {KEY}"))?;
        self.nodes.iter().try_for_each(|node| typed(node, "fairlead check"))
    }

    /// Waits until a node's kernel has the VIP, and the other's not.
    fn wait_vip(&self, index: usize) -> Result<()> {
        let vip = format!(" {}/32 ", self.lab.vip());
        let has = |node: usize| {
            let said = self.lab.lbs[node].host.netns.ip("-o addr show dev eth0");
            said.map(|said| said.contains(&vip))
        };
        let both = || Ok([has(0)?, has(1)?]);
        eventually_is("the VIP", PATIENCE, both, |it| *it == [index == 0, index == 1]).map(drop)
    }
}

/// New connections all the time, and streams that stay.
struct Clients(Running);

/// What they saw of a step.
struct Seen {
    step: &'static str,
    failed: usize,
    cut: usize,
    details: String,
}

impl Clients {
    fn start(site: &Site) -> Result<Self> {
        let load = Load {
            target: (site.lab.vip(), PORT).into(),
            talk: Talk::tls(&site.pki)?,
            pace: Pace::Open { per_second: RATE },
            watches: WATCHES,
        };
        let running = load.start(&site.lab.client.netns.handle())?;
        let open = || Ok(running.watches.open());
        eventually_is("streams", PATIENCE, open, |open| *open == WATCHES)?;
        Ok(Self(running))
    }

    /// Takes a step, and waits until everybody has noticed.
    fn during(&self, step: &'static str, take: impl FnOnce() -> Result<()>) -> Result<Seen> {
        let Self(running) = self;
        let from = running.recorder.now();
        take().with_context(|| step)?;
        sleep(SHOWS);
        let span = from..running.recorder.now();
        sleep(AFTERMATH);
        let report = running.recorder.report(&span);
        let cut = running.watches.breaks(&(from..Duration::MAX));
        let cut: Vec<_> = cut.into_iter().filter(|it| !it.server.is_empty()).collect();
        let gap = running.watches.longest_gap(&(from..Duration::MAX));
        measured(&format!(
            "{step}: {} of {} new connections failed, the slowest connected after {:?}; {cut} of \
             {WATCHES} streams were cut, the longest silence in one {gap:?}",
            report.failed_total(),
            report.sent,
            report.connect_max,
            cut = cut.len(),
        ));
        let details = format!("{:?}, {cut:?} since {from:?}", report.failures);
        Ok(Seen { step, failed: report.failed_total(), cut: cut.len(), details })
    }
}

impl Seen {
    fn ensure(&self, failed: usize, cut: usize) -> Result<()> {
        let Self { step, details, .. } = self;
        ensure!(self.failed <= failed, "{step}: {} failed: {details}", self.failed);
        ensure!(self.cut <= cut, "{step}: {} streams were cut: {details}", self.cut);
        Ok(())
    }
}
