//! Beside others' rules and programs: a packet filter that tracks connections and masquerades as that of a
//! kube-proxy does, a classifier of old, and another program of tcx.

use std::os::fd::AsFd as _;

use anyhow::{Result, ensure};
use lb_tests::bpf::{self, Program, TCX_NEXT};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::topology::API_PORT;
use lb_tests::xdp_pass::Attached;
use rstest::rstest;

use super::{At, Here, OURS, tcx};
use crate::scene::PATIENCE;

/// What a kube-proxy in nftables mode has, and firewalls: connections are tracked, what fits none is dropped, what
/// is marked is masqueraded.
const RULES: &str = "
table inet proxy {
    chain input {
        type filter hook input priority filter; policy accept;
        ct state invalid counter drop
        ct state established,related counter accept
        tcp dport { 6443, 7443 } ct state new counter accept
    }
    chain output {
        type filter hook output priority filter; policy accept;
        ct state invalid counter drop
    }
    chain services {
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr 10.96.0.1 tcp dport 443 meta mark set meta mark or 0x4000 dnat ip to 10.77.0.1:6443
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        meta mark and 0x4000 != 0 counter masquerade fully-random
    }
}
";

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn others_rules_and_programs_go_on_and_stay(#[values(V4, V6)] family: Family) -> Result<()> {
    let here = Here::build()?;
    let netns = &here.node().host.netns;
    let rules = here.lab.directory().join("rules.nft");
    std::fs::write(&rules, RULES)?;
    netns.run("nft", ["-f", &rules.display().to_string()])?;
    netns.run("tc", ["qdisc", "add", "dev", "eth0", "clsact"])?;
    let qdiscs = netns.run("tc", ["qdisc", "show", "dev", "eth0"])?;
    let other = Program::load_classifier(&TCX_NEXT)?;
    let _attached = netns.on_thread(|| Attached::at_egress(&other, "eth0"))?;
    let _statistics = bpf::measure_run_time()?;
    let alone = tcx(here.node())?;
    ensure!(alone.len() == 1, "{alone:?}");

    let _server = here.server(At::Wildcard, family, API_PORT)?;
    let mut controller = here.balanced(family, API_PORT)?;
    for server_closes_first in [false, true] {
        here.many(family, server_closes_first)?;
    }
    here.connect(here.target(family))?.close()?;
    // Before the other one, which might end the chain, and does not: it sees what we let go.
    let both = tcx(here.node())?;
    ensure!(both[0] == OURS && both[1..] == alone, "{both:?}");
    ensure!(bpf::info(other.as_fd())?.runs > 1000, "the other program saw nothing");
    let ruleset = netns.run("nft", ["list", "table", "inet", "proxy"])?;
    let invalid = ruleset.lines().filter(|line| line.contains("invalid"));
    ensure!(invalid.clone().count() == 2, "{ruleset}");
    ensure!(invalid.clone().all(|line| line.contains("packets 0 ")), "{ruleset}");

    controller.sigterm()?;
    ensure!(controller.wait_exit(PATIENCE)?.success());
    ensure!(tcx(here.node())? == alone);
    ensure!(netns.run("tc", ["qdisc", "show", "dev", "eth0"])? == qdiscs);
    Ok(())
}
