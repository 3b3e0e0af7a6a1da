//! Programs of others that want the same addresses, and sockets on them. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::import::findings::Findings;
use crate::import::keepalived;

/// Sockets and processes that are looked at.
const MOST_SOCKETS: usize = 262_144;
const MOST_PROCESSES: usize = 16_384;
const MOST_FILES: usize = 4096;
const MOST_CONFIG: u64 = 1 << 20;
/// Programs that hold VIPs, or forward.
const RIVALS: [&str; 4] = ["keepalived", "haproxy", "kube-vip", "ucarp"];

/// A socket that has to do with a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    /// Its process's name and number, if it can be found.
    pub process: Option<(String, u32)>,
}

/// A program of others in this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    pub name: String,
    pub pid: u32,
    /// What its configuration has, if it is a keepalived's and can be read.
    pub instances: Option<Vec<RivalInstance>>,
}

/// A virtual router of a keepalived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RivalInstance {
    pub name: String,
    pub interface: Option<String>,
    pub vrid: Option<u8>,
    pub vips: Vec<IpAddr>,
}

/// What else is on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// Listen on a VIP, or on all addresses, with the port of a service.
    pub listeners: Vec<Listener>,
    /// Connections of the node's own whose address here is a VIP.
    pub from_vips: usize,
    pub rivals: Vec<Rival>,
}

impl Processes {
    /// `services`: addresses and ports that clients use.
    pub(super) fn read(services: &BTreeSet<SocketAddr>) -> Self {
        let vips: BTreeSet<IpAddr> = services.iter().map(SocketAddr::ip).collect();
        let ports: BTreeSet<u16> = services.iter().map(SocketAddr::port).collect();
        let (mut listening, mut from_vips) = (BTreeMap::new(), 0);
        for socket in sockets() {
            let ip = socket.local.ip();
            if !socket.listens {
                from_vips += usize::from(vips.contains(&ip));
            } else if ports.contains(&socket.local.port())
                && (vips.contains(&ip) || ip.is_unspecified())
            {
                listening.insert(socket.inode, socket.local);
            }
        }
        let (rivals, owners) = processes(&listening.keys().copied().collect());
        let listener =
            |(inode, address)| Listener { address, process: owners.get(&inode).cloned() };
        Self { listeners: listening.into_iter().map(listener).collect(), from_vips, rivals }
    }
}

struct Socket {
    local: SocketAddr,
    listens: bool,
    inode: u64,
}

fn sockets() -> Vec<Socket> {
    let mut found = Vec::new();
    for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let Ok(file) = File::open(path) else { continue };
        let lines = BufReader::new(file).lines().map_while(Result::ok).take(MOST_SOCKETS);
        found.extend(lines.filter_map(|line| socket(&line)));
    }
    found
}

/// A line of proc_pid_net(5), `tcp`.
fn socket(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    let local = SocketAddr::new(self::address(address)?, u16::from_str_radix(port, 16).ok()?);
    let listens = *words.get(3)? == "0A";
    Some(Socket { local, listens, inode: words.get(9)?.parse().ok()? })
}

