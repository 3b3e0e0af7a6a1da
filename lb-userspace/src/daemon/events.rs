//! The main loop: what happens, and what the controller does about it.

use std::time::{Duration, SystemTime};

use lb_common::time::Ticks;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::reload::{Asked, changed};
use super::signals::{Signals, Wish};
use super::{Commands, Ending, Published, RunOptions};
use crate::admin::Command;
use crate::admin::listener::Handle;
use crate::admin::model::{Reload, Trigger, rfc3339};
use crate::config::watch::Watch;
use crate::control::driver::Controller;
use crate::control::elections::{self, Elections, Notices};
use crate::datapath::SignalRing;
use crate::datapath::now::monotonic;
use crate::metrics::{Live, Task};
use crate::netlink::Changes;
use crate::notify::Notifier;
use crate::overrides::store::Writer;
use crate::resolve::Names;
use crate::sync::driver as sync;
use crate::vrrp::thread::Notice;

/// Neighbours change their state all the time; what changes within it is looked at once.
const COALESCE: Duration = Duration::from_millis(50);
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Everything in the maps is compared with what it should be.
const RESYNC_INTERVAL: Duration = Duration::from_secs(10);
/// Between two slices of a sweep, and between the starts of two passes.
const SLICE_INTERVAL: Duration = Duration::from_millis(20);
const PASS_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread that shares flows tells.
type Told = tokio::sync::mpsc::Receiver<sync::Notice>;

/// What the loop runs on.
pub(super) struct Loop<'a> {
    pub(super) options: &'a RunOptions,
    pub(super) controller: &'a mut Controller,
    pub(super) names: Names,
    pub(super) signals: Signals,
    pub(super) changes: Changes,
    pub(super) commands: Commands,
    pub(super) status: watch::Sender<Published>,
    /// What the datapath says against backends.
    pub(super) doubts: SignalRing,
    /// What VRRP's thread tells, if there is one.
    pub(super) notices: Option<Notices>,
    /// What the thread that shares flows tells, if there is one.
    pub(super) shared: Option<Told>,
    /// How it ends once the VIPs are given up, and when it does at the latest.
    pub(super) end: Option<(Ending, Instant)>,
    /// When the next backend is to be given up.
    pub(super) give_up_at: Option<std::time::Instant>,
    pub(super) writer: Writer,
    pub(super) notifier: Notifier,
    /// Who serves the API by TCP, if anybody.
    pub(super) listener: Option<&'a Handle>,
    /// Watches the configuration's file, if that is wanted.
    pub(super) watch: Option<Watch>,
    /// Why the last reload was refused, if it was.
    pub(super) refused: Option<String>,
    /// What the loop measures of itself.
    pub(super) live: Live,
}

