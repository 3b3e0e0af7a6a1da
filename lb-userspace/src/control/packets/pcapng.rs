//! Packets as a capture file: pcapng, as draft-ietf-opsawg-pcapng has it. Pure.
//!
//! A packet is one frame as it came in and, if something left, another one. Both have the same first comment,
//! which names their flow.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapResult};

use super::{Context, describe};
use crate::admin::model::flows::Flow;
use crate::admin::model::packet::{Class, Missing};
use crate::datapath::packets::Seen;

/// `if_tsresol`: nanoseconds.
const NANOSECONDS: u8 = 9;
/// `epb_flags`: inbound, outbound.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// What left by another interface than it came in by, or came in by one that is gone.
const ELSEWHERE: &str = "elsewhere";

/// A capture file that grows.
pub struct Capture {
    writer: PcapNgWriter<Vec<u8>>,
    /// Numbers in the file, by the kernel's.
    interfaces: BTreeMap<u32, u32>,
    elsewhere: u32,
}

impl Capture {
    /// With an interface for each of the datapath's. Of each frame there are `snap` bytes at most.
    ///
    /// # Errors
    /// None that a vector could have.
    pub fn new(context: &Context, snap: u32) -> PcapResult<Self> {
        let section = SectionHeaderBlock {
            // The library writes the time of statistics as one number, which is right in this order only.
            endianness: Endianness::Big,
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(concat!(
                "fairlead ",
                env!("CARGO_PKG_VERSION")
            )))],
            ..SectionHeaderBlock::default()
        };
        let mut writer = PcapNgWriter::with_section_header(Vec::new(), section)?;
        let names = context.interfaces.values().map(String::as_str).chain([ELSEWHERE]);
        for name in names {
            let options = vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ];
            let linktype = DataLink::ETHERNET;
            let block = InterfaceDescriptionBlock { linktype, snaplen: snap, options };
            writer.write_block(&block.into_block().into_owned())?;
        }
        let interfaces: BTreeMap<u32, u32> = context.interfaces.keys().copied().zip(0..).collect();
        let elsewhere = u32::try_from(interfaces.len()).unwrap_or(u32::MAX);
        Ok(Self { writer, interfaces, elsewhere })
    }

    /// Adds a packet, in and out.
    ///
    /// # Errors
    /// None that a vector could have.
    pub fn add(&mut self, seen: &Seen, context: &Context) -> PcapResult<()> {
        let record = &seen.record;
        let packet = describe(record, &seen.came, &seen.left, context);
        let flow = packet.flow.as_ref().map_or_else(|| "no flow".to_owned(), name);
        let verdict =
            format!("{}: {} ({})", packet.verdict.as_str(), packet.reason, packet.counter);
        let came_by = self.interfaces.get(&record.ifindex).copied().unwrap_or(self.elsewhere);
        let left_by = if packet.verdict == Class::Redirect { self.elsewhere } else { came_by };
        let frames = [
            (came_by, INBOUND, record.entered, record.length_in, &seen.came),
            (left_by, OUTBOUND, record.left, record.length_out, &seen.left),
        ];
        for (interface_id, direction, at, original_len, bytes) in frames {
            if bytes.is_empty() {
                continue;
            }
            let time = context.epoch + Duration::from_nanos(at);
            self.writer.write_pcapng_block(EnhancedPacketBlock {
                interface_id,
                timestamp: time.duration_since(UNIX_EPOCH).unwrap_or_default(),
                original_len,
                data: Cow::Borrowed(bytes),
                options: vec![
                    EnhancedPacketOption::Comment(Cow::Borrowed(&flow)),
                    EnhancedPacketOption::Comment(Cow::Borrowed(&verdict)),
                    EnhancedPacketOption::Flags(direction),
                ],
            })?;
        }
        Ok(())
    }

    /// Adds how many packets are not in it, as of `now`.
    ///
    /// # Errors
    /// None that a vector could have.
    pub fn missing(&mut self, missing: Missing, now: SystemTime) -> PcapResult<()> {
        let time = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.writer
            .write_pcapng_block(InterfaceStatisticsBlock {
                interface_id: self.elsewhere,
                timestamp: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
                options: vec![
                    InterfaceStatisticsOption::IsbIfDrop(missing.suppressed),
                    InterfaceStatisticsOption::IsbOsDrop(missing.lost),
                ],
            })
            .map(drop)
    }

    /// What has been added since this was asked last.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }
}

/// Both sides of a flow: the client's, and that of the backend.
fn name(flow: &Flow) -> String {
    let Flow { client, vip, source, backend_address, .. } = flow;
    let service = flow.service.as_deref().unwrap_or("?");
    let backend = flow.backend.as_deref().unwrap_or("?");
    format!("{client} > {vip} = {source} > {backend_address} ({service}/{backend})")
}
