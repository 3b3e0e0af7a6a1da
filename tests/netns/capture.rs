//! `fairlead capture`: what it keeps of a connection is what tcpdump sees at both ends, byte for byte, and Wireshark
//! reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::capture::Capture;
use lb_tests::command::{Process, Signal, run};
use lb_tests::controller::Controller;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::family::Family;
use lb_tests::plain::{self, EchoClient};
use lb_tests::topology::{Plan, Topology};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};

const PATIENCE: Duration = Duration::from_secs(10);
const PORT: u16 = 45_100;
/// `epb_flags`.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A frame of a capture of ours.
struct Frame {
    bytes: Vec<u8>,
    comments: Vec<String>,
    direction: u32,
    at: Duration,
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_capture_has_the_bytes_that_both_ends_see() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    // Or tcpdump would show checksums that are not there yet.
    for host in lab.backends.iter().chain([&lab.client]) {
        host.netns.run("ethtool", ["-K", "eth0", "tx", "off", "tso", "off", "gso", "off"])?;
    }
    let _servers = plain::echo_servers(&lab)?;
    for family in Family::ALL {
        let mut controller = plain::start_up_of(&lab, family)?;
        of_family(&lab, family, &controller)?;
        controller.stop(false)?;
    }
    Ok(())
}

fn of_family(lab: &Topology, family: Family, controller: &Controller<'_>) -> Result<()> {
    let target = plain::target_of(lab, family);
    let client = SocketAddr::new(lab.client.address_of(family), PORT);
    let name = |host: &str| lab.directory().join(format!("{host}-{}.pcap", family.pick(4, 6)));
    let hosts = lab.backends.iter().chain([&lab.client]);
    let captures: Vec<_> = hosts
        .map(|host| {
            let file = name(&host.name);
            // A link of the lab may be shared with health checks, which have other ports.
            Capture::start(&host.netns, "eth0", "tcp", &file).map(|capture| (capture, file))
        })
        .collect::<Result<_>>()?;
    let file = lab.directory().join("ours.pcapng");
    let process = start(controller, lab, &[&client.to_string(), &target.to_string()], &file)?;
    lab.client.netns.on_thread(|| {
        let mut echo = EchoClient::connect(target, Some(PORT))?;
        echo.exchange("here")?;
        echo.exchange(&"a long line ".repeat(100))?;
        echo.bye()
    })?;
    // tcpdump gets its packets from the kernel once a second.
    std::thread::sleep(Duration::from_millis(1500));
    let said = end(process, lab)?;
    ensure!(said.contains("frames captured"), "{said}");
    let mut seen = BTreeMap::new();
    for (capture, file) in captures {
        capture.finish()?;
        seen.extend(frames_of(&file)?.into_iter().map(|bytes| (bytes, ())));
    }
    let ours = read(&file)?;
    ensure!(ours.len() >= 20 && ours.len() % 2 == 0, "{} frames", ours.len());
    for frame in &ours {
        ensure!(seen.contains_key(&frame.bytes), "nobody else saw {:02x?}", frame.bytes);
        ensure!(frame.comments[1].starts_with("forward: "), "{:?}", frame.comments);
    }
    for pair in ours.chunks(2) {
        ensure!((pair[0].direction, pair[1].direction) == (INBOUND, OUTBOUND));
        ensure!(pair[0].comments == pair[1].comments && pair[0].at < pair[1].at);
        ensure!(pair[0].bytes != pair[1].bytes, "it was not translated");
    }
    let flows: BTreeSet<&String> = ours.iter().map(|frame| &frame.comments[0]).collect();
    ensure!(flows.len() == 1, "{flows:?}");
    let flow = flows.first().context("no flow")?;
    ensure!(flow.starts_with(&format!("{client} > {target} = ")), "{flow}");
    wireshark(&file, ours.len(), flow)?;
    explained(controller, &file, client, target)
}

/// The flow is there still, and the capture's first packet goes where it did.
fn explained(
    controller: &Controller<'_>,
    file: &Path,
    client: SocketAddr,
    target: SocketAddr,
) -> Result<()> {
    let path = file.to_str().context("a path in UTF-8")?;
    let said = controller.cli(&["trace", "--explain", path, "--packet", "1", "--json"])?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(said["packets"][0]["packet"] == 1, "{said:#}");
    let trace = &said["packets"][0]["traces"][0];
    ensure!(trace["client"] == client.ip().to_string(), "{said:#}");
    ensure!(trace["vip"] == target.to_string() && trace["verdict"] == "forward", "{said:#}");
    let all = controller.cli(&["trace", "--explain", path]);
    let all = all.unwrap_or_else(|error| format!("{error:#}"));
    ensure!(all.contains(&format!("packet 1: {client} > {target}")), "{all}");
    ensure!(!all.contains("packet 3:"), "what comes back is no question: {all}");
    Ok(())
}