impl Loop<'_> {
    /// Runs until something asks for the end; what has still to be told and written is given back.
    pub(super) async fn run(mut self) -> (Ending, Writer, Notifier) {
        let ending = self.turn().await;
        (ending, self.writer, self.notifier)
    }

    async fn turn(&mut self) -> Ending {
        let mut health = self.controller.health_table.clone();
        let mut status = ticks(STATUS_INTERVAL);
        let mut resync = ticks(RESYNC_INTERVAL);
        let mut next_slice = Instant::now();
        let mut pass_started = next_slice;
        let mut refresh_at: Option<Instant> = None;
        self.watch_config();
        notify_ready();
        loop {
            tokio::select! {
                wish = self.signals.next() => {
                    if let Some(ending) = self.obey(&wish).await {
                        return ending;
                    }
                }
                () = changed(&mut self.watch) => self.reload_if_changed().await,
                Some(command) = self.commands.recv() => {
                    if let Some(ending) = self.command(command).await {
                        return ending;
                    }
                }
                Some(notice) = next(&mut self.notices) => {
                    if let Some(ending) = self.note(&notice) {
                        return ending;
                    }
                }
                Some(notice) = told(&mut self.shared) => {
                    let look_at = self.note_shared(notice);
                    refresh_at = refresh_at.or(look_at);
                }
                ending = late(self.end) => return ending,
                signals = self.doubts.next() => match signals {
                    Ok(signals) => self.controller.doubt(&signals, Instant::now().into_std()),
                    Err(error) => report("reading the datapath's signals", Err(error)),
                },
                changed = health.changed() => if changed.is_ok() {
                    self.after_probe();
                },
                () = self.names.changed() => self.follow_names().await,
                changed = self.changes.changed(), if refresh_at.is_none() => match changed {
                    Ok(()) => refresh_at = Some(Instant::now() + COALESCE),
                    Err(error) => {
                        // Without events the resync tick still finds what changed.
                        log::error!("{error:#}");
                        refresh_at = Some(Instant::now() + RESYNC_INTERVAL);
                    }
                },
                () = sleep_until(refresh_at.unwrap_or_else(far)), if refresh_at.is_some() => {
                    refresh_at = None;
                    self.refresh().await;
                }
                () = sleep_until(next_slice) => {
                    next_slice = Instant::now() + SLICE_INTERVAL;
                    if self.sweep() {
                        next_slice = next_slice.max(pass_started + PASS_INTERVAL);
                        pass_started = next_slice;
                        refresh_at = refresh_at.or_else(|| self.look_for_clients());
                    }
                }
                () = until(self.give_up_at) => self.give_up(),
                () = until(self.controller.telling_deadline()) => self.tell(),
                _ = status.tick() => self.each_second(),
                _ = resync.tick() => self.resync().await,
            }
        }
    }

    fn each_second(&mut self) {
        let _busy = self.busy(Task::Publish);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        report("putting the XDP program back", self.controller.datapath.end_unread().map(drop));
        self.give_up();
        self.controller.record_pasts(Instant::now().into_std());
        self.bind_names();
        self.publish();
    }

    /// What a signal asks for. `Some`: the end.
    async fn obey(&mut self, wish: &Wish) -> Option<Ending> {
        match wish {
            Wish::End(ending) => self.end(*ending),
            Wish::Reload => {
                // Said by then.
                let _ = self.reload(Asked { trigger: Trigger::Signal, by: None }).await;
                None
            }
        }
    }

    /// Looks at some flows. `true`: the pass is complete.
    fn sweep(&mut self) -> bool {
        let busy = self.busy(Task::Sweep);
        let now = busy.start.into_std();
        match self.controller.sweep(Ticks::from_ns(monotonic()), now) {
            Ok(complete) => complete,
            Err(error) => {
                report("sweeping flows", Err(error));
                false
            }
        }
    }

    /// What the thread that speaks with peers tells; when to look at the network because of it.
    fn note_shared(&mut self, notice: sync::Notice) -> Option<Instant> {
        let are_clients = matches!(notice, sync::Notice::Clients(_));
        if self.controller.note_sync(notice, Instant::now().into_std()) {
            self.controller.elections.ready();
        }
        are_clients.then(|| self.look_for_clients()).flatten()
    }

    /// When to look at the network again, if there are clients whose way has to be found.
    fn look_for_clients(&self) -> Option<Instant> {
        let now = Instant::now();
        self.controller.has_unresolved_clients(now.into_std()).then(|| now + COALESCE)
    }

    /// Tells clients that their connections are lost, those whose turn it is.
    fn tell(&mut self) {
        let (now, now_ns) = (Instant::now().into_std(), monotonic());
        report("telling idle clients", self.controller.tell_idle(now, now_ns));
        report("ending what another node ended", self.controller.end_disowned(now, now_ns));
        report("asking who is still there", self.controller.ask_unheard(now, now_ns));
    }

    /// An end with release gives the VIPs up without a gap first; asked again, at once. `Some`: now.
    fn end(&mut self, ending: Ending) -> Option<Ending> {
        let elections = &mut self.controller.elections;
        if ending == Ending::Handover || self.end.is_some() || !elections.is_running() {
            return Some(ending);
        }
        elections.drain();
        let longest = Elections::longest_drain(&self.controller.config);
        self.end = Some((ending, Instant::now() + longest));
        elections.is_drained().then_some(ending)
    }

    fn drain(&mut self, resume: bool) -> Result<(), String> {
        let elections = &mut self.controller.elections;
        if !elections.is_running() {
            return Err(
                "no other node could take the VIPs: there is no `vrrp` in the configuration; \
                        to take one backend out, use `fairlead backend drain SERVICE/BACKEND`"
                    .to_owned(),
            );
        }
        if resume {
            elections.resume()
        } else {
            elections.drain()
        }
        self.publish();
        Ok(())
    }

    /// VRRP's thread has something to tell. `Some`: it was what the end waited for.
    fn note(&mut self, notice: &Notice) -> Option<Ending> {
        if let Some(what) = elections::event(notice) {
            self.controller.events.push(what);
        }
        self.controller.note_election(notice);
        if let Some((instance, term)) = self.controller.elections.note(notice) {
            let recorded = self.controller.vips.record_terms([(instance, term)].into());
            report("writing down a term", recorded);
            self.publish();
        }
        if matches!(notice, Notice::Drained { .. }) {
            self.publish();
        }
        let is_drained = self.controller.elections.is_drained();
        self.end.map(|(ending, _)| ending).filter(|_| is_drained)
    }

    pub(super) fn give_up(&mut self) {
        let now = Instant::now().into_std();
        report("giving up connections", self.controller.give_up(now));
        self.give_up_at = self.controller.give_up_deadline(now);
    }

    pub(super) fn publish(&mut self) {
        self.controller.track();
        self.controller.tell_serving();
        let (state_file, notify) = (self.state_file(), self.notifier.status());
        let listener = self.listener.map(Handle::view);
        self.controller.note_daemon(state_file, notify, listener);
        match self.controller.status() {
            Ok(status) => {
                drop(self.status.send_replace(status));
                self.live.published(super::busy::wall_seconds());
            }
            Err(error) => report("reading counters", Err(error)),
        }
    }

    /// `Some`: the controller is to end.
    async fn command(&mut self, command: Command) -> Option<Ending> {
        let _busy = self.busy(Task::Command);
        match command {
            Command::Stop { handover } => {
                return self.end(if handover { Ending::Handover } else { Ending::Release });
            }
            Command::Drain { resume, reply } => {
                // Who asked may have gone.
                let _ = reply.send(self.drain(resume));
            }
            Command::Query(query) => {
                self.controller.answer(query);
                return None;
            }
            Command::Reload { wish: Reload { dry_run: true }, reply, .. } => {
                let outcome = self.dry_run().await.map_err(|error| format!("{error:#}"));
                // Who asked may have gone.
                let _ = reply.send(outcome);
            }
            Command::Reload { wish: Reload { dry_run: false }, by, reply } => {
                let outcome = self.reload(Asked { trigger: Trigger::Command, by }).await;
                let _ = reply.send(outcome.map_err(|error| format!("{error:#}")));
            }
            Command::SetBackend { service, backend, change, by, reply } => {
                self.set_backend((service, backend), change, by, reply);
            }
            Command::SourceFor { address, reply } => {
                let vips = self.controller.config.vips();
                let _ = reply.send(self.controller.snapshot.source_for(address, &vips));
                return None;
            }
        }
        self.publish();
        None
    }
}

