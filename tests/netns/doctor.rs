//! What `fairlead doctor` finds on a machine that has something wrong with it, and that it finds nothing on one
//! that has not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::output;
use lb_tests::eventually::eventually_is;
use lb_tests::keepalived::{self, Keepalived};
use lb_tests::plain;
use lb_tests::recorder::Recorder;
use lb_tests::topology::{LbNode, Plan, Topology};
use lb_tests::xdp_pass::XdpPass;
use serde_json::Value;

use crate::apiservers::Apiservers;
use crate::scene::{binary, run_on};

/// What it promises, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_healthy_node_has_no_problem_and_what_is_done_to_it_is_named() -> Result<()> {
    let scene = Apiservers::build()?;
    let controller = scene.balanced(&[])?;
    let node = &scene.lab.lbs[0];
    let netns = &node.host.netns;
    let socket = controller.socket().display().to_string();
    let look = || Report::of(node, &["--socket", &socket, "--probe"]);

    open_filter(node)?;
    let healthy = look()?;
    healthy.ensure_no_problem()?;
    healthy.ensure("controller.service", "ok")?;
    healthy.ensure("config.applies", "ok")?;
    healthy.ensure("vip.conflict", "ok")?;
    healthy.ensure("apiserver.certificate", "ok")?;
    healthy.ensure("mtu.small", "ok")?;
    healthy.ensure("firewall.bypassed", "ok")?;
    healthy.ensure("sysctl.rp_filter", "ok")?;

    netns.sysctl("ipv4/conf/eth0/rp_filter", "1")?;
    netns.ip("link set eth0 mtu 1400")?;
    netns.run(
        "nft",
        ["add table inet t; add chain inet t input { type filter hook input priority 0; }; \
                       add rule inet t input tcp dport 6443 drop"],
    )?;
    let squatter = scene.lab.backend("cp1")?;
    squatter.netns.ip(&format!("addr add {}/32 dev eth0", scene.lab.vip()))?;
    let cp2 = scene.lab.backend("cp2")?;
    scene.pki.issue("cp2", &[cp2.address.into()], Some(2020))?;
    scene.control("cp2").set_tls(scene.pki.server_config("cp2")?);
    fs::write(
        controller.config_file(),
        fs::read_to_string(controller.config_file())? + "limits: { flows: 4096 }\n",
    )?;
    let ill = look()?;
    ill.ensure("sysctl.rp_filter", "info")?;
    ill.ensure("mtu.small", "warning")?;
    ill.ensure("firewall.bypassed", "warning")?;
    ill.ensure("vip.conflict", "problem")?;
    ill.ensure("apiserver.certificate", "problem")?;
    ill.ensure("config.applies", "warning")?;
    ensure!(ill.code == Some(4), "exit code {:?}", ill.code);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_would_keep_a_controller_from_working_is_named_before_it_starts() -> Result<()> {
    let lab = Topology::build(&Plan { lb_nodes: 2, ..Plan::default() })?;
    let _servers = plain::echo_servers(&lab)?;
    let (node, other) = (&lab.lbs[0], &lab.lbs[1]);
    let directory = lab.directory();
    let vip = lab.vip();
    let instance = format!("{{ name: v, interface: eth0, vrid: 77, vips: [{vip}] }}");
    let config = directory.join("doctor.yaml");
    let look = |backend: &str, instance: &str| {
        write(&config, &format!("{vip}"), backend, instance)?;
        let (config, socket) = (config.display().to_string(), directory.join("none.sock"));
        Report::of(node, &["--config", &config, "--socket", &socket.display().to_string()])
    };
    let good = lab.backends[0].address.to_string();

    open_filter(node)?;
    let healthy = look(&good, &instance)?;
    healthy.ensure_no_problem()?;
    healthy.ensure("controller.running", "info")?;
    healthy.ensure("vrrp.heard", "ok")?;
    healthy.ensure("xdp.native", "ok")?;

    // Another cluster's, with the same VRID.
    let theirs = keepalived::Settings::new(100, 1.0, &[[10, 77, 0, 200].into()]);
    let mut rival = Keepalived::start(&other.host.netns, directory, &theirs)?;
    let holds = || Ok(other.host.netns.ip("-o addr show dev eth0")?.contains("10.77.0.200/32"));
    eventually_is("keepalived to be active", PATIENCE, holds, |holds| *holds)?;
    let pass = XdpPass::load()?;
    let attached = {
        let _inside = node.host.netns.enter()?;
        pass.attach("eth0")?
    };
    node.host.netns.sysctl("ipv4/conf/eth0/rp_filter", "1")?;
    let away = instance.replace("vips:", "unicast_peers: [192.0.2.1], vips:");
    let nobody = "10.77.0.99";
    let ill = look(nobody, &away)?;
    ill.ensure("vrrp.duplicate_vrid", "problem")?;
    ill.ensure("xdp.foreign", "problem")?;
    ill.ensure("sysctl.rp_filter", "problem")?;
    ill.ensure("apiserver.ready", "problem")?;
    // By how far the kernel has got with asking.
    ill.ensure_any("way.neighbour", &["warning", "problem"])?;
    rival.stop()?;
    drop(attached);
    node.host.netns.sysctl("ipv4/conf/eth0/rp_filter", "0")?;

    // On the node itself, and with the same VIP.
    let same = keepalived::Settings::new(100, 1.0, &[vip.into()]);
    let _same = Keepalived::start(&node.host.netns, directory, &same)?;
    let broken = look(&good, "{ name: v, interface: eth0, vrid: 77, vips: [] }")?;
    broken.ensure("config.valid", "problem")?;
    look(&good, &instance)?.ensure("rival.vrrp", "problem")
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn filters_on_an_interface_and_a_way_that_swallows_long_packets_are_named() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let (node, cp1) = (&lab.lbs[0], &lab.backends[0]);
    let config = lab.directory().join("doctor.yaml");
    let (vip, backend) = (lab.vip().to_string(), cp1.address.to_string());
    write(
        &config,
        &vip,
        &backend,
        &format!("{{ name: v, interface: eth0, vrid: 77, vips: [{vip}] }}"),
    )?;
    let (config, socket) = (config.display().to_string(), lab.directory().join("none.sock"));
    let look =
        || Report::of(node, &["--config", &config, "--socket", &socket.display().to_string()]);
    open_filter(node)?;
    let healthy = look()?;
    healthy.ensure_no_problem()?;
    healthy.ensure("way.known", "ok")?;
    for id in ["mtu.black_hole", "tc.filters", "tc.programs"] {
        healthy.ensure_none(id)?;
    }

    // Its link throws away what is longer, without a word, and lets health checks through.
    cp1.netns.ip("link set eth0 mtu 1400")?;
    node.host.netns.run("tc", ["qdisc", "add", "dev", "eth0", "clsact"])?;
    look()?.ensure("tc.filters", "ok")?;
    // One that lets everything through.
    let all = ["bpf", "da", "bytecode", "1,6 0 0 4294967295"];
    node.host.netns.run("tc", [&["filter", "add", "dev", "eth0", "egress"][..], &all].concat())?;
    let ill = look()?;
    ill.ensure("mtu.black_hole", "warning")?;
    ill.ensure("apiserver.ready", "ok")?;
    ill.ensure("tc.filters", "info")?;
    let named = ill.findings().iter().filter(|it| it["id"] == "tc.filters");
    let named: Vec<String> = named.map(|it| it["what"].to_string()).collect();
    ensure!(named.iter().any(|it| it.contains("bpf") && it.contains("(egress)")), "{named:?}");
    Ok(())
}

