//! The one task that owns peers, sessions and the store. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::super::connection::{self, Connection, Input};
use super::super::fsm::{Event, Reason, Session, Vips};
use super::super::key::{self, Keys};
use super::super::packet::{Bye, Hello, OLDEST, VERSION};
use super::super::record::Change;
use super::super::refusal::{Refusal, Refusals};
use super::super::store::Store;
use super::super::view::View;
use super::super::warmth::Warmth;
use super::clients::Clients;
use super::listener::{Answered, Listener, Terms};
use super::peer::{Live, Peer};
use super::{Command, NOTICES, Notice, READ};
use crate::config::Sync;
use crate::config::watch::Watch;

/// How often `status` gets news.
const PUBLISH: Duration = Duration::from_millis(100);
/// An address that is not there yet is tried again after so long.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
const INBOX: usize = 64;
/// Between looking at flows and the next slice: as long as the slice took, and no longer.
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

    fn own_hello(&self) -> Hello {
        Hello {
            oldest: OLDEST,
            newest: VERSION,
            instance: self.instance,
            capabilities: 0,
            listen: self.config.listen,
            name: self.name.clone(),
        }
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

    async fn listen(&mut self, now: Instant) {
        if self.listener.is_some() || now < self.listen_at {
            return;
        }
        self.listen_at = now + LISTEN_AGAIN;
        let Some(keys) = self.keys.clone() else { return };
        let (peers, own) = (self.config.peers.clone(), self.own_hello());
        let terms = Arc::new(Terms { peers, keys, own });
        match Listener::start(terms, self.answered.0.clone()).await {
            Ok(listener) => {
                self.listener = Some(listener);
                self.listen_error = None;
            }
            Err(error) => {
                let error = format!("cannot listen on {}: {error}", self.config.listen);
                if self.listen_error.as_ref() != Some(&error) {
                    self.trouble(error.clone());
                }
                self.listen_error = Some(error);
            }
        }
    }

    /// Of two nodes the one with the lower address dials.
    fn dial(&mut self, now: Instant) {
        let Some(keys) = self.keys.clone() else { return };
        let own = self.own_hello();
        let addresses: Vec<SocketAddr> = self.peers.keys().copied().collect();
        for address in addresses.into_iter().filter(|address| self.config.listen < *address) {
            let Some(peer) = self.peers.get_mut(&address) else { continue };
            if peer.live.is_some() || now < peer.dial_at {
                continue;
            }
            if peer.dialing.as_ref().is_some_and(|task| !task.is_finished()) {
                continue;
            }
            // The peer may know the other key only.
            let key = keys.nth(peer.attempts as usize);
            let (own, answered) = (own.clone(), self.answered.0.clone());
            peer.dialing = Some(tokio::spawn(async move {
                let outcome = connection::dial(address, key, &own).await.and_then(|found| {
                    if found.hello.listen == address { Ok(found) } else { Err(Refusal::Stranger) }
                });
                // The engine has ended.
                let _ = answered.send(Answered { from: address, outcome }).await;
            }));
            // Until the outcome is there.
            peer.dial_at = now + connection::CONNECT * 3;
        }
    }

    fn answer(&mut self, Answered { from, outcome }: Answered) {
        let now = now();
        match outcome {
            Ok(connection) => self.join(connection, now),
            Err(refusal) => {
                self.refuse(from, &refusal);
                let is_away = refusal == Refusal::NoListener;
                if let Some(peer) = self.peers.get_mut(&from)
                    && peer.live.is_none()
                {
                    peer.tried += u32::from(is_away);
                    peer.lost(refusal.to_string(), now);
                }
            }
        }
    }

    fn join(&mut self, connection: Connection, now: Instant) {
        let address = connection.hello.listen;
        if !self.keys.as_ref().is_some_and(|keys| keys.contains(&connection.key)) {
            return;
        }
        // One that was there before has ended, though nobody has noticed: this one has just proved itself.
        self.drop_live(address, Bye::Replaced);
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let (id, key) = (self.next_id, connection.key);
        self.next_id += 1;
        let name = connection.hello.name.clone();
        peer.name = Some(name.clone());
        peer.error = None;
        peer.since = now;
        peer.attempts = 0;
        let (outbox, reading) = connection.start(id, self.inbox.0.clone(), Arc::clone(&self.wrote));
        let (session, actions) = Session::new(&self.own, self.capacity, now);
        let mut live = Live {
            id,
            key,
            session,
            outbox,
            jobs: BTreeMap::new(),
            was_synced: false,
            discarded: Vec::new(),
            clients: BTreeSet::new(),
            _reading: reading,
        };
        let performed = live.perform(actions, &mut *self.store);
        peer.live = Some(live);
        self.tell(Notice::Joined { peer: address, name });
        self.after(address, performed);
    }

    fn input(&mut self, id: u64, input: Input) {
        let is_its = |peer: &&Peer| peer.live.as_ref().is_some_and(|live| live.id == id);
        // Of a connection that was given up.
        let Some(address) = self.peers.values().find(is_its).map(|peer| peer.address) else {
            return;
        };
        match input {
            Input::Message(message) => self.feed(address, Event::Received(message)),
            Input::Ended(refusal) => self.lose(address, &refusal),
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

    /// A slice for each session, and a rest: what there is to compare must not take a core.
    fn work(&mut self) {
        let started = now();
        let addresses: Vec<SocketAddr> = self.peers.keys().copied().collect();
        for address in addresses {
            let Some(live) = self.peers.get_mut(&address).and_then(|peer| peer.live.as_mut())
            else {
                continue;
            };
            let outcome = live.work(&mut *self.store, started);
            self.after(address, outcome);
        }
        let done = now();
        self.work_at = done + done.saturating_duration_since(started).min(LONGEST_REST);
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

    fn look_synced(&mut self, address: SocketAddr) {
        let Some(live) = self.peers.get_mut(&address).and_then(|peer| peer.live.as_mut()) else {
            return;
        };
        let view = live.session.view(now());
        if view.is_synced != std::mem::replace(&mut live.was_synced, view.is_synced)
            && view.is_synced
        {
            self.tell(Notice::Synced { peer: address, flows: view.held });
        }
    }

    /// A connection has ended.
    fn lose(&mut self, address: SocketAddr, refusal: &Refusal) {
        if refusal.label().is_some() {
            self.refuse(address, refusal);
        }
        let Some(peer) = self.peers.get_mut(&address) else { return };
        if peer.live.is_none() {
            return;
        }
        let reason = refusal.to_string();
        peer.lost(reason.clone(), now());
        self.tell(Notice::Lost { peer: address, reason });
    }

    /// Ends a connection, of which the peer is told.
    fn drop_live(&mut self, address: SocketAddr, bye: Bye) {
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let Some(live) = &peer.live else { return };
        live.goodbye(bye);
        let reason = "there is a newer connection, key or configuration".to_owned();
        peer.lost(reason.clone(), now());
        self.tell(Notice::Lost { peer: address, reason });
    }

    fn refuse(&mut self, from: SocketAddr, refusal: &Refusal) {
        if self.refusals.note(refusal, now()) && refusal.label().is_some() {
            self.tell(Notice::Refused { from, reason: refusal.to_string() });
        }
    }

    fn look_warm(&mut self) {
        let now = now();
        let stand: Vec<_> = self.peers.values().map(|peer| peer.stands(now)).collect();
        self.warmth.look(stand, now);
        let is_warm = self.warmth.is_warm();
        if is_warm != std::mem::replace(&mut self.was_warm, is_warm) {
            self.tell(Notice::Warm(is_warm));
        }
        let sessions = self.peers.values().filter_map(|peer| peer.live.as_ref());
        let told = sessions.flat_map(|live| live.session.peer_serves()).copied().collect();
        if told != self.told {
            self.told.clone_from(&told);
            self.tell(Notice::Told(told));
        }
    }

    /// What matters more finds room behind it.
    fn tell_clients(&mut self) {
        if self.notices.capacity() > NOTICES / 2
            && let Some(clients) = self.clients.take()
        {
            self.tell(Notice::Clients(clients));
        }
    }

    fn publish(&self, now: Instant) {
        let view = View {
            listen: Some(self.config.listen),
            error: self.listen_error.clone(),
            is_warm: self.warmth.is_warm(),
            peers: self.peers.values().map(|peer| peer.view(now)).collect(),
            refused: self.refusals.counts().clone(),
            not_kept: self.store.refused(),
            lost: self.lost,
        };
        *self.views.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    fn tell(&self, notice: Notice) {
        // Rather lost than waited for.
        let _ = self.notices.try_send(notice);
    }

    fn trouble(&self, text: String) {
        self.tell(Notice::Trouble(text));
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
        let _ = tokio::time::timeout(LISTEN_AGAIN, left).await;
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
