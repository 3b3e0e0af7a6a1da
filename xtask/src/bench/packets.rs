//! Packets a second on one core: segments of known flows, made in the kernel and redirected into the LB
//! node's link, until what became of them is dropped at the link's other end.

use std::net::{SocketAddrV4, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::bpf::{Program, XDP_TX};
use lb_tests::live::{self, Segments, XDP_DROP};
use lb_tests::netns::Netns;
use lb_tests::packet::Mac;
use lb_tests::topology::{API_PORT, Plan, Topology};
use lb_tests::xdp_pass::{Attached, XdpPass};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::lab::{self, Fabric, Standing};
use super::peer::Peer;
use super::progress::Progress;
use super::stats::Summary;

const FIRST_PORT: u16 = 40_000;
const FLOWS: u16 = 1024;
const PATIENCE: Duration = Duration::from_secs(3);
/// At least this part of the frames must have come through. What the node is too slow for is lost and not counted:
/// nftables takes a third of what is sent. Less than that by half is no matter of speed.
const ARRIVED_LEAST: f64 = 0.15;

/// What the LB node's program does, in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Drop,
    Reflect,
    BalanceOne,
    BalanceMany,
    Nftables,
}

impl Does {
    const ALL: [Self; 5] =
        [Self::Drop, Self::Reflect, Self::BalanceOne, Self::BalanceMany, Self::Nftables];

    const fn label(self) -> &'static str {
        match self {
            Self::Drop => "drop all (XDP_DROP)",
            Self::Reflect => "send all back (XDP_TX)",
            Self::BalanceOne => "Fairlead nat, 1 flow",
            Self::BalanceMany => "Fairlead nat, 1,024 flows",
            Self::Nftables => "nftables, 1 flow",
        }
    }

    const fn flows(self) -> u16 {
        match self {
            Self::BalanceMany => FLOWS,
            Self::Drop | Self::Reflect | Self::BalanceOne | Self::Nftables => 1,
        }
    }
}

/// How many a second there were of a kind, in millions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Packets {
    pub(crate) program: &'static str,
    pub(crate) flows: u16,
    pub(crate) millions_s: Summary,
}

/// Some rounds of all kinds, each of them for `span`.
pub(super) fn run(
    binary: &Path,
    rounds: usize,
    span: Duration,
    progress: &Progress,
) -> Result<Vec<Packets>> {
    // Towards the LB alone, so that its link is the last one.
    let plan = Fabric::Bare.plan(Peer::FairleadNat);
    let bare = Topology::build(&Plan { backends: 0, ..plan })?;
    let balanced = lab::build(Peer::FairleadNat, Fabric::Bare)?;
    let _standing = Standing::start(Peer::FairleadNat, &balanced, binary)?;
    let kernel = lab::build(Peer::Nftables, Fabric::Bare)?;
    let _standing_kernel = Standing::start(Peer::Nftables, &kernel, binary)?;
    let _flows = [open(&balanced)?, open(&kernel)?];
    let sink = live::drop_marked().context("loading a sink")?;
    for lab in [&bare, &balanced] {
        lab.attached().last().context("no program on the LB's link")?.replace(&sink)?;
    }
    let _attached = receive(&kernel, &sink)?;
    let mut rates = Does::ALL.map(|does| (does, Vec::new()));
    for _ in 0..rounds {
        for (does, rates) in &mut rates {
            progress.step(&format!("packets a second: {}", does.label()))?;
            rates.push(match does {
                Does::Drop => alone(&bare, &XDP_DROP, *does, span)?,
                Does::Reflect => alone(&bare, &XDP_TX, *does, span)?,
                Does::BalanceOne | Does::BalanceMany => rate(&balanced, *does, span)?,
                Does::Nftables => rate(&kernel, *does, span)?,
            });
        }
    }
    let all = rates.into_iter().filter_map(|(does, rates)| {
        let millions_s = Summary::of(&rates)?;
        Some(Packets { program: does.label(), flows: does.flows(), millions_s })
    });
    Ok(all.collect())
}

/// Has a node without XDP take frames that are redirected to it, and its link drop what it makes of them.
fn receive(lab: &Topology, sink: &Program) -> Result<[Attached; 2]> {
    let netns = &lab.lbs.first().context("a lab without an LB node")?.host.netns;
    // The segments are of known flows, but their sequence numbers are not.
    netns.sysctl("netfilter/nf_conntrack_tcp_be_liberal", "1")?;
    let pass = XdpPass::load()?;
    let node = {
        let _inside = netns.enter()?;
        pass.attach("eth0")?
    };
    let _inside = lab.fabric.enter()?;
    Ok([node, Attached::new(sink, "lb1")?])
}

/// Of a node that runs one of the bare programs.
fn alone(lab: &Topology, program: &[u64], does: Does, span: Duration) -> Result<f64> {
    let node = lab.lbs.first().context("a lab without an LB node")?;
    let program = Program::load(program)?;
    let _attached = {
        let _inside = node.host.netns.enter()?;
        Attached::new(&program, "eth0")?
    };
    rate(lab, does, span)
}

/// Millions a second.
fn rate(lab: &Topology, does: Does, span: Duration) -> Result<f64> {
    let node = lab.lbs.first().context("a lab without an LB node")?;
    let segments = Segments {
        source: SocketAddrV4::new(lab.client.address, FIRST_PORT),
        target: SocketAddrV4::new(lab.vip(), API_PORT),
        source_mac: mac(&lab.client.netns)?,
        target_mac: mac(&node.host.netns)?,
        flows: does.flows(),
    };
    let (netns, interface) = match does {
        Does::Drop => (&node.host.netns, "eth0"),
        Does::Reflect | Does::BalanceOne | Does::BalanceMany | Does::Nftables => {
            (&lab.fabric, "lb1")
        }
    };
    let before = received(netns, interface)?;
    let sent = segments.send(&lab.fabric, "lb1", span)?;
    let arrived = received(netns, interface)? - before;
    let share = arrived / sent.frames as f64;
    ensure!(share >= ARRIVED_LEAST, "{}: {share:.3} of the frames arrived", does.label());
    Ok(arrived / sent.took.as_secs_f64() / 1e6)
}

/// The flows, from the first port on; they stay open as long as this is held.
fn open(lab: &Topology) -> Result<Vec<TcpStream>> {
    let target = SocketAddrV4::new(lab.vip(), API_PORT);
    lab.client.netns.on_thread(|| {
        let connect = |port: u16| -> Result<TcpStream> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddrV4::new(lab.client.address, port).into())?;
            socket.connect_timeout(&target.into(), PATIENCE)?;
            Ok(socket.into())
        };
        (FIRST_PORT..FIRST_PORT + FLOWS).map(connect).collect()
    })
}

fn mac(netns: &Netns) -> Result<Mac> {
    let said = netns.ip("-o link show eth0")?;
    let text = said.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    let bytes = text.context("no MAC")?.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<std::result::Result<_, _>>()?;
    Mac::try_from(bytes.as_slice()).context("a MAC of another length")
}

/// Frames that came in by an interface.
fn received(netns: &Netns, interface: &str) -> Result<f64> {
    let said = netns.run("ip", ["-j", "-s", "link", "show", interface])?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    said[0]["stats64"]["rx"]["packets"].as_f64().context("no count of packets")
}
