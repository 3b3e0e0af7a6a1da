//! Flows and their changes. Pure.
//!
//! ```text
//! record:   kind (1) | id | source | backend | original | replies (1) | reply, if there are replies
//! id:       family (1) | client | VIP
//! endpoint: address (4 or 16) | port (2)
//! progress: end of what it sent (4) | acknowledged (4) | end of its FIN (4) | flags (4)
//! ```

use std::net::{IpAddr, SocketAddr};

use lb_common::nat::Kind;

use super::super::record::{Change, FlowId, FlowRecord, Progress};
use super::PacketError;
use super::reader::Reader;
use super::writer::Writer;

const PUT: u8 = 1;
const REMOVED: u8 = 2;

pub(super) fn emit_change(change: &Change, writer: &mut Writer) {
    match change {
        Change::Put(record) => {
            writer.u8(PUT);
            writer.sized(|writer| emit(record, writer));
        }
        Change::Removed(id) => {
            writer.u8(REMOVED);
            writer.sized(|writer| emit_id(id, writer));
        }
    }
}

/// `None`: a change of a kind that need not be known.
pub(super) fn parse_change(reader: &mut Reader<'_>) -> Result<Option<Change>, PacketError> {
    let tag = reader.u8()?;
    let mut part = reader.sized()?;
    Ok(match tag {
        PUT => Some(Change::Put(parse(&mut part)?)),
        REMOVED => {
            let family = Family::parse(&mut part)?;
            Some(Change::Removed(parse_id(family, &mut part)?))
        }
        _ => None,
    })
}

pub(super) fn emit(record: &FlowRecord, writer: &mut Writer) {
    let FlowRecord { id, kind, source, backend, original, reply } = record;
    writer.u8(*kind as u8);
    emit_id(id, writer);
    emit_endpoint(*source, writer);
    emit_endpoint(*backend, writer);
    emit_progress(original, writer);
    writer.u8(reply.is_some().into());
    if let Some(reply) = reply {
        emit_progress(reply, writer);
    }
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Result<FlowRecord, PacketError> {
    let kind = reader.u8()?;
    let kind = Kind::from_u8(kind).ok_or(PacketError::Kind(kind))?;
    let family = Family::parse(reader)?;
    let id = parse_id(family, reader)?;
    let source = family.endpoint(reader)?;
    let backend = family.endpoint(reader)?;
    let original = parse_progress(reader)?;
    let has_replies = reader.u8()? != 0;
    let reply = has_replies.then(|| parse_progress(reader)).transpose()?;
    Ok(FlowRecord { id, kind, source, backend, original, reply })
}

fn emit_id(id: &FlowId, writer: &mut Writer) {
    writer.u8(if id.vip.is_ipv4() { 4 } else { 6 });
    emit_endpoint(id.client, writer);
    emit_endpoint(id.vip, writer);
}

fn parse_id(family: Family, reader: &mut Reader<'_>) -> Result<FlowId, PacketError> {
    let (client, vip) = (family.endpoint(reader)?, family.endpoint(reader)?);
    Ok(FlowId { client, vip })
}

fn emit_endpoint(endpoint: SocketAddr, writer: &mut Writer) {
    match endpoint.ip() {
        IpAddr::V4(v4) => writer.bytes(&v4.octets()),
        IpAddr::V6(v6) => writer.bytes(&v6.octets()),
    }
    writer.u16(endpoint.port());
}

fn emit_progress(progress: &Progress, writer: &mut Writer) {
    let Progress { seq_end, ack, fin_end, flags } = *progress;
    [seq_end, ack, fin_end, flags].into_iter().for_each(|number| writer.u32(number));
}

fn parse_progress(reader: &mut Reader<'_>) -> Result<Progress, PacketError> {
    let (seq_end, ack, fin_end) = (reader.u32()?, reader.u32()?, reader.u32()?);
    Ok(Progress { seq_end, ack, fin_end, flags: reader.u32()? })
}

/// The family of all addresses of a flow.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn parse(reader: &mut Reader<'_>) -> Result<Self, PacketError> {
        match reader.u8()? {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            other => Err(PacketError::Family(other)),
        }
    }

    fn endpoint(self, reader: &mut Reader<'_>) -> Result<SocketAddr, PacketError> {
        let address = match self {
            Self::V4 => IpAddr::from(*reader.array::<4>()?),
            Self::V6 => IpAddr::from(*reader.array::<16>()?),
        };
        Ok(SocketAddr::new(address, reader.u16()?))
    }
}
