//! The tasks that feed the machines: one per backend. Started by the daemon, told by it what to probe
//! and by control what to doubt. I/O.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::SystemTime;

use futures_util::future::{BoxFuture, OptionFuture};
use nix::sys::resource::{Resource, getrlimit};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::fsm::{Actions, Event, Fsm, Tell};
use super::probe::{TlsCache, probe};
use super::{
    BackendKey, Finding, Health, HealthTable, Latencies, Past, Reason, Report, slow_start,
};
use crate::config::HealthCheck;

mod say;

/// What the threads of [`runtime`] are called.
pub(super) const THREAD: &str = "probes";

/// Threads of their own for probes: what the main loop does in one go, such as swapping tables, delays none,
/// and however many there are leave half of the machine alone. One thread where that is half: none has to
/// wake another then.
///
/// # Errors
/// No thread can be started.
pub fn runtime() -> io::Result<Runtime> {
    let threads = available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, 4);
    Builder::new_multi_thread().worker_threads(threads).thread_name(THREAD).enable_all().build()
}

/// A backend to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub key: BackendKey,
    /// That of all backends of a service is one: there may be many.
    pub check: Arc<HealthCheck>,
    /// Address that probes come from; never a VIP. None: the kernel chooses.
    pub source: Option<IpAddr>,
    /// State that an earlier run of the controller left, or `Unknown`. Of a backend that is being
    /// probed already it is ignored, and so is `past`.
    pub initial: Health,
    pub past: Past,
}

/// What a task may be told while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    check: Arc<HealthCheck>,
    source: Option<IpAddr>,
}

/// Does one probe of a backend. Tests replace it.
type Prober = Arc<dyn Fn(&BackendKey, &Arc<Settings>) -> BoxFuture<'static, Finding> + Send + Sync>;

/// Owns the tasks. Dropping it stops them and leaves the table as it is.
pub struct HealthMonitor {
    table: Arc<watch::Sender<HealthTable>>,
    tasks: BTreeMap<BackendKey, Running>,
    tls: TlsCache,
    latencies: Latencies,
    prober: Prober,
    runtime: Handle,
}

/// A running task. It ends when this is dropped.
struct Running {
    settings: watch::Sender<Arc<Settings>>,
    doubt: Arc<Notify>,
}

impl HealthMonitor {
    /// A monitor without tasks, which publishes to `table`. They will run on `runtime`.
    pub fn new(table: watch::Sender<HealthTable>, runtime: Handle) -> Self {
        let tls = TlsCache::default();
        let shared = tls.clone();
        let latencies = Latencies::default();
        let measured = latencies.clone();
        let sockets = Arc::new(Semaphore::new(probes_at_once()));
        let prober: Prober = Arc::new(move |key, settings| {
            let (key, settings, tls) = (key.clone(), Arc::clone(settings), shared.clone());
            let (sockets, measured) = (Arc::clone(&sockets), measured.clone());
            Box::pin(async move {
                // Never closed. The probe's time runs from here on.
                let _socket = sockets.acquire_owned().await;
                let start = Instant::now();
                // Who waits for a turn takes no room for a probe.
                let found =
                    Box::pin(probe(key.endpoint, &settings.check, settings.source, &tls)).await;
                measured.observe(&key, start.elapsed());
                found
            })
        });
        Self { table: Arc::new(table), tasks: BTreeMap::new(), tls, latencies, prober, runtime }
    }

    /// Probes `desired` and nothing else.
    ///
    /// A backend whose check or source changed keeps its state, and is probed at once.
    pub fn reconcile(&mut self, desired: Vec<Target>) {
        let desired: BTreeMap<_, _> =
            desired.into_iter().map(|target| (target.key.clone(), target)).collect();
        // Before the table: a task whose handle is gone can no longer publish.
        self.tasks.retain(|key, _| desired.contains_key(key));
        self.publish(&desired);
        self.latencies.retain(desired.keys());
        let probes = desired.values().map(|target| (target.key.endpoint, &target.check.probe));
        self.tls.retain(probes);
        for (key, target) in desired {
            let settings = Settings { check: target.check, source: target.source };
            if let Some(task) = self.tasks.get(&key) {
                task.settings.send_if_modified(|current| replace(current, settings));
            } else {
                let handle = self.spawn(key.clone(), settings, target.initial, target.past);
                self.tasks.insert(key, handle);
            }
        }
    }

    /// How long probes take.
    pub fn latencies(&self) -> Latencies {
        self.latencies.clone()
    }

    /// Asks for a probe as soon as the fast interval allows: something speaks against the state that is
    /// known. Returns whether there is such a backend.
    pub fn probe_now(&self, key: &BackendKey) -> bool {
        let task = self.tasks.get(key);
        if let Some(task) = task {
            task.doubt.notify_one();
        }
        task.is_some()
    }

