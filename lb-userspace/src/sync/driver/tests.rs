//! Nodes on loopback addresses of this machine, with flows that are kept in memory.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use super::super::record::{Change, FlowId, FlowRecord};
use super::super::store::{Detail, Turn, Walk};
use super::super::testing::record;
use super::*;

const ONE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER: &str = "f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    flows: BTreeMap<FlowId, FlowRecord>,
    changes: Vec<Change>,
}

impl Memory {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn put(&self, client: u32) {
        let mut inner = self.inner();
        inner.flows.insert(record(client).id, record(client));
        inner.changes.push(Change::Put(record(client)));
    }

    fn len(&self) -> usize {
        self.inner().flows.len()
    }
}

impl Store for Memory {
    fn walk(&self) -> Result<Box<dyn Walk>> {
        Ok(Box::new(self.clone()))
    }

    fn read(&mut self, changes: &mut Vec<Change>) -> Result<Turn> {
        changes.append(&mut self.inner().changes);
        Ok(Turn::default())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<()> {
        let mut inner = self.inner();
        for change in changes {
            match change {
                Change::Put(record) => drop(inner.flows.insert(record.id, *record)),
                Change::Removed(id) => drop(inner.flows.remove(id)),
            }
        }
        Ok(())
    }

    fn refused(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
}

impl Walk for Memory {
    fn slice(
        &mut self,
        _: Detail,
        wanted: &dyn Fn(&FlowId) -> bool,
        records: &mut Vec<FlowRecord>,
    ) -> Result<bool> {
        records.extend(self.inner().flows.values().filter(|record| wanted(&record.id)));
        Ok(true)
    }
}

struct Node {
    handle: Handle,
    memory: Memory,
    key_file: PathBuf,
    listen: SocketAddr,
}

impl Node {
    /// The node with this number of a test with that one, so that tests do not meet.
    fn start(directory: &tempfile::TempDir, test: u8, number: u8, keys: &str) -> Self {
        let at = |number: u8| SocketAddr::from(([127, 77, test, number], 7946));
        let key_file = directory.path().join(format!("key{number}"));
        std::fs::write(&key_file, keys).unwrap();
        let config =
            Sync { listen: at(number), peers: vec![at(3 - number)], key_file: key_file.clone() };
        let memory = Memory::default();
        let (handle, _) = spawn(config, 10_000, Box::new(memory.clone())).unwrap();
        Self { handle, memory, key_file, listen: at(number) }
    }

    fn state(&self) -> &'static str {
        self.handle.view().peers.first().map_or("none", |peer| peer.state())
    }

    fn serve(&self) {
        self.handle.command(Command::Serving(["10.0.0.100".parse().unwrap()].into()));
    }
}

/// Threads and sockets are real here, and so is the time: a second is much for what takes a tenth of one.
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}");
}

#[test]
fn two_nodes_join_and_share_what_they_have_and_what_comes() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (Node::start(&directory, 1, 1, ONE), Node::start(&directory, 1, 2, ONE));
    (0..5000).for_each(|client| one.memory.put(client));
    one.serve();
    soon("everything is there", || other.memory.len() == 5000);
    soon("it is synced", || other.state() == "synced");
    one.memory.put(5000);
    soon("the change is there", || other.memory.len() == 5001);
    assert!(other.handle.view().is_warm);
    let view = one.handle.view();
    soon("it is acknowledged", || one.handle.view().peers[0].session.unwrap().sent >= 5001);
    assert!(view.refused.is_empty(), "{view:?}");
}

#[test]
fn a_key_is_replaced_without_a_restart_and_the_old_one_is_worth_nothing_then() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (Node::start(&directory, 2, 1, ONE), Node::start(&directory, 2, 2, OTHER));
    soon("it is refused", || other.handle.view().refused.contains_key("key"));
    assert_eq!((one.state(), other.state()), ("connecting", "connecting"));
    // In front on one node, and there as the second.
    std::fs::write(&one.key_file, format!("{OTHER}\n{ONE}\n")).unwrap();
    soon("they join", || one.state() == "synced" && other.state() == "synced");
    std::fs::write(&other.key_file, format!("{ONE}\n{OTHER}\n")).unwrap();
    std::fs::write(&one.key_file, format!("{ONE}\n")).unwrap();
    soon("the connection ends", || one.state() == "connecting");
    soon("they join by the other", || one.state() == "synced" && other.state() == "synced");
}

#[test]
fn whoever_has_no_key_is_refused_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&directory, 3, 2, ONE);
    soon("it listens", || TcpStream::connect(node.listen).is_ok());
    // From the address of its peer: others are not even read.
    let connect = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from(([127, 77, 3, 1], 0)).into()).unwrap();
        socket.connect(&node.listen.into()).unwrap();
        TcpStream::from(socket)
    };
    let ends = |bytes: &[u8]| {
        let mut stream = connect();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    let forged = [&b"FLS\x01\x00\x30"[..], &[7; 48]].concat();
    for (bytes, label) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "preface"),
        (b"FLS\x02\x00\x30", "preface"),
        (b"FLS\x01\xff\xff", "length"),
        (&forged, "key"),
        (b"FLS\x01", "slow"),
    ] {
        assert_eq!(ends(bytes), b"", "{label}");
        soon(label, || node.handle.view().refused.contains_key(label));
    }
    drop(TcpStream::connect(node.listen));
    soon("a stranger", || node.handle.view().refused.contains_key("stranger"));
}
