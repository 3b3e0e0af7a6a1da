//! Forgets flows that are over, in bounded slices, and counts those that are not.
//!
//! A slice reads a few thousand halves in one system call, so what it says of the last of them is old.
//! Each removal looks again and takes in one step; a half that a client made new meanwhile is put back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use lb_common::addr::Ipv4Be;
use lb_common::backend::BackendId;
use lb_common::conntrack::{FlowHalf, TIME_WAIT_CLIENT_CLOSED, Timeouts, flag};
use lb_common::flow::FlowKey;

use super::maps::Maps;
use super::sys::{self, Progress, Walk};

type Key = FlowKey<Ipv4Be>;
type Half = FlowHalf<Ipv4Be>;

/// Halves read at a time.
const SLICE: usize = 4096;
/// A reply half without an original half is kept for so long: it may be about to get one.
const ORPHAN: u64 = 5_000_000_000;
/// An idle reply half is looked at closely no sooner.
const REPLY_IDLE: u64 = 60_000_000_000;

/// What a complete pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Established flows.
    pub established: u64,
    pub half_open: u64,
    /// Flows per backend, of both maps.
    pub connections: BTreeMap<BackendId, u64>,
    /// Backends that any half names.
    pub referenced: BTreeSet<BackendId>,
    /// Flows that this pass forgot.
    pub removed: u64,
}

/// Which map a pass is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Established,
    HalfOpen,
}

/// Passes over both flow maps, one slice at a time.
pub struct Sweep {
    walk: Walk,
    stage: Stage,
    census: Census,
    /// Of the last complete pass: decides how long what is over may stay.
    last: Census,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            walk: Walk::new(size_of::<Key>(), size_of::<Half>(), SLICE),
            stage: Stage::Established,
            census: Census::default(),
            last: Census::default(),
        }
    }
}

impl Sweep {
    /// Sweeps one slice. `Some`: a pass is complete.
    pub fn slice(
        &mut self,
        maps: &Maps,
        timeouts: &BTreeMap<u32, Timeouts>,
        now: u64,
    ) -> anyhow::Result<Option<Census>> {
        let capacity = u64::from(maps.established.info()?.max_entries()) / 2;
        let rules = Rules { timeouts, squeeze: squeeze(self.last.established, capacity), now };
        let (established, half_open) = (maps.established.fd().as_fd(), maps.half_open.fd().as_fd());
        let (stage, census) = (self.stage, &mut self.census);
        let progress = match stage {
            Stage::Established => self.walk.slice(established, |key, value| {
                visit(key, value, |key, half| {
                    rules.established(census, established, half_open, key, half)
                })
            })?,
            Stage::HalfOpen => self.walk.slice(half_open, |key, value| {
                visit(key, value, |key, half| rules.half_open(census, half_open, key, half))
            })?,
        };
        match (progress, stage) {
            (Progress::More, _) => Ok(None),
            (Progress::Complete, Stage::Established) => {
                self.stage = Stage::HalfOpen;
                Ok(None)
            }
            (Progress::Complete, Stage::HalfOpen) => {
                self.stage = Stage::Established;
                self.last = std::mem::take(&mut self.census);
                Ok(Some(self.last.clone()))
            }
        }
    }
}

fn visit(
    key: &[u8],
    value: &[u8],
    rule: impl FnOnce(&Key, &Half) -> io::Result<()>,
) -> io::Result<()> {
    match (sys::from_bytes(key), sys::from_bytes(value)) {
        (Some(key), Some(half)) => rule(&key, &half),
        _ => Ok(()),
    }
}

/// The longest that a closed flow stays, by how full the map is: a table full of TIME_WAIT refuses
/// new connections.
const fn squeeze(established: u64, capacity: u64) -> u64 {
    if established * 10 > capacity * 9 {
        0
    } else if established * 4 > capacity * 3 {
        TIME_WAIT_CLIENT_CLOSED
    } else {
        u64::MAX
    }
}

struct Rules<'a> {
    timeouts: &'a BTreeMap<u32, Timeouts>,
    squeeze: u64,
    now: u64,
}

