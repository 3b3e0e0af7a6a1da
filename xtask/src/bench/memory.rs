//! What idle connections take: of the balancer's processes, and of the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use socket2::SockRef;

use super::lab::Standing;

/// A process that is limited to 20,000 files and needs two for each connection can hold no more.
pub(crate) const CONNECTIONS: usize = 9_800;
const PATIENCE: Duration = Duration::from_secs(3);
/// Until what was allocated has been accounted for.
const SETTLE: Duration = Duration::from_millis(300);

/// In KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Memory {
    pub(crate) connections: usize,
    /// Resident, of the balancer's processes, with the connections open.
    pub(crate) processes_kib: i64,
    /// Of that, what came with the connections.
    pub(crate) processes_grown_kib: i64,
    /// Of BPF maps, which are allocated before the first connection.
    pub(crate) maps_kib: i64,
    /// By how much the kernel's slabs (sockets, connection tracking) grew; client's and backends' included.
    pub(crate) slab_grown_kib: i64,
}

impl Memory {
    /// What the balancer takes: its own, and of the kernel's growth what is not there without it.
    pub(crate) fn of_balancer(&self, direct: &Self) -> i64 {
        let kernel = self.slab_grown_kib - direct.slab_grown_kib;
        self.processes_kib + self.maps_kib + kernel.max(0)
    }
}

/// Opens them all, looks, and closes them.
pub(super) fn measure(standing: &Standing<'_>, connections: usize) -> Result<Memory> {
    let (processes, slab) = (resident(standing), slab()?);
    let target = standing.web();
    let open = standing.lab.client.netns.on_thread(|| {
        let connect = |_| TcpStream::connect_timeout(&target, PATIENCE);
        let streams: std::io::Result<Vec<_>> = (0..connections).map(connect).collect();
        streams.with_context(|| format!("opening {connections} connections"))
    })?;
    sleep(SETTLE);
    let memory = Memory {
        connections: open.len(),
        processes_kib: resident(standing),
        processes_grown_kib: resident(standing) - processes,
        maps_kib: standing.pids().into_iter().map(maps).sum(),
        slab_grown_kib: self::slab()? - slab,
    };
    for stream in &open {
        // By RST: none of them shall linger in the rounds to come.
        SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    }
    Ok(memory)
}

fn resident(standing: &Standing<'_>) -> i64 {
    standing.pids().into_iter().map(resident_of).sum()
}

/// In KiB, without BPF maps that it has in its memory, which are [counted](maps) as such; nothing of a process that is
/// gone.
pub(super) fn resident_of(pid: u32) -> i64 {
    let mappings = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let (mut is_map, mut sum) = (false, 0);
    for line in mappings.lines() {
        // A mapping's first line begins with its addresses, those of its figures with a name.
        if line.split(' ').next().is_some_and(|first| !first.ends_with(':')) {
            is_map = line.ends_with("anon_inode:bpf-map");
        } else if !is_map {
            sum += number(line, "Rss:").unwrap_or_default();
        }
    }
    sum
}

fn slab() -> Result<i64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    number(&text, "Slab:").context("no Slab in /proc/meminfo")
}

/// Of the BPF maps that a process has open, each counted once, in KiB.
pub(super) fn maps(pid: u32) -> i64 {
    let mut seen = BTreeMap::new();
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    for entry in entries {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let (Some(id), Some(bytes)) = (number(&text, "map_id:"), number(&text, "memlock:")) {
            seen.insert(id, bytes);
        }
    }
    seen.values().sum::<i64>() / 1024
}

/// The one behind a name.
fn number(text: &str, name: &str) -> Option<i64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_their_names() {
        let text = "map_type:\t1\nmemlock:\t4096\nmap_id:\t7\n";
        assert_eq!((number(text, "memlock:"), number(text, "map_id:")), (Some(4096), Some(7)));
        assert_eq!(number(text, "frozen:"), None);
        assert_eq!(number("Slab:   123 kB\n", "Slab:"), Some(123));
    }

    #[test]
    fn what_the_client_takes_is_nobodys_but_its_own() {
        let direct = Memory { slab_grown_kib: 100, ..Memory::default() };
        let haproxy = Memory { processes_kib: 50, slab_grown_kib: 300, ..direct };
        assert_eq!(haproxy.of_balancer(&direct), 250);
        let nat = Memory { maps_kib: 80, slab_grown_kib: 90, ..direct };
        assert_eq!(nat.of_balancer(&direct), 80);
    }
}
