//! The log of connections: a line of JSON when one is established, and one when it is over. Off unless
//! `flow_log` is configured. I/O, but for `table` and `line`.
//!
//! ```text
//!  FLOW_EVENTS, Removals ─► FlowEvents::read ─► Tap ─► bounded queue ─► thread: table ─► lines ─► file
//!                              │ (sync, or a thread of our own)
//!                              └─► peers
//! ```
//! Whoever reads the events hands a copy of each to the tap, which never waits: what finds no room is counted,
//! and the thread says so with a line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

mod line;
mod output;
mod table;

pub use table::{Table, Told, Why};

use crate::config::flow_log::FlowLog as Settings;
use crate::datapath::FlowEvents;
use crate::sync::record::{FlowId, FlowRecord};
use output::Output;

/// What waits for the thread, some 200 bytes each: a second of 60,000 connections that come and go.
const QUEUE: usize = 131_072;
/// How often what was written is handed to the file, and the file looked at.
const FLUSH: Duration = Duration::from_millis(500);
/// How often events are read where no peer has them read.
const READ: Duration = Duration::from_millis(10);

/// Where events are told; cheap when they are not wanted.
#[derive(Debug)]
pub struct Tap {
    queue: SyncSender<(SystemTime, Told)>,
    lost: Arc<AtomicU64>,
    sample: u32,
}

impl Tap {
    /// A flow was established, goes another way, or closes.
    pub fn put(&self, record: &FlowRecord) {
        if self.wants(&record.id) {
            self.tell(Told::Put(*record));
        }
    }

    /// The controller removed a flow.
    pub fn removed(&self, id: &FlowId, why: Why) {
        if self.wants(id) {
            self.tell(Told::Removed(*id, why));
        }
    }

    /// The datapath could not tell so many events.
    pub fn lost(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// By a flow's name, so that its end is logged if its beginning was.
    fn wants(&self, id: &FlowId) -> bool {
        self.sample <= 1 || table::number(id).is_multiple_of(u64::from(self.sample))
    }

    fn tell(&self, told: Told) {
        if self.queue.try_send((now(), told)).is_err() {
            self.lost(1);
        }
    }
}

/// The threads that read and write; dropping this ends them.
#[derive(Debug)]
pub struct FlowLog {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl FlowLog {
    /// Opens the file and starts the thread. `capacity`: flows that are known at once.
    pub fn start(settings: &Settings, capacity: usize) -> Result<(Self, Tap)> {
        let output = Output::open(&settings.file)?;
        let (queue, told) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let tap = Tap { queue, lost: Arc::clone(&lost), sample: settings.sample };
        let stop = Arc::new(AtomicBool::new(false));
        let writer =
            Writer { table: Table::new(capacity), output, lost, told, text: String::new() };
        let thread = thread::Builder::new()
            .name("flow-log".to_owned())
            .spawn(move || writer.run())
            .context("starting the thread of the flow log")?;
        Ok((Self { stop, threads: vec![thread] }, tap))
    }

    /// Reads the events itself, where no peer has them read.
    pub fn read(&mut self, mut events: FlowEvents) -> Result<()> {
        let stop = Arc::clone(&self.stop);
        let thread = thread::Builder::new()
            .name("flow-events".to_owned())
            .spawn(move || {
                let mut changes = Vec::new();
                loop {
                    // What came before the end is read.
                    let is_last = stop.load(Ordering::Relaxed);
                    changes.clear();
                    match events.read(&mut changes) {
                        Ok(turn) if turn.more => {}
                        Ok(_) if is_last => return,
                        Ok(_) => thread::sleep(READ),
                        Err(error) => {
                            log::error!("flow log: {error:#}");
                            return;
                        }
                    }
                }
            })
            .context("starting the thread that reads events of flows")?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for FlowLog {
    /// What waits is written, unless that takes longer than a second. Whoever else has the tap has let go of it.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for _ in 0..100 {
            if self.threads.iter().all(JoinHandle::is_finished) {
                return;
            }
            thread::sleep(READ);
        }
        log::warn!("flow log: what waits is not written in time; lines are lost");
    }
}

struct Writer {
    table: Table,
    output: Output,
    lost: Arc<AtomicU64>,
    told: Receiver<(SystemTime, Told)>,
    text: String,
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.told.recv_timeout(FLUSH) {
                Ok((at, told)) => {
                    self.note(at, told);
                    // What waits besides, so that a line costs no system call of its own.
                    while self.text.len() < 64 * 1024
                        && let Ok((at, told)) = self.told.try_recv()
                    {
                        self.note(at, told);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.flush();
                    return;
                }
            }
            self.flush();
        }
    }

    fn note(&mut self, at: SystemTime, told: Told) {
        for line in self.table.note(told, at) {
            self.text += &line.json();
        }
    }

    fn flush(&mut self) {
        let lost = self.lost.swap(0, Ordering::Relaxed) + self.table.take_untold();
        if lost > 0 {
            self.text += &line::lost(lost, now());
        }
        if !self.text.is_empty() {
            self.output.write(&self.text);
            self.text.clear();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "lines have the time of day")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lb_common::conntrack::flag;
    use lb_common::nat::Kind;

    use super::*;
    use crate::config::flow_log::Output as Where;
    use crate::sync::record::Progress;

    fn id(port: u16) -> FlowId {
        FlowId { client: ([10, 0, 0, 2], port).into(), vip: ([10, 0, 0, 100], 6443).into() }
    }

    fn record(port: u16, flags: u32) -> FlowRecord {
        let progress = Progress { flags, ..Progress::default() };
        FlowRecord {
            id: id(port),
            kind: Kind::Nat,
            source: ([10, 0, 0, 100], 2000).into(),
            backend: ([10, 0, 0, 11], 6443).into(),
            original: progress,
            reply: Some(Progress::default()),
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let (queue, told) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let tap = Tap { queue, lost: Arc::clone(&lost), sample: 1 };
        (0..3).for_each(|port| tap.put(&record(port, 0)));
        assert_eq!((told.try_iter().count(), lost.load(Ordering::Relaxed)), (1, 2));
        drop(told);
        tap.removed(&id(1), Why::Idle);
        assert_eq!(lost.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_sample_is_of_whole_connections() {
        let (queue, told) = sync_channel(10_000);
        let tap = Tap { queue, lost: Arc::default(), sample: 10 };
        for port in 0..4000 {
            tap.put(&record(port, 0));
            tap.removed(&id(port), Why::Idle);
        }
        let told: Vec<_> = told.try_iter().map(|(_, told)| told).collect();
        assert!((300..1500).contains(&told.len()), "{}", told.len());
        let is_pair = |pair: &[Told]| matches!(pair, [Told::Put(one), Told::Removed(other, _)] if one.id == *other);
        assert!(told.chunks(2).all(is_pair));
    }

    #[test]
    fn lines_are_in_the_file_when_the_log_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows.json");
        let settings = Settings { file: Where::File(path.clone()), sample: 1 };
        let (log, tap) = FlowLog::start(&settings, 10).unwrap();
        tap.put(&record(1, 0));
        tap.put(&record(1, flag::RST));
        tap.lost(3);
        drop(tap);
        drop(log);
        let text = fs::read_to_string(&path).unwrap();
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // What is lost may be said before what was told.
        let find = |name: &str| events.iter().find(|it| it["event"] == name).cloned();
        let (end, lost) = (find("end").unwrap(), find("lost").unwrap());
        assert_eq!((&end["reason"], &lost["count"]), (&"reset_by_client".into(), &3.into()));
        assert!(find("start").is_some() && events.len() == 3, "{text}");
    }
}
