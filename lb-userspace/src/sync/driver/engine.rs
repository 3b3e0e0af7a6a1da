//! The one task that owns peers, sessions and the store. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::super::connection::Input;
use super::super::fsm::{Event, Reason, Session, Vips};
use super::super::key::{self, Keys};
use super::super::packet::Bye;
use super::super::record::Change;
use super::super::refusal::{Refusal, Refusals};
use super::super::store::Store;
use super::super::view::View;
use super::super::warmth::Warmth;
use super::clients::Clients;
use super::listener::{Answered, Listener};
use super::peer::{Live, Peer};
use super::{Command, Notice, READ};
use crate::config::Sync;
use crate::config::watch::Watch;

mod connections;
mod telling;

/// How often `status` gets news.
const PUBLISH: Duration = Duration::from_millis(100);
/// So long the last words may take.
const GOODBYE: Duration = Duration::from_secs(1);
const INBOX: usize = 64;
/// Flows are looked at for about so long in one go. Shorter ones would rest for longer than they took: timers have
/// milliseconds.
const SPELL: Duration = Duration::from_millis(5);
/// Between looking at flows and the next spell, so many times what the spell took: who takes what is sent has more to do
/// than who sends.
const RESTS: u32 = 2;
/// And no longer than this.
const LONGEST_REST: Duration = Duration::from_millis(50);
/// A key file has two lines.
const MAX_KEY_FILE: u64 = 4096;

/// What connections bring, with the number of each.
type Inbox = (mpsc::Sender<(u64, Input)>, mpsc::Receiver<(u64, Input)>);

pub(super) struct Engine {
    config: Sync,
    capacity: usize,
    store: Box<dyn Store>,
    notices: mpsc::Sender<Notice>,
    views: Arc<Mutex<View>>,
    own: Vips,
    instance: u64,
    name: String,
    keys: Option<Keys>,
    watch: Option<Watch>,
    listener: Option<Listener>,
    listen_at: Instant,
    listen_error: Option<String>,
    peers: BTreeMap<SocketAddr, Peer>,
    refusals: Refusals,
    warmth: Warmth,
    was_warm: bool,
    told: BTreeSet<IpAddr>,
    clients: Clients,
    lost: u64,
    next_id: u64,
    inbox: Inbox,
    answered: (mpsc::Sender<Answered>, mpsc::Receiver<Answered>),
    wrote: Arc<Notify>,
    work_at: Instant,
    publish_at: Instant,
}