    /// Makes the table's keys those of `desired`.
    fn publish(&self, desired: &BTreeMap<BackendKey, Target>) {
        let since = wall_clock();
        self.table.send_if_modified(|table| {
            let before = table.len();
            table.retain(|key, _| desired.contains_key(key) && self.tasks.contains_key(key));
            let removed = table.len() != before;
            let kept = table.len();
            for (key, target) in desired {
                let health = target.initial;
                let reason = match health {
                    Health::Unknown => Reason::NotProbed,
                    Health::Up
                    | Health::Unverified
                    | Health::Degraded
                    | Health::Draining
                    | Health::Down => Reason::Adopted,
                };
                let (past, slow_start) = (target.past, target.check.pace.slow_start);
                table.entry(key.clone()).or_insert_with(|| Report {
                    share: slow_start::share(past.back, slow_start, now()),
                    past,
                    ..Report::new(health, reason, since)
                });
            }
            removed || table.len() != kept
        });
    }

    fn spawn(&self, key: BackendKey, settings: Settings, initial: Health, past: Past) -> Running {
        let seed = RandomState::new().build_hasher().finish();
        let pace = settings.check.pace;
        let (settings, receiver) = watch::channel(Arc::new(settings));
        let doubt = Arc::new(Notify::new());
        let task = Task {
            key,
            settings: receiver,
            doubt: Arc::clone(&doubt),
            fsm: Fsm::new(pace, initial, seed, now()).resume(past),
            probe: None,
            last: None,
            warned: false,
            table: Arc::clone(&self.table),
            prober: Arc::clone(&self.prober),
        };
        self.runtime.spawn(task.run());
        Running { settings, doubt }
    }
}

/// The task of one backend.
struct Task {
    key: BackendKey,
    settings: watch::Receiver<Arc<Settings>>,
    doubt: Arc<Notify>,
    fsm: Fsm,
    /// The probe under way. Dropping it closes its connection.
    probe: Option<Pin<Box<dyn Future<Output = Finding> + Send>>>,
    /// What the last probe found.
    last: Option<Reason>,
    /// The log has said that its health is not to be seen.
    warned: bool,
    table: Arc<watch::Sender<HealthTable>>,
    prober: Prober,
}

impl Task {
    /// Every wait in it can be cancelled: what is pending is kept in the channel, the notification and
    /// the probe itself.
    async fn run(mut self) {
        loop {
            let deadline = self.fsm.deadline().map(|at| sleep_until(Instant::from_std(at)));
            tokio::select! {
                biased;
                changed = self.settings.changed() => {
                    if changed.is_err() {
                        log::debug!("{}: no longer probed", self.key);
                        return;
                    }
                    self.reconfigure();
                }
                Some(found) = OptionFuture::from(self.probe.as_mut()) => self.finish(found),
                () = self.doubt.notified() => self.feed(Event::Doubt, None),
                Some(()) = OptionFuture::from(deadline) => self.feed(Event::Deadline, None),
            }
        }
    }

    fn reconfigure(&mut self) {
        let pace = self.settings.borrow_and_update().check.pace;
        self.probe = None;
        self.fsm.reconfigure(pace, now());
        log::debug!("{}: check changed", self.key);
    }

    fn finish(&mut self, Finding { verdict, reason }: Finding) {
        self.probe = None;
        if self.last.as_ref() != Some(&reason) {
            self.explain(verdict, &reason);
            self.last = Some(reason.clone());
        }
        log::trace!("{}: probe: {reason}", self.key);
        self.feed(Event::Finished(verdict), Some(reason));
    }

    fn feed(&mut self, event: Event, found: Option<Reason>) {
        let now = now();
        let Actions { probe, tell, transition } = self.fsm.handle(event, now);
        if let Some(found) = found {
            if let Some(transition) = transition {
                self.announce(transition, &found);
            }
            let reason = match tell {
                Tell::Nothing => None,
                Tell::Reason => Some(found),
                Tell::Held(hold) => Some(Reason::Held(hold)),
            };
            self.publish(reason, now);
        }
        if probe {
            let settings = self.settings.borrow();
            self.probe = Some((self.prober)(&self.key, &settings));
        }
    }

    /// Makes the table's entry what the machine says; `None`: the reason stays.
    fn publish(&self, reason: Option<Reason>, now: std::time::Instant) {
        self.table.send_if_modified(|table| {
            // Under the table's lock: an entry that a later task of the same key made is not ours.
            if self.settings.has_changed().is_err() {
                return false;
            }
            let Some(report) = table.get_mut(&self.key) else {
                return false;
            };
            let health = self.fsm.health();
            let is_same = report.health == health;
            let new = Report {
                health,
                reason: reason.unwrap_or_else(|| report.reason.clone()),
                since: if is_same { report.since } else { wall_clock() },
                share: self.fsm.share(now),
                held: self.fsm.is_held(),
                past: self.fsm.past(now),
            };
            let is_news = *report != new;
            *report = new;
            is_news
        });
    }
}

/// Half of the files that the process may open: the other half is for everything else, and a map needs a
/// file while it is made.
fn probes_at_once() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 2).unwrap_or(usize::MAX).clamp(64, Semaphore::MAX_PERMITS)
}

/// Sets `current`, and says whether that changed it.
fn replace(current: &mut Arc<Settings>, new: Settings) -> bool {
    let changed = **current != new;
    if changed {
        *current = Arc::new(new);
    }
    changed
}

/// The machines' clock: tokio's, so that tests can pause it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[expect(clippy::disallowed_methods, reason = "a driver; people read this time in `since`")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
