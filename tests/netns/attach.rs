//! Where the program is attached, and what the controller does when interfaces and addresses change
//! under it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_tests::eventually::{Seen, eventually};
use lb_tests::plain;
use lb_tests::steady::Steady;
use lb_tests::topology::{API_PORT, Host, Plan, Topology};
use lb_tests::transfer::{MIB, TransferServer, Way, transfer};
use lb_tests::xdp_pass::{Attached, XdpPass};

use super::scene::{PATIENCE, STEADY, Scene, Settings, Traces, offload, xdp};

/// From an interface's return to an answer through it.
const BACK: Duration = Duration::from_secs(5);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn an_interface_that_is_made_again_is_attached_again_and_serves() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.balanced()?;
    ensure!(scene.some_connections(50)?.answered == 50);

    for _ in 0..2 {
        scene.lab.fabric.ip("link del lb1")?;
        // Long enough for the controller to see that it is gone: the status says so.
        eventually("the interface to be given up", PATIENCE, || {
            let status = controller.status()?;
            let xdp = status["xdp"].as_array().map_or(0, Vec::len);
            Ok(if xdp == 0 { Seen::Done(()) } else { Seen::Pending(status["xdp"].to_string()) })
        })?;
        let _pass = replug(&scene.lab)?;
        let since = Instant::now();
        scene.wait_served(BACK)?;
        println!("served {:?} after the interface came back", since.elapsed());
        ensure!(xdp(scene.node())?.is_some(), "no program on the new interface");
        let report = scene.some_connections(50)?;
        ensure!(report.answered == 50, "{report:?}");
        scene.wait_all_up(&controller)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn an_interface_that_is_made_again_at_once_is_attached_again_and_serves() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.balanced()?;
    let (before, _) = xdp(scene.node())?.expect("a program");
    // Within one look of the controller at the network.
    scene.lab.fabric.ip("link del lb1")?;
    let _pass = replug(&scene.lab)?;
    scene.wait_served(BACK)?;
    let (after, _) = xdp(scene.node())?.expect("a program on the new interface");
    ensure!(before == after, "program {after} where {before} was");
    let report = scene.some_connections(50)?;
    ensure!(report.answered == 50, "{report:?}");
    scene.wait_all_up(&controller)
}

/// The interface is away for a moment only, and TCP waits: its connections need not break.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_outlive_an_interface_that_is_made_again() -> Result<()> {
    let scene = Scene::build()?;
    let _controller = scene.balanced()?;
    let steady = Steady::start(&scene.lab.client.netns.handle(), scene.target(), STEADY)?;
    scene.lab.fabric.ip("link del lb1")?;
    let _pass = replug(&scene.lab)?;
    scene.wait_served(BACK)?;
    steady.finish().map(drop)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn generic_xdp_serves_with_gro_off_and_gives_it_back() -> Result<()> {
    let scene = Scene::build()?;
    scene.meet_neighbours()?;
    let node = scene.node();
    node.host.netns.run("ethtool", ["-K", "eth0", "gro", "on"])?;
    let before = Traces::of(node)?;
    ensure!(offload(node, "generic-receive-offload")? == "on");

    let settings = Settings { xdp_mode: "generic", ..Settings::default() };
    let mut controller = scene.controller(&settings)?;
    controller.start()?;
    scene.wait_all_up(&controller)?;
    ensure!(offload(node, "generic-receive-offload")? == "off", "GRO is on under generic XDP");
    ensure!(xdp(node)?.is_some_and(|(_, mode)| mode == "xdpgeneric"), "{:?}", xdp(node)?);
    ensure!(controller.status()?["xdp"][0]["mode"] == "generic");
    let traffic = scene.traffic()?;
    traffic.goes_on()?;

    // A successor must not take the state that it finds for the operator's.
    controller.kill9()?;
    controller.start()?;
    traffic.goes_on()?;
    ensure!(offload(node, "generic-receive-offload")? == "off");
    ensure!(controller.status()?["xdp"][0]["mode"] == "generic");
    traffic.ensure_nothing_lost("generic XDP")?;

    controller.sigterm()?;
    ensure!(controller.wait_exit(PATIENCE)?.success());
    assert_eq!(Traces::of(node)?, before);
    Ok(())
}