/// Returns when packets are captured.
fn start(
    controller: &Controller<'_>,
    lab: &Topology,
    words: &[&str],
    file: &Path,
) -> Result<Process> {
    let path = file.to_str().context("a path in UTF-8")?;
    let words = [&["capture", "-w", path], words].concat();
    let log = lab.directory().join("capture");
    let process = controller.cli_spawn(&words, &log)?;
    eventually("packets to be captured", PATIENCE, || {
        let said = fs::read_to_string(log.with_extension("err"))?;
        Ok(if said.contains("capturing") { Seen::Done(()) } else { Seen::Pending(said) })
    })?;
    Ok(process)
}

/// Interrupts it; what it said.
fn end(mut process: Process, lab: &Topology) -> Result<String> {
    process.signal(Signal::SIGINT)?;
    let status = process.wait(PATIENCE)?;
    let said = fs::read_to_string(lab.directory().join("capture.err"))?;
    ensure!(status.success(), "{status}: {said}");
    Ok(said)
}

fn frames_of(file: &Path) -> Result<Vec<Vec<u8>>> {
    let mut reader = PcapReader::new(fs::File::open(file)?)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet?.data.into_owned());
    }
    Ok(frames)
}

fn read(file: &Path) -> Result<Vec<Frame>> {
    let mut reader = PcapNgReader::new(fs::File::open(file)?)?;
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block? else { continue };
        let mut comments = Vec::new();
        let mut direction = 0;
        for option in &packet.options {
            if let EnhancedPacketOption::Comment(text) = option {
                comments.push(text.to_string());
            }
            if let EnhancedPacketOption::Flags(flags) = option {
                direction = *flags;
            }
        }
        ensure!(packet.data.len() == usize::try_from(packet.original_len)?, "a frame is cut off");
        let bytes = packet.data.into_owned();
        frames.push(Frame { bytes, comments, direction, at: packet.timestamp });
    }
    Ok(frames)
}

/// As many frames, each with its comments and direction, none of them malformed.
fn wireshark(file: &Path, frames: usize, flow: &str) -> Result<()> {
    let said = run(Command::new("tshark").arg("-r").arg(file).args([
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-e",
        "frame.comment",
        "-e",
        "frame.packet_flags_direction",
        "-e",
        "tcp.flags.str",
        "-e",
        "_ws.malformed",
    ]))?;
    let lines: Vec<&str> = said.lines().collect();
    ensure!(lines.len() == frames, "{said}");
    for line in lines {
        let fields: Vec<&str> = line.split('|').collect();
        ensure!(fields[0].contains(flow) && fields[0].contains("forward: "), "{line}");
        ensure!(!fields[1].is_empty() && !fields[2].is_empty(), "{line}");
        ensure!(fields[3].is_empty(), "{line}");
    }
    Ok(())
}

/// A capture of before is not lost to one that never was.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_capture_that_is_refused_leaves_the_file_alone() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let controller = plain::start_up_of(&lab, Family::V4)?;
    let file = lab.directory().join("before.pcapng");
    fs::write(&file, "before")?;
    let path = file.to_str().context("a path in UTF-8")?;
    let refused = controller.cli(&["capture", "--backend", "nobody", "-w", path]);
    let refused = format!("{:#}", refused.err().context("there is no such backend")?);
    ensure!(refused.contains("there is no backend nobody"), "{refused}");
    ensure!(fs::read_to_string(&file)? == "before");
    // One at a time, and who is killed leaves nothing behind.
    let mut process = start(&controller, &lab, &[], &lab.directory().join("first.pcapng"))?;
    let refused = controller.cli(&["capture", "-w", path]).err().context("two capture")?;
    ensure!(format!("{refused:#}").contains("one at a time"), "{refused:#}");
    process.kill()?;
    let json = ["capture", "--duration", "1s", "--json", "-w", path];
    let said = eventually("the next one", PATIENCE, || {
        Ok(match controller.cli(&json) {
            Ok(said) => Seen::Done(said),
            Err(error) => Seen::Pending(format!("{error:#}")),
        })
    })?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(said["suppressed"] == 0 && said["lost"] == 0, "{said}");
    Ok(())
}