/// Waits until VIPs that are given up are given up in any case; for ever if they are not.
async fn late(end: Option<(Ending, Instant)>) -> Ending {
    let Some((ending, at)) = end else { return std::future::pending().await };
    sleep_until(at).await;
    log::warn!("nobody took the VIPs over in time");
    ending
}

/// The next notice, if there ever is one.
async fn next(notices: &mut Option<Notices>) -> Option<Notice> {
    match notices {
        Some(notices) => notices.recv().await,
        None => std::future::pending().await,
    }
}

/// The same of the thread that shares flows.
async fn told(notices: &mut Option<Told>) -> Option<sync::Notice> {
    match notices {
        Some(notices) => notices.recv().await,
        None => std::future::pending().await,
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits; without a deadline for ever.
async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(Instant::from_std(deadline)).await,
        None => std::future::pending().await,
    }
}

/// A time that does not come; for a branch that is switched off.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Something failed that will be tried again.
pub(super) fn report(when: &str, outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        log::error!("{when}: {error:#}");
    }
}

impl Loop<'_> {
    /// Gives VRRP's thread the configuration: before maps lose a VIP, its instance gives it up.
    pub(super) async fn elect(&mut self) -> anyhow::Result<()> {
        let controller = &mut *self.controller;
        let (config, snapshot) = (&controller.config, &controller.snapshot);
        if controller.elections.is_running() {
            controller.elections.reconfigure(config);
            return controller.vips.elect(&controller.netlink, snapshot, config.elected()).await;
        }
        if config.vrrp.is_empty() {
            return Ok(());
        }
        controller.vips.elect(&controller.netlink, snapshot, config.elected()).await?;
        let pins = controller.datapath.pins();
        (controller.elections, self.notices) =
            Elections::start(config, controller.vips.terms(), pins)?;
        controller.elections.ready();
        Ok(())
    }
}

fn notify_ready() {
    log::info!("ready");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        log::warn!("telling the service manager: {error}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver: stamps what status prints")]
pub(super) fn now() -> String {
    rfc3339(SystemTime::now())
}
