//! Packets, of a datapath that makes them up.

use std::io;

use futures_util::future::BoxFuture;
use lb_common::addr::{Ipv4Be, PortBe, Ports};
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::counters::Counter;
use lb_common::flow::FlowKey;
use lb_common::link::NextHop;
use lb_common::nat::{Kind, Translation};
use lb_common::time::Ticks;
use lb_common::trace::{Flow, Halves, Record, Tally, found};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;
use crate::admin::model::packet::{Class, Line, Missing, PacketQuery, Wish};
use crate::admin::query::PacketView;
use crate::control::flows::Directory;
use crate::control::packets::filter;
use crate::datapath::packets::{Packets, Seen};

/// As the controller would.
pub(super) fn follow(wish: &Wish, directory: Directory, fails: bool) -> Result<PacketView, String> {
    filter(wish, &directory, 60)?;
    if fails {
        return Err("not permitted".to_owned());
    }
    let interfaces = [(3, "eth0".to_owned())].into();
    Ok(PacketView { directory, interfaces, packets: Box::new(Made { turns: 0 }) })
}

/// Two packets, of which the second one is followed by more than can be told.
struct Made {
    turns: u64,
}

impl Packets for Made {
    fn next(&mut self) -> BoxFuture<'_, io::Result<Vec<Seen>>> {
        Box::pin(async move {
            if self.turns == 2 {
                std::future::pending::<()>().await;
            }
            self.turns += 1;
            Ok(vec![seen()])
        })
    }

    fn tally(&self) -> anyhow::Result<Tally> {
        let many = if self.turns == 2 { 7 } else { 0 };
        Ok(Tally { due: 0, matched: self.turns + many, suppressed: many, lost: 0 })
    }
}

fn seen() -> Seen {
    let ports = Ports::new(PortBe::new(40_000), PortBe::new(6443));
    let (client, vip) = (Ipv4Be::from_bytes([10, 0, 0, 2]), Ipv4Be::from_bytes([10, 0, 1, 0]));
    let key = FlowKey::new(client, vip, ports);
    let half = FlowHalf {
        translation: Translation::new(&key, &key),
        flags: flag::ORIGINAL | flag::SYN,
        seq_end: 0,
        ack: 0,
        fin_end: 0,
        backend: 1,
        epoch: 0,
        vip: 0,
        service: 1,
        kind: Kind::Nat as u8,
        attempts: 0,
        last_seen: Ticks(0),
        checked: Ticks(0),
        next_hop: NextHop::UNKNOWN,
        #[cfg(feature = "second-layout")]
        later: 0,
    };
    let record = Record {
        entered: 1,
        left: 2,
        ifindex: 3,
        cpu: 0,
        counter: Counter::ForwardRequest as u32,
        found: found::FLOW,
        length_in: 60,
        length_out: 60,
        captured_in: 60,
        captured_out: 60,
        flow: Flow { v4: Halves { key, original: half, reply: half } },
    };
    Seen { record, came: vec![0; 60], left: vec![0; 60] }
}

/// What the client sees.
async fn lines(server: &Server, query: PacketQuery) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let see = |_: &str, line| {
        lines.push(line);
        Ok(())
    };
    server.client().packets(&query, || (), see).await?;
    Ok(lines)
}

#[tokio::test]
async fn it_ends_after_as_many_packets_as_were_asked_for() {
    let server = Server::start();
    let lines = lines(&server, PacketQuery { count: Some(1), ..PacketQuery::default() }).await;
    let [Line::Packet(packet)] = &lines.unwrap()[..] else { panic!("not one packet") };
    assert_eq!(packet.verdict, Class::Forward);
    assert!(packet.opens_flow);
    let flow = packet.flow.as_ref().unwrap();
    assert_eq!(flow.client, "10.0.0.2:40000".parse().unwrap());
    assert_eq!(flow.backend.as_deref(), Some("cp1"));
    assert_eq!(packet.interface.as_deref(), Some("eth0"));
}

#[tokio::test(start_paused = true)]
async fn it_ends_after_its_time_and_says_what_is_missing() {
    let server = Server::start();
    let begun = tokio::time::Instant::now();
    let query = PacketQuery { duration: Some("90s".to_owned()), ..PacketQuery::default() };
    let lines = lines(&server, query).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 90);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[2], Line::Missing(Missing { suppressed: 7, lost: 0 }));
}

#[tokio::test]
async fn what_there_is_none_of_is_not_looked_for() {
    let server = Server::start();
    let query = PacketQuery { backend: Some("api/cp9".to_owned()), ..PacketQuery::default() };
    let error = lines(&server, query).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no backend api/cp9");
    server.flows.fail();
    let error = lines(&server, PacketQuery::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "not permitted");
}

/// The file, and how many frames it has with which comments and directions.
async fn captured(query: PacketQuery) -> Vec<(Vec<String>, u32, usize)> {
    let server = Server::start();
    let mut file = Vec::new();
    let see = |piece: &[u8]| {
        file.extend_from_slice(piece);
        Ok(())
    };
    server.client().capture(&query, || (), see).await.unwrap();
    let mut reader = PcapNgReader::new(&file[..]).unwrap();
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block.unwrap() else { continue };
        let (mut comments, mut direction) = (Vec::new(), 0);
        for option in &packet.options {
            if let EnhancedPacketOption::Comment(text) = option {
                comments.push(text.to_string());
            }
            if let EnhancedPacketOption::Flags(flags) = option {
                direction = *flags;
            }
        }
        frames.push((comments, direction, packet.data.len()));
    }
    assert_eq!(reader.interfaces().len(), 2, "eth0, and what is elsewhere");
    frames
}

#[tokio::test]
async fn a_capture_has_each_packet_twice_with_one_comment() {
    let frames = captured(PacketQuery { count: Some(2), ..PacketQuery::default() }).await;
    let flow = "10.0.0.2:40000 > 10.0.1.0:6443 = 10.0.0.2:40000 > 10.0.0.11:6443 (api/cp1)";
    let verdict = "forward: to the flow's backend (forward_request)";
    let comments = vec![flow.to_owned(), verdict.to_owned()];
    let expected = [(comments.clone(), 1, 60), (comments, 2, 60)];
    assert_eq!(frames, [expected.clone(), expected].concat());
}

#[tokio::test]
async fn only_a_capture_has_so_many_bytes_of_a_frame() {
    let server = Server::start();
    let query = PacketQuery { snap: Some(96), ..PacketQuery::default() };
    let error = lines(&server, query).await.unwrap_err();
    assert_eq!(error.to_string(), "snap is for /v1/capture");
}
