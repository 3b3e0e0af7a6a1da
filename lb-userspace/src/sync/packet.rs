//! What two nodes say to each other, inside of the encrypted messages of a connection. Pure.
//!
//! ```text
//!  0        1
//! +--------+---------------------------------------------------+
//! |  type  | body, integers in network byte order              |
//! +--------+---------------------------------------------------+
//! ```
//!
//! | | message | body |
//! |---|---|---|
//! | 1 | hello | oldest and newest version (1 each), instance (8), capabilities (4), listens at, name |
//! | 2 | serving | count (2), VIPs that the sender serves |
//! | 3 | changes | number of the first (8), sender's clock (8), count (2), changes |
//! | 4 | ack | number of the next change (8), that clock (8), flows held (8) |
//! | 5 | digest | round (4), resync (1), flows (8), 1,024 digests of buckets (8 each) |
//! | 6 | request | round (4), buckets (128: a bit for each); none: another round, please |
//! | 7 | records | round (4), count (2), records |
//! | 8 | end | round (4), the buckets that are complete |
//! | 9 | keepalive | |
//! | 10 | bye | reason (1) |
//!
//! An address is its family (4 or 6) and its bytes; an endpoint has the port behind them. A change is a tag (1),
//! a length (1) and as many bytes; a record likewise without the tag.
//!
//! **Versions.** `hello` keeps its form for ever, and both sides speak the newest version that both have. What
//! follows the known part of a body, record or change is skipped, and so are changes of unknown tags and messages
//! whose type has the bit [`OPTIONAL`]: a version adds by these, and counts one up where the other side has to know.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::buckets::{Buckets, COUNT, Digest};
use super::record::{Change, FlowRecord};
use reader::Reader;
use writer::Writer;

mod reader;
mod record;
mod writer;

#[cfg(test)]
mod tests;

/// The version that this file writes, and the oldest that it reads.
pub const VERSION: u8 = 1;
pub const OLDEST: u8 = 1;

/// The longest message, in bytes: what one of Noise's holds.
pub const MAX_MESSAGE: usize = 65_535 - 16;
/// Whoever does not know a type with this bit skips the message.
pub const OPTIONAL: u8 = 0x80;
/// Changes and records in a message: the longest are 110 bytes.
pub const MAX_CHANGES: usize = 512;
/// VIPs of a node: as the datapath has room for.
pub const MAX_VIPS: usize = 3072;
/// Bytes of a node's name.
const MAX_NAME: usize = 64;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Hello(Hello),
    /// Whose flows the sender replicates from here on.
    Serving(BTreeSet<IpAddr>),
    Changes(Changes),
    Ack(Ack),
    /// Of all flows that the sender serves, `flows` of them.
    Digest {
        round: u32,
        /// Changes were not sent: whatever differs is to be asked for at once, not a part of it.
        is_resync: bool,
        flows: u64,
        digest: Box<Digest>,
    },
    /// All of these buckets, please; none of them: another round.
    Request {
        round: u32,
        buckets: Box<Buckets>,
    },
    /// Flows of the buckets that were asked for.
    Records {
        round: u32,
        records: Vec<FlowRecord>,
    },
    /// There are no more of them.
    End {
        round: u32,
        buckets: Box<Buckets>,
    },
    KeepAlive,
    /// The connection is about to be closed.
    Bye(Bye),
}

/// Who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub oldest: u8,
    pub newest: u8,
    /// Of each start of a controller another one.
    pub instance: u64,
    /// None is known yet.
    pub capabilities: u32,
    /// Where the sender listens, which is what its peers know it by.
    pub listen: SocketAddr,
    /// For people.
    pub name: String,
}

/// What happened to flows, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The number of the first; they are counted through.
    pub first: u64,
    /// When they were sent, in nanoseconds of the sender's clock: an [`Ack`] says it back.
    pub sent: u64,
    pub changes: Vec<Change>,
}

/// Changes were carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Number of the first change that was not.
    pub next: u64,
    pub sent: u64,
    /// Flows that the sender holds for its peer, by its last count.
    pub held: u64,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bye {
    /// The controller ends.
    Ending,
    /// No version is common to both.
    Version,
    /// The peer is not configured.
    Stranger,
    /// There is a newer connection, or another key.
    Replaced,
    /// Something else.
    Other(u8),
}

impl Bye {
    const fn code(self) -> u8 {
        match self {
            Self::Ending => 1,
            Self::Version => 2,
            Self::Stranger => 3,
            Self::Replaced => 4,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Ending,
            2 => Self::Version,
            3 => Self::Stranger,
            4 => Self::Replaced,
            other => Self::Other(other),
        }
    }
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    #[error("it ends too early")]
    Short,
    #[error("it has the unknown type {0}")]
    Type(u8),
    #[error("it has an address of the unknown family {0}")]
    Family(u8),
    #[error("it has a flow of the unknown kind {0}")]
    Kind(u8),
    #[error("it has {0} elements, which are too many")]
    Many(usize),
    #[error("it has a name that is no text")]
    Name,
}

const HELLO: u8 = 1;
const SERVING: u8 = 2;
const CHANGES: u8 = 3;
const ACK: u8 = 4;
const DIGEST: u8 = 5;
const REQUEST: u8 = 6;
const RECORDS: u8 = 7;
const END: u8 = 8;
const KEEP_ALIVE: u8 = 9;
const BYE: u8 = 10;