impl Engine {
    pub(super) fn new(
        config: Sync,
        capacity: usize,
        store: Box<dyn Store>,
        notices: mpsc::Sender<Notice>,
        views: Arc<Mutex<View>>,
    ) -> Self {
        let now = now();
        let mut engine = Self {
            capacity,
            store,
            notices,
            views,
            own: Vips::new(),
            instance: random(),
            name: hostname(),
            keys: None,
            watch: None,
            listener: None,
            listen_at: now,
            listen_error: None,
            peers: BTreeMap::new(),
            refusals: Refusals::default(),
            warmth: Warmth::cold(now),
            was_warm: false,
            told: BTreeSet::new(),
            clients: Clients::default(),
            lost: 0,
            next_id: 0,
            inbox: mpsc::channel(INBOX),
            answered: mpsc::channel(INBOX),
            wrote: Arc::new(Notify::new()),
            work_at: now,
            publish_at: now,
            config: config.clone(),
        };
        engine.configure(config, now);
        engine
    }

    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut read = interval(READ);
        read.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wrote = Arc::clone(&self.wrote);
        loop {
            let (has_work, work_at) = (self.has_work(), self.work_at);
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Stop) | None => return self.end().await,
                    Some(command) => self.obey(command),
                },
                // In this order: a peer that sends without a pause must not keep us from the clock.
                _ = read.tick() => self.turn().await,
                () = sleep_until(work_at.into()), if has_work => self.work(),
                () = wrote.notified() => self.note_written(),
                () = changed(&mut self.watch) => self.read_keys(),
                Some(answered) = self.answered.1.recv() => self.answer(answered),
                Some((id, input)) = self.inbox.1.recv() => self.input(id, input),
            }
            // Connections have tasks on this thread.
            tokio::task::yield_now().await;
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Configure(config) => self.configure(*config, now()),
            Command::Serving(vips) => {
                self.own.clone_from(&vips);
                self.feed_all(&Event::Serving(&vips));
            }
            Command::Cool => {
                let now = now();
                self.warmth.cool(now);
                // What was under way before says nothing of what is.
                let peers: Vec<SocketAddr> = self.peers.keys().copied().collect();
                for address in peers {
                    self.drop_live(address, Bye::Replaced);
                    if let Some(peer) = self.peers.get_mut(&address) {
                        (peer.dial_at, peer.attempts) = (now, 0);
                    }
                }
                self.peers.values_mut().for_each(|peer| peer.tried = 0);
                self.look_warm();
            }
            Command::Stop => {}
        }
    }

    fn configure(&mut self, config: Sync, now: Instant) {
        self.config = config;
        let peers = &self.config.peers;
        let gone: Vec<SocketAddr> =
            self.peers.keys().filter(|it| !peers.contains(it)).copied().collect();
        for address in gone {
            self.drop_live(address, Bye::Stranger);
            self.peers.remove(&address);
        }
        for address in &self.config.peers {
            self.peers.entry(*address).or_insert_with(|| Peer::new(*address, now));
        }
        self.watch = Watch::start(&self.config.key_file)
            .inspect_err(|error| log::warn!("sync: {error:#}"))
            .ok();
        self.read_keys();
    }

    /// Reads the keys again; those of before hold on if they cannot be read.
    fn read_keys(&mut self) {
        match load(&self.config.key_file) {
            Ok(keys) => {
                let revoked: Vec<SocketAddr> = self
                    .peers
                    .values()
                    .filter(|it| it.live.as_ref().is_some_and(|live| !keys.contains(&live.key)))
                    .map(|peer| peer.address)
                    .collect();
                self.keys = Some(keys);
                revoked.into_iter().for_each(|address| self.drop_live(address, Bye::Replaced));
            }
            Err(error) => {
                let file = self.config.key_file.display();
                self.trouble(format!("{file} {error}; the keys read before hold"));
            }
        }
        // It has its own copy of the terms.
        self.listener = None;
        self.listen_at = now();
    }

    /// What is done by the clock.
    async fn turn(&mut self) {
        let now = now();
        self.listen(now).await;
        self.dial(now);
        self.read_changes();
        let due: Vec<SocketAddr> = self
            .peers
            .values()
            .filter(|peer| {
                let session = peer.live.as_ref().map(|live| &live.session);
                session.and_then(Session::deadline).is_some_and(|at| at <= now)
            })
            .map(|peer| peer.address)
            .collect();
        due.into_iter().for_each(|peer| self.feed(peer, Event::Timer));
        self.look_warm();
        self.tell_clients();
        if now >= self.publish_at {
            self.publish_at = now + PUBLISH;
            self.publish(now);
        }
    }

    fn note_written(&mut self) {
        let addresses: Vec<SocketAddr> = self.peers.keys().copied().collect();
        for address in addresses {
            let live = self.peers.get(&address).and_then(|peer| peer.live.as_ref());
            if let Some(waiting) = live.map(|live| live.outbox.waiting()) {
                self.feed(address, Event::Queued(waiting));
            }
        }
    }

    fn read_changes(&mut self) {
        let mut changes: Vec<Change> = Vec::new();
        match self.store.read(&mut changes) {
            Ok(turn) => {
                if !changes.is_empty() {
                    self.feed_all(&Event::Changed(&changes));
                }
                if turn.lost > 0 {
                    self.lost += turn.lost;
                    self.feed_all(&Event::Lost);
                }
            }
            Err(error) => self.trouble(format!("reading what changed: {error:#}")),
        }
    }

    fn has_work(&self) -> bool {
        self.peers.values().filter_map(|peer| peer.live.as_ref()).any(Live::has_work)
    }

    /// Slices for each session, and a rest: what there is to compare must not take a core.
    fn work(&mut self) {
        let started = now();
        let mut done = started;
        while self.has_work() && done < started + SPELL {
            self.look_on(done);
            done = now();
        }
        let took = done.saturating_duration_since(started);
        self.work_at = done + (took * RESTS).min(LONGEST_REST);
    }

    /// A slice for each session.
    fn look_on(&mut self, now: Instant) {
        let addresses: Vec<SocketAddr> = self.peers.keys().copied().collect();
        for address in addresses {
            let Some(live) = self.peers.get_mut(&address).and_then(|peer| peer.live.as_mut())
            else {
                continue;
            };
            let outcome = live.work(&mut *self.store, now);
            self.after(address, outcome);
        }
    }

    fn feed_all(&mut self, event: &Event<'_>) {
        let addresses: Vec<SocketAddr> = self.peers.keys().copied().collect();
        addresses.into_iter().for_each(|address| self.feed(address, event.clone()));
    }

    fn feed(&mut self, address: SocketAddr, event: Event<'_>) {
        let Some(live) = self.peers.get_mut(&address).and_then(|peer| peer.live.as_mut()) else {
            return;
        };
        let outcome = live.feed(event, &mut *self.store, now());
        self.after(address, outcome);
    }

    /// What came of what a session wanted.
    fn after(&mut self, address: SocketAddr, outcome: anyhow::Result<Option<Reason>>) {
        let live = self.peers.get_mut(&address).and_then(|peer| peer.live.as_mut());
        let (discarded, clients) = live.map_or_else(Default::default, |live| {
            (std::mem::take(&mut live.discarded), std::mem::take(&mut live.clients))
        });
        self.clients.note(clients);
        if !discarded.is_empty() {
            // What is lost here is found again by the next comparison.
            self.tell(Notice::Discarded(discarded));
        }
        match outcome {
            Ok(None) => self.look_synced(address),
            Ok(Some(reason)) => self.lose(address, &Refusal::Session(reason)),
            Err(error) => self.lose(address, &Refusal::Lost(format!("{error:#}"))),
        }
    }

    /// The last changes leave, and a goodbye behind them.
    async fn end(mut self) {
        self.read_changes();
        self.feed_all(&Event::Serving(&Vips::new()));
        let live = self.peers.values().filter_map(|peer| peer.live.as_ref());
        live.for_each(|live| live.goodbye(Bye::Ending));
        let all_left = |engine: &Self| {
            let mut live = engine.peers.values().filter_map(|peer| peer.live.as_ref());
            live.all(|live| live.outbox.waiting() == 0)
        };
        let wrote = Arc::clone(&self.wrote);
        let left = async {
            while !all_left(&self) {
                wrote.notified().await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, left).await;
    }
}

fn load(path: &Path) -> Result<Keys, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let read = file.take(MAX_KEY_FILE).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    key::parse(&bytes).map_err(|fault| fault.to_string())
}

/// Waits until the keys may have changed, for ever if nobody watches them.
async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "a driver: the clock of sessions")]
fn now() -> Instant {
    Instant::now()
}