/// Whatever the machine has for a new namespace.
fn open_filter(node: &LbNode) -> Result<()> {
    let interfaces = ["all", "eth0"];
    let open = |name: &&str| node.host.netns.sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0");
    interfaces.iter().try_for_each(open)
}

fn write(path: &Path, vip: &str, backend: &str, instance: &str) -> Result<()> {
    let text = format!(
        "interfaces: [eth0]
services:
  - name: api
    vips: [{vip}]
    port: 6443
    backends: [{{ name: cp1, address: {backend} }}]
    health: {{ type: tcp, timeout: 1s }}
vrrp:
  - {instance}
"
    );
    fs::write(path, text).context("writing a configuration")
}

/// What it said.
struct Report {
    json: Value,
    code: Option<i32>,
}

impl Report {
    fn of(node: &LbNode, words: &[&str]) -> Result<Self> {
        let binary = binary().display().to_string();
        let words = [&[binary.as_str(), "doctor", "--json"], words].concat();
        let clock = Recorder::new();
        let said = output(&mut run_on(node, &words))?;
        let took = clock.now();
        crate::measured(&format!("doctor: {took:?}"));
        ensure!(took < PATIENCE, "it took {took:?}");
        let text = String::from_utf8_lossy(&said.stdout);
        let json = serde_json::from_str(&text)
            .with_context(|| format!("{text}{}", String::from_utf8_lossy(&said.stderr)))?;
        Ok(Self { json, code: said.status.code() })
    }

    fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn ensure(&self, id: &str, severity: &str) -> Result<()> {
        self.ensure_any(id, &[severity])
    }

    fn ensure_any(&self, id: &str, severities: &[&str]) -> Result<()> {
        let of: Vec<&Value> = self.findings().iter().filter(|it| it["id"] == id).collect();
        let is_it = |it: &&&Value| severities.iter().any(|severity| it["severity"] == *severity);
        ensure!(of.iter().any(|it| is_it(&it)), "no {id} of {severities:?}: {:#}", self.json);
        Ok(())
    }

    fn ensure_none(&self, id: &str) -> Result<()> {
        let found = self.findings().iter().find(|it| it["id"] == id);
        ensure!(found.is_none(), "{found:#?}");
        Ok(())
    }

    fn ensure_no_problem(&self) -> Result<()> {
        let is_bad = |it: &&Value| it["severity"] == "problem";
        let problems: Vec<&Value> = self.findings().iter().filter(is_bad).collect();
        ensure!(problems.is_empty() && self.code == Some(0), "{:?}: {problems:#?}", self.code);
        Ok(())
    }
}