/// Words of 32 bits, each in the machine's order.
fn address(text: &str) -> Option<IpAddr> {
    let words: Option<Vec<u32>> = (0..text.len() / 8)
        .map(|index| u32::from_str_radix(text.get(index * 8..index * 8 + 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        // A socket of both families has IPv4 addresses in their mapped form.
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}

type Owners = BTreeMap<u64, (String, u32)>;

/// The rivals, and who has the sockets `wanted`.
fn processes(wanted: &BTreeSet<u64>) -> (Vec<Rival>, Owners) {
    let (mut rivals, mut owners) = (Vec::new(), Owners::new());
    let here = fs::read_link("/proc/self/ns/net").ok();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.take(MOST_PROCESSES) {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let Ok(name) = fs::read_to_string(directory.join("comm")) else { continue };
        let name = name.trim();
        if here.is_none() || fs::read_link(directory.join("ns/net")).ok() != here {
            continue;
        }
        if RIVALS.contains(&name) {
            let instances = (name == "keepalived").then(|| instances(&directory)).flatten();
            rivals.push(Rival { name: name.to_owned(), pid, instances });
        }
        if owners.len() < wanted.len() {
            let of = sockets_of(&directory).filter(|inode| wanted.contains(inode));
            owners.extend(of.map(|inode| (inode, (name.to_owned(), pid))));
        }
    }
    // A keepalived is several processes, of which the first has been started.
    rivals.sort_by_key(|rival| rival.pid);
    rivals.dedup_by(|later, first| later.name == first.name && later.instances == first.instances);
    (rivals, owners)
}

fn sockets_of(directory: &Path) -> impl Iterator<Item = u64> {
    let files = fs::read_dir(directory.join("fd")).into_iter().flatten().flatten();
    files.take(MOST_FILES).filter_map(|file| {
        let target = fs::read_link(file.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

/// What a keepalived's configuration has, as far as the import understands it.
fn instances(process: &Path) -> Option<Vec<RivalInstance>> {
    let words = fs::read(process.join("cmdline")).ok()?;
    let words: Vec<&str> =
        words.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
    let path = process.join("root").join(config_file(&words).trim_start_matches('/'));
    let mut bytes = Vec::new();
    File::open(&path).ok()?.take(MOST_CONFIG).read_to_end(&mut bytes).ok()?;
    let file: Rc<str> = path.to_string_lossy().into();
    let read = keepalived::read(&file, &bytes, None, &mut Findings::default()).ok()?;
    let instance = |it: keepalived::Instance| RivalInstance {
        name: it.name.text,
        interface: it.interface.map(|word| word.text),
        vrid: it.vrid.map(|vrid| vrid.value),
        vips: it.addresses.iter().chain(&it.excluded).map(|address| address.address).collect(),
    };
    Some(read.instances.into_iter().map(instance).collect())
}

/// What follows `-f` or `--use-file`, or what keepalived reads without.
fn config_file<'a>(words: &[&'a str]) -> &'a str {
    let after = words.iter().position(|word| ["-f", "--use-file"].contains(word));
    let joined = words.iter().find_map(|word| word.strip_prefix("--use-file="));
    let found = after.and_then(|at| words.get(at + 1).copied()).or(joined);
    found.unwrap_or("/etc/keepalived/keepalived.conf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_sockets() {
        let listening = "   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 \
                         00000000     0        0 4711 1 0000000000000000 100 0 0 10 0";
        let found = socket(listening).unwrap();
        assert_eq!(found.local, "127.0.0.1:6443".parse().unwrap());
        assert!(found.listens && found.inode == 4711);
        let mapped = listening.replace("0100007F", "0000000000000000FFFF00000100007F");
        assert_eq!(socket(&mapped).unwrap().local, "127.0.0.1:6443".parse().unwrap());
        let open = listening.replace(" 0A ", " 01 ");
        assert!(!socket(&open).unwrap().listens);
        for broken in ["", "sl local_address", "0: 01:1 0 0A", "0: 0100007F:1 0 0A 0 0 0 0 0 x"] {
            assert!(socket(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_listening_socket_of_this_process_is_found_with_its_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let found = Processes::read(&[address].into());
        let found = found.listeners.iter().find(|it| it.address == address).unwrap();
        assert_eq!(found.process.as_ref().map(|it| it.1), Some(std::process::id()));
    }

    #[test]
    fn the_configuration_of_a_keepalived_is_where_its_command_line_says() {
        assert_eq!(config_file(&["keepalived", "-n", "-f", "/tmp/k.conf"]), "/tmp/k.conf");
        assert_eq!(config_file(&["keepalived", "--use-file=/k"]), "/k");
        assert_eq!(config_file(&["keepalived", "-f"]), "/etc/keepalived/keepalived.conf");
    }
}