/// As `ip link` attaches one; it is gone for good then.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn another_owner_s_program_is_replaced_where_the_configuration_says_so() -> Result<()> {
    let scene = Scene::build()?;
    let node = scene.node();
    let theirs = {
        let _inside = node.host.netns.enter()?;
        let pass = XdpPass::load()?;
        let link = pass.attach("eth0")?;
        let (id, _) = xdp(node)?.expect("a program");
        drop(link);
        let words = format!("net attach xdp id {id} dev eth0");
        node.host.netns.run("bpftool", words.split(' '))?;
        id
    };
    ensure!(xdp(node)?.is_some_and(|(id, _)| id == theirs), "{:?}", xdp(node)?);
    let mut controller = scene.controller(&Settings::default())?;
    let yaml = scene.yaml(&controller, &Settings::default());
    controller.write_config(&format!("{yaml}\nreplace_xdp: true\n"))?;
    controller.start()?;
    scene.wait_all_up(&controller)?;
    let log = controller.log();
    ensure!(log.contains(&format!("removed XDP program {theirs} (fixture)")), "{log}");
    let (ours, mode) = xdp(node)?.expect("our program");
    ensure!(ours != theirs && mode == "xdp", "{ours} {mode}");
    let report = scene.some_connections(50)?;
    ensure!(report.answered == 50, "{report:?}");
    ensure!(controller.stop(false)?.success());
    ensure!(xdp(node)?.is_none(), "{:?}", xdp(node)?);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_vip_that_someone_removes_is_added_again_within_a_second() -> Result<()> {
    let scene = Scene::build()?;
    let _controller = scene.balanced()?;
    let traffic = scene.traffic()?;
    let (netns, vip) = (&scene.node().host.netns, scene.lab.vip());
    for _ in 0..5 {
        netns.ip(&format!("addr del {vip}/32 dev eth0"))?;
        eventually("the VIP to be back", Duration::from_secs(1), || {
            let addresses = netns.ip("-o -4 addr show dev eth0")?;
            let line = addresses.lines().find(|line| line.contains(&format!(" {vip}/32 ")));
            Ok(match line {
                Some(line) if line.contains("deprecated") => Seen::Done(()),
                _ => Seen::Pending(addresses),
            })
        })?;
        traffic.goes_on()?;
    }
    traffic.ensure_nothing_lost("without a VIP for a moment")
}

/// Jumbo frames have several buffers, which XDP programs take only if they say so (Linux 5.18).
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn jumbo_frames_are_balanced() -> Result<()> {
    let lab = Topology::build(&Plan { backends: 1, ..Plan::default() })?;
    let pass = XdpPass::load_for_frags()?;
    let hosts = [("client", &lab.client), ("lb1", &lab.lbs[0].host), ("cp1", &lab.backends[0])];
    let _attached = hosts
        .iter()
        .map(|(far_end, host)| plug_again(&lab, far_end, host, 9000, &pass))
        .collect::<Result<Vec<_>>>()?;
    let _server = TransferServer::start(
        &lab.backends[0].netns,
        SocketAddr::from((lab.backends[0].address, API_PORT)),
    )?;
    let controller = plain::start_up(&lab)?;
    ensure!(controller.status()?["xdp"][0]["mode"] == "native");
    ensure!(controller.log().contains("frames of several buffers"), "{}", controller.log());
    for (way, direction) in [(Way::Upload, "requests"), (Way::Download, "replies")] {
        let target = plain::target(&lab);
        let hashes = lab.client.netns.on_thread(|| transfer(target, way, 64 * MIB))?;
        ensure!(hashes.sent == hashes.received);
        eventually("frames of this size to be counted", PATIENCE, || {
            let seen = controller.status()?["services"][0]["backends"][0][direction].clone();
            let (bytes, packets) = (seen["bytes"].as_u64(), seen["packets"].as_u64());
            let is_large = bytes.zip(packets).is_some_and(|(b, p)| b > 64 * MIB && b / p > 4000);
            Ok(if is_large { Seen::Done(()) } else { Seen::Pending(seen.to_string()) })
        })?;
    }
    Ok(())
}

/// Makes the LB node's veth pair again, as the topology made it, with other MAC addresses. The far end
/// passes frames for as long as what this returns is there.
pub(crate) fn replug(lab: &Topology) -> Result<Attached> {
    plug_again(lab, "lb1", &lab.lbs[0].host, 1500, &XdpPass::load()?)
}

fn plug_again(
    lab: &Topology,
    far_end: &str,
    host: &Host,
    mtu: u32,
    pass: &XdpPass,
) -> Result<Attached> {
    const OFFLOADS_OFF: &str = "tx off rx off tso off gso off gro off";
    let (fabric, inside) = (&lab.fabric, host.netns.name());
    if fabric.ip(&format!("link show {far_end}")).is_ok() {
        fabric.ip(&format!("link del {far_end}"))?;
    }
    let peer = format!("peer name eth0 mtu {mtu} netns {inside}");
    fabric.ip(&format!("link add {far_end} mtu {mtu} type veth {peer}"))?;
    let offloads = OFFLOADS_OFF.split_whitespace();
    fabric.run("ethtool", ["-K", far_end].into_iter().chain(offloads.clone()))?;
    host.netns.run("ethtool", ["-K", "eth0"].into_iter().chain(offloads))?;
    fabric.ip(&format!("link set {far_end} master br-front up"))?;
    host.netns.ip(&format!("addr add {}/24 dev eth0", host.address))?;
    host.netns.ip("link set eth0 up")?;
    let _inside = fabric.enter()?;
    pass.attach(far_end)
}