impl Rules<'_> {
    fn timeouts(&self, service: u32) -> Timeouts {
        let mut timeouts = self.timeouts.get(&service).copied().unwrap_or_default();
        timeouts.closing = timeouts.closing.min(self.squeeze);
        timeouts
    }

    fn idle(&self, half: &Half) -> u64 {
        self.now.saturating_sub(half.last_seen)
    }

    fn established(
        &self,
        census: &mut Census,
        established: BorrowedFd<'_>,
        half_open: BorrowedFd<'_>,
        key: &Key,
        half: &Half,
    ) -> io::Result<()> {
        let timeouts = self.timeouts(half.service);
        let closing = half.has(flag::CLOSING);
        let peer_key = half.translation.peer_key();
        let over = if half.is_original() {
            (closing || self.idle(half) >= timeouts.established)
                && match find(established, &peer_key)? {
                    Some(reply) => half.is_expired(&reply, &timeouts, self.now),
                    None => self.idle(half) >= ORPHAN,
                }
        } else {
            (closing || self.idle(half) >= REPLY_IDLE)
                && self.idle(half) >= ORPHAN
                && find(established, &peer_key)?
                    .is_none_or(|original| original.translation.peer_key() != *key)
        };
        if over && is_still(established, key, half)? {
            census.removed += u64::from(half.is_original());
            let is_copy = |found: &Half| found.has(flag::PROMOTED);
            remove_if(half_open, key, is_copy)?;
            remove_if(established, key, |found| is_same(found, half))?;
            if half.is_original() {
                remove_if(half_open, &peer_key, is_copy)?;
                remove_if(established, &peer_key, |reply| {
                    reply.translation.peer_key() == *key
                        && (reply.has(flag::CLOSING) || self.idle(reply) >= TIME_WAIT_CLIENT_CLOSED)
                })?;
            }
            return Ok(());
        }
        census.referenced.insert(half.backend);
        if half.is_original() {
            census.established += 1;
            *census.connections.entry(half.backend).or_default() += 1;
        }
        Ok(())
    }

    fn half_open(
        &self,
        census: &mut Census,
        half_open: BorrowedFd<'_>,
        key: &Key,
        half: &Half,
    ) -> io::Result<()> {
        let timeouts = self.timeouts(half.service);
        let moved = half.has(flag::PROMOTED) && self.idle(half) >= TIME_WAIT_CLIENT_CLOSED;
        let closed = half.has(flag::CLOSING) && self.idle(half) >= TIME_WAIT_CLIENT_CLOSED;
        let over = moved || closed || self.idle(half) >= timeouts.half_open;
        if over {
            return remove_if(half_open, key, |found| is_same(found, half));
        }
        if !half.has(flag::PROMOTED) {
            census.referenced.insert(half.backend);
            census.half_open += u64::from(half.is_original());
        }
        Ok(())
    }
}

fn is_still(map: BorrowedFd<'_>, key: &Key, half: &Half) -> io::Result<bool> {
    Ok(find(map, key)?.is_some_and(|found| is_same(&found, half)))
}

/// A slice is some milliseconds old when its last element is looked at, and what is over is soon used
/// again: only what is as it was may be removed.
fn is_same(found: &Half, half: &Half) -> bool {
    found.last_seen == half.last_seen
        && found.flags == half.flags
        && found.translation == half.translation
}

/// Removes a half if `condition` holds for it. Looking and removing is one step: this thread may be
/// stopped between two. What should have stayed is put back, unless another took its place.
fn remove_if(map: BorrowedFd<'_>, key: &Key, condition: impl Fn(&Half) -> bool) -> io::Result<()> {
    if !find(map, key)?.is_some_and(|found| condition(&found)) {
        return Ok(());
    }
    let mut value = [0; size_of::<Half>()];
    if sys::take(map, sys::as_bytes(key), &mut value)?
        && !sys::from_bytes(&value).is_some_and(|taken| condition(&taken))
        && let Err(error) = sys::update(map, sys::as_bytes(key), &value, sys::NOEXIST)
        && error.raw_os_error() != Some(libc::EEXIST)
    {
        return Err(error);
    }
    Ok(())
}

fn find(map: BorrowedFd<'_>, key: &Key) -> io::Result<Option<Half>> {
    let mut value = [0; size_of::<Half>()];
    Ok(sys::lookup(map, sys::as_bytes(key), &mut value)?.then(|| sys::from_bytes(&value)).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_keeps_what_is_over_less_long() {
        assert_eq!(squeeze(100, 1000), u64::MAX);
        assert_eq!(squeeze(750, 1000), u64::MAX);
        assert_eq!(squeeze(751, 1000), TIME_WAIT_CLIENT_CLOSED);
        assert_eq!(squeeze(901, 1000), 0);
    }
}
