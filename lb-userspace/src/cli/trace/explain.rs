//! `fairlead trace --explain FILE`: the question for the packets of a capture. I/O, but for `ends()`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};
use serde_json::Value;

use super::{Arguments, show};
use crate::admin::model::packet::Frame;
use crate::admin::model::trace::{TraceQuery, Traces, Verdict};
use crate::cli::{Negative, Usage, ask, print, print_json};
use crate::control::packets::describe_frame;

/// Different pairs of ends that are asked for, of a capture.
const MOST: usize = 64;
/// Of `epb_flags`.
const DIRECTION: u32 = 3;
const OUTBOUND: u32 = 2;
/// Block type of a section header of pcapng, alike in either byte order.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// A packet of a capture. Numbers are those that Wireshark shows.
struct Packet {
    number: u64,
    /// It left where it was captured.
    is_outbound: bool,
    frame: Frame,
}

/// Two ends, and the number of the first packet between them, from 1.
type Asked = (u64, SocketAddr, SocketAddr);

pub(super) fn run(arguments: &Arguments, file: &Path) -> Result<()> {
    let packets = read(file).with_context(|| format!("reading {}", file.display()))?;
    let asked = match arguments.packet {
        Some(number) => {
            let found = packets.iter().find(|packet| packet.number == number);
            let Packet { frame, .. } =
                found.with_context(|| format!("there is no packet {number}"))?;
            let (from, to) = ends(frame).with_context(|| format!("packet {number} is no TCP"))?;
            vec![(number, from, to)]
        }
        None => pairs(&packets),
    };
    if asked.is_empty() {
        bail!(Usage(format!("{} has no packet of TCP over Ethernet", file.display())));
    }
    let mut answers = Vec::new();
    for (number, from, to) in asked {
        let query = TraceQuery { client: from.to_string(), vip: Some(to.to_string()), port: None };
        let answer = ask(&arguments.socket.socket, async |client| client.trace(&query).await);
        answers.push((number, from, to, answer?));
    }
    tell(arguments, &answers)
}

fn tell(arguments: &Arguments, answers: &[(u64, SocketAddr, SocketAddr, Value)]) -> Result<()> {
    let mut all_forwarded = true;
    let mut shown = Vec::new();
    let mut json = Vec::new();
    for (number, from, to, answer) in answers {
        let traces: Traces = serde_json::from_value(answer.clone())
            .context("the controller's answer is another version's; use --json")?;
        all_forwarded &= traces.traces.iter().all(|trace| trace.verdict == Verdict::Forward);
        let text: Vec<String> = traces.traces.iter().map(show).collect();
        shown.push(format!("packet {number}: {from} > {to}\n{}", text.join("\n")));
        json.push(serde_json::json!({ "packet": number, "traces": answer["traces"] }));
    }
    if arguments.json {
        print_json(&serde_json::json!({ "packets": json }))?;
    } else {
        print(&shown.join("\n"))?;
    }
    if all_forwarded { Ok(()) } else { bail!(Negative) }
}

/// Each pair of ends once, by its first packet; what comes back is no question, nor what left.
fn pairs(packets: &[Packet]) -> Vec<Asked> {
    let mut seen = BTreeSet::new();
    let mut asked = Vec::new();
    for Packet { number, is_outbound, frame } in packets {
        let Some((from, to)) = ends(frame) else { continue };
        let is_new = !seen.contains(&(to, from)) && seen.insert((from, to));
        if is_new && !is_outbound && asked.len() < MOST {
            asked.push((*number, from, to));
        }
    }
    asked
}

/// `None`: it is no TCP.
fn ends(frame: &Frame) -> Option<(SocketAddr, SocketAddr)> {
    frame.tcp.as_ref()?;
    let from = SocketAddr::new(frame.source?, frame.source_port?);
    Some((from, SocketAddr::new(frame.destination?, frame.destination_port?)))
}

fn read(path: &Path) -> Result<Vec<Packet>> {
    let mut file = File::open(path)?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).context("it is shorter than any capture")?;
    file.rewind()?;
    if magic == PCAPNG { pcapng(file) } else { pcap(file) }
}

fn pcap(file: File) -> Result<Vec<Packet>> {
    let mut reader = PcapReader::new(file).map_err(explained)?;
    if reader.header().datalink != DataLink::ETHERNET {
        bail!("its packets are not of Ethernet");
    }
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(explained)?;
        let (number, frame) =
            (frames.len() as u64 + 1, describe_frame(&packet.data, packet.orig_len));
        frames.push(Packet { number, is_outbound: false, frame });
    }
    Ok(frames)
}

fn pcapng(file: File) -> Result<Vec<Packet>> {
    let mut reader = PcapNgReader::new(file).map_err(explained)?;
    let mut frames = Vec::new();
    let mut number = 0;
    while let Some(block) = reader.next_block() {
        let packet = match block.map_err(explained)? {
            Block::EnhancedPacket(packet) => packet.into_owned(),
            Block::SimplePacket(_) | Block::Packet(_) => {
                number += 1;
                continue;
            }
            Block::SectionHeader(_)
            | Block::InterfaceDescription(_)
            | Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::Unknown(_) => continue,
        };
        number += 1;
        let interface = reader.packet_interface(&packet);
        if interface.is_some_and(|interface| interface.linktype == DataLink::ETHERNET) {
            let is_outbound = packet.options.iter().any(|option| {
                matches!(option, EnhancedPacketOption::Flags(flags) if flags & DIRECTION == OUTBOUND)
            });
            let frame = describe_frame(&packet.data, packet.original_len);
            frames.push(Packet { number, is_outbound, frame });
        }
    }
    Ok(frames)
}

fn explained(error: PcapError) -> anyhow::Error {
    anyhow::Error::new(error).context("it is neither pcap nor pcapng, or it is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::packet::Tcp;

    fn frame(from: &str, to: &str) -> Frame {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let tcp = Tcp { flags: "SYN".to_owned(), seq: 1, ack: 0, window: 1, payload: 0 };
        Frame {
            source: Some(from.ip()),
            destination: Some(to.ip()),
            source_port: Some(from.port()),
            destination_port: Some(to.port()),
            tcp: Some(tcp),
            ..describe_frame(&[], 60)
        }
    }

    #[test]
    fn each_pair_of_ends_is_asked_for_once_and_not_what_comes_back() {
        let (client, vip) = ("10.0.0.2:40000", "10.0.0.100:6443");
        let (source, backend) = ("10.0.0.100:40000", "10.0.0.11:6443");
        let frames = [
            (false, describe_frame(&[], 60)),
            (false, frame(client, vip)),
            (true, frame(source, backend)),
            (false, frame(backend, source)),
            (true, frame(vip, client)),
            (false, frame(client, vip)),
            (false, frame("[fd00::2]:1", "[fd00::64]:6443")),
        ];
        let numbered = (1..).zip(frames);
        let packets: Vec<Packet> = numbered
            .map(|(number, (is_outbound, frame))| Packet { number, is_outbound, frame })
            .collect();
        let numbers: Vec<u64> = pairs(&packets).iter().map(|(number, ..)| *number).collect();
        assert_eq!(numbers, [2, 7]);
    }

    #[test]
    fn what_is_no_capture_is_said() {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in [("short", &b"ab"[..]), ("text", b"version: 1\nservices: []\n")] {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert!(read(&path).is_err(), "{name}");
        }
    }
}