impl Message {
    /// The bytes of a message; no longer than [`MAX_MESSAGE`] if its lists are no longer than they may be.
    pub fn emit(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::Hello(hello) => emit_hello(hello, &mut writer),
            Self::Serving(vips) => {
                writer.u8(SERVING);
                writer.count(vips.len());
                vips.iter().for_each(|vip| writer.address(*vip));
            }
            Self::Changes(Changes { first, sent, changes }) => {
                writer.u8(CHANGES);
                writer.u64(*first);
                writer.u64(*sent);
                writer.count(changes.len());
                changes.iter().for_each(|change| record::emit_change(change, &mut writer));
            }
            Self::Ack(Ack { next, sent, held }) => {
                writer.u8(ACK);
                [next, sent, held].into_iter().for_each(|number| writer.u64(*number));
            }
            Self::Digest { round, is_resync, flows, digest } => {
                writer.u8(DIGEST);
                writer.u32(*round);
                writer.u8((*is_resync).into());
                writer.u64(*flows);
                digest.0.iter().for_each(|bucket| writer.u64(*bucket));
            }
            Self::Request { round, buckets } => emit_buckets(REQUEST, *round, buckets, &mut writer),
            Self::Records { round, records } => {
                writer.u8(RECORDS);
                writer.u32(*round);
                writer.count(records.len());
                records.iter().for_each(|it| writer.sized(|writer| record::emit(it, writer)));
            }
            Self::End { round, buckets } => emit_buckets(END, *round, buckets, &mut writer),
            Self::KeepAlive => writer.u8(KEEP_ALIVE),
            Self::Bye(bye) => {
                writer.u8(BYE);
                writer.u8(bye.code());
            }
        }
        writer.finish()
    }

    /// Reads a message; `None`: one that need not be known.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, PacketError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8()? {
            HELLO => Self::Hello(parse_hello(&mut reader)?),
            SERVING => {
                let count = reader.count(MAX_VIPS)?;
                Self::Serving((0..count).map(|_| reader.address()).collect::<Result<_, _>>()?)
            }
            CHANGES => Self::Changes(parse_changes(&mut reader)?),
            ACK => {
                let (next, sent, held) = (reader.u64()?, reader.u64()?, reader.u64()?);
                Self::Ack(Ack { next, sent, held })
            }
            DIGEST => {
                let (round, is_resync, flows) = (reader.u32()?, reader.u8()? != 0, reader.u64()?);
                let mut digest = Box::<Digest>::default();
                for bucket in &mut digest.0 {
                    *bucket = reader.u64()?;
                }
                Self::Digest { round, is_resync, flows, digest }
            }
            REQUEST => {
                let (round, buckets) = parse_buckets(&mut reader)?;
                Self::Request { round, buckets }
            }
            RECORDS => {
                let (round, count) = (reader.u32()?, reader.count(MAX_CHANGES)?);
                let records = (0..count).map(|_| record::parse(&mut reader.sized()?));
                Self::Records { round, records: records.collect::<Result<_, _>>()? }
            }
            END => {
                let (round, buckets) = parse_buckets(&mut reader)?;
                Self::End { round, buckets }
            }
            KEEP_ALIVE => Self::KeepAlive,
            BYE => Self::Bye(Bye::from_code(reader.u8()?)),
            unknown if unknown & OPTIONAL != 0 => return Ok(None),
            unknown => return Err(PacketError::Type(unknown)),
        };
        Ok(Some(message))
    }
}

fn emit_hello(hello: &Hello, writer: &mut Writer) {
    let Hello { oldest, newest, instance, capabilities, listen, name } = hello;
    writer.u8(HELLO);
    writer.u8(*oldest);
    writer.u8(*newest);
    writer.u64(*instance);
    writer.u32(*capabilities);
    writer.endpoint(*listen);
    // A longer one is cut where a character ends.
    let end = (0..=name.len().min(MAX_NAME)).rev().find(|at| name.is_char_boundary(*at));
    let name = end.and_then(|end| name.get(..end)).unwrap_or_default();
    writer.sized(|writer| writer.bytes(name.as_bytes()));
}

fn parse_hello(reader: &mut Reader<'_>) -> Result<Hello, PacketError> {
    let (oldest, newest) = (reader.u8()?, reader.u8()?);
    let (instance, capabilities) = (reader.u64()?, reader.u32()?);
    let listen = reader.endpoint()?;
    let name = reader.sized()?.rest();
    if name.len() > MAX_NAME {
        return Err(PacketError::Many(name.len()));
    }
    let name = std::str::from_utf8(name).map_err(|_| PacketError::Name)?;
    if name.chars().any(char::is_control) {
        return Err(PacketError::Name);
    }
    Ok(Hello { oldest, newest, instance, capabilities, listen, name: name.to_owned() })
}

fn parse_changes(reader: &mut Reader<'_>) -> Result<Changes, PacketError> {
    let (first, sent) = (reader.u64()?, reader.u64()?);
    let count = reader.count(MAX_CHANGES)?;
    let mut changes = Vec::with_capacity(count);
    for _ in 0..count {
        changes.extend(record::parse_change(reader)?);
    }
    Ok(Changes { first, sent, changes })
}

fn emit_buckets(kind: u8, round: u32, buckets: &Buckets, writer: &mut Writer) {
    writer.u8(kind);
    writer.u32(round);
    writer.bytes(&buckets.to_bytes());
}

fn parse_buckets(reader: &mut Reader<'_>) -> Result<(u32, Box<Buckets>), PacketError> {
    let round = reader.u32()?;
    let bytes: &[u8; COUNT / 8] = reader.array()?;
    Ok((round, Box::new(Buckets::from_bytes(bytes))))
}
