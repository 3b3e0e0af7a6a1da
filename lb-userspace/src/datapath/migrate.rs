//! Copies what a predecessor's maps hold into maps of another layout or size.
//!
//! A layout grows at its end only, and zero means "unknown" in what was added: a longer value is cut,
//! a shorter one filled up with zeros.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Context as _;
use aya::Pod;
use aya::maps::MapData;
use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::flow::FlowKey;
use lb_common::map;

use super::flows::is_it;
use super::object::pinned;
use super::pins::MapDir;
use super::sweep::Family;
use super::sys::{self, Walk};
use super::table::FlowTable;

/// Elements copied at a time.
const SLICE: usize = 4096;

/// What describes services, and is replaced whole: in this order, so that nothing names what is not
/// there yet.
const STATE: [&str; 6] =
    [map::LINKS, map::LEASES, map::VIPS, map::ENDPOINTS, map::BACKENDS, map::ALLOWED];

/// What is copied besides, each in a way of its own.
const OTHERS: [&str; 5] = [map::TABLES, map::SERVICES, map::FILTERS, map::FLOWS, map::FLOWS6];

/// All that is copied from.
pub(super) fn read() -> impl Iterator<Item = &'static str> {
    STATE.into_iter().chain(OTHERS)
}

/// Copies services, backends, tables and flows. The old program still runs.
pub(super) fn copy_all(old: &MapDir, new: &MapDir) -> anyhow::Result<usize> {
    let (from, to) = (&*old.path, &*new.path);
    for name in STATE {
        copy(from, to, name).with_context(|| format!("copying {name}"))?;
    }
    copy_tables(old, new).context("copying the selection tables")?;
    for name in [map::SERVICES, map::FILTERS] {
        copy(from, to, name).with_context(|| format!("copying {name}"))?;
    }
    copy_flows(from, to)
}

/// Copies flows that the new maps don't have: once before the program is replaced, and once after, for
/// those that were made meanwhile.
pub(super) fn copy_flows(from: &Path, to: &Path) -> anyhow::Result<usize> {
    Ok(copy_table::<Ipv4Be>(from, to, map::FLOWS)? + copy_table::<Ipv6Be>(from, to, map::FLOWS6)?)
}

/// Both tables are in this process's memory. Original halves first: to the program a reply half alone is what is left of
/// a flow that its client takes up again in mid-stream, and not one in its handshake.
fn copy_table<A: Family>(from: &Path, to: &Path, name: &str) -> anyhow::Result<usize>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    let open = |dir| anyhow::Ok(FlowTable::open(&pinned(dir, name)?)?);
    let open = |dir| open(dir).with_context(|| format!("copying {name}"));
    let (from, to) = (open(from)?, open(to)?);
    let mut copied = 0;
    let mut half = vec![0; size_of::<FlowHalf<A>>()];
    for originals in [true, false] {
        from.all_bytes(|key, old| {
            resize(old, &mut half);
            if let (Some(key), Some(mut half)) =
                (sys::from_bytes::<FlowKey<A>>(key), sys::from_bytes::<FlowHalf<A>>(&half))
                && half.is_original() == originals
            {
                if originals {
                    // Whose SYN is answered meanwhile is noted in the old table alone.
                    half.note_answer();
                }
                let is_news = to.find(&key).is_some_and(|copy| was_confirmed(&half, &copy));
                copied += usize::from(to.store(&key, &half, is_news).is_ok());
            }
        });
    }
    Ok(copied)
}

/// The old program has confirmed it since it was copied.
fn was_confirmed<A: Family>(half: &FlowHalf<A>, copy: &FlowHalf<A>) -> bool {
    half.is_confirmed()
        && !copy.is_confirmed()
        && !half.has(flag::CLOSING)
        && is_it(half, copy, false)
}

fn copy(from: &Path, to: &Path, name: &str) -> anyhow::Result<()> {
    let (from, to) = (pinned(from, name)?, pinned(to, name)?);
    let (key_size, from_size) = sizes(&from)?;
    let mut value = vec![0; sizes(&to)?.1];
    Walk::new(key_size, from_size, SLICE).all(from.fd().as_fd(), |key, old| {
        resize(old, &mut value);
        match sys::update(to.fd().as_fd(), key, &value, 0) {
            // The new map is smaller: arrays say so beyond their end, hashes when they are full.
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => Ok(()),
            done => done,
        }
    })?;
    Ok(())
}

fn resize(old: &[u8], new: &mut [u8]) {
    let common = old.len().min(new.len());
    new[..common].copy_from_slice(&old[..common]);
    new[common..].fill(0);
}

fn sizes(map: &MapData) -> anyhow::Result<(usize, usize)> {
    let info = map.info()?;
    Ok((info.key_size() as usize, info.value_size() as usize))
}

/// Tables are maps of their own: the new array gets references to the same ones.
fn copy_tables(old: &MapDir, new: &MapDir) -> anyhow::Result<()> {
    let (from, to) = (pinned(&old.path, map::TABLES)?, pinned(&new.path, map::TABLES)?);
    let mut id = [0; 4];
    for index in 0..from.info()?.max_entries() {
        let key = index.to_ne_bytes();
        if !sys::lookup(from.fd().as_fd(), &key, &mut id)? {
            continue;
        }
        let Some(table) = old.table(index) else {
            log::warn!("service {index} has no pinned table, and no backend until it gets one");
            continue;
        };
        sys::update(to.fd().as_fd(), &key, &fd_bytes(&table.fd().as_fd())?, 0)?;
        new.pin_table(index, &table)?;
    }
    Ok(())
}

/// A descriptor as bpf(2) takes it for the value of a map of maps.
fn fd_bytes(fd: &impl std::os::fd::AsRawFd) -> io::Result<[u8; 4]> {
    u32::try_from(fd.as_raw_fd()).map(u32::to_ne_bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::resize;

    #[test]
    fn values_are_cut_or_filled_up() {
        let mut longer = [9; 4];
        resize(&[1, 2], &mut longer);
        assert_eq!(longer, [1, 2, 0, 0]);
        let mut shorter = [9; 2];
        resize(&[1, 2, 3], &mut shorter);
        assert_eq!(shorter, [1, 2]);
    }
}
