//! What the steps play with, and how they wait: always with the live line and an ear for Ctrl-C.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_tests::controller::Controller;
use lb_tests::load::Running;
use lb_tests::recorder::Span;
use lb_tests::topology::Topology;

use super::super::interrupt::Interrupt;
use super::super::servers::Servers;
use super::display::Display;

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);
/// What must happen at all happens within this.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Stage<'lab> {
    pub(super) lab: &'lab Topology,
    pub(super) servers: Servers<'lab>,
    /// None without a load balancer.
    pub(super) controller: Option<Controller<'lab>>,
    pub(super) load: Option<Running>,
    pub(super) interrupt: Interrupt,
    pub(super) display: Display,
    /// How long a step is watched.
    pub(super) at_least: Duration,
    pub(super) steps: Vec<Step>,
}

/// A step that was made, with what is needed to judge it once the load has ended.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) span: Span,
    /// The server that was killed, and when.
    pub(super) kill: Option<(String, Duration)>,
    /// What was seen, for the table.
    pub(super) notes: Vec<String>,
    /// What should not have been.
    pub(super) problems: Vec<String>,
    pub(super) watch_breaks: Vec<lb_tests::watch::Break>,
    pub(super) watch_gap: Duration,
}

impl Step {
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

impl<'lab> Stage<'lab> {
    pub(super) fn load(&self) -> Result<&Running> {
        self.load.as_ref().context("the load has ended")
    }

    pub(super) fn controller(&mut self) -> Result<&mut Controller<'lab>> {
        self.controller.as_mut().context("no controller runs")
    }

    /// Since the load's start.
    pub(super) fn now(&self) -> Result<Duration> {
        Ok(self.load()?.recorder.now())
    }

    /// Makes a step: does `play`, then watches until the step has had its time.
    pub(super) fn step(
        &mut self,
        name: &str,
        play: impl FnOnce(&mut Self, &mut Step) -> Result<()>,
    ) -> Result<()> {
        let start = self.now()?;
        // Without a hole between two steps: what is lost there is lost too.
        let since = self.steps.last().map_or(Duration::ZERO, |last| last.span.end);
        let mut step = Step {
            name: name.to_owned(),
            span: since..start,
            kill: None,
            notes: Vec::new(),
            problems: Vec::new(),
            watch_breaks: Vec::new(),
            watch_gap: Duration::ZERO,
        };
        let played = play(self, &mut step).and_then(|()| self.watch(name, start + self.at_least));
        let load = self.load()?;
        step.span.end = load.recorder.now();
        step.watch_breaks = load.watches.breaks(&step.span);
        step.watch_gap = load.watches.longest_gap(&step.span);
        if let Err(error) = &played {
            step.problems.push(format!("{error:#}"));
        }
        self.steps.push(step);
        played
    }

    /// Watches until then, or until there is no load to watch.
    pub(super) fn watch(&mut self, label: &str, until: Duration) -> Result<()> {
        while self.now()? < until && !self.load()?.is_finished() {
            self.tick(label)?;
            sleep(POLL);
        }
        Ok(())
    }

    /// Waits until `look` finds it; how long that took.
    pub(super) fn until(
        &mut self,
        label: &str,
        what: &str,
        look: impl Fn(&Self) -> Result<bool>,
    ) -> Result<Duration> {
        let start = self.now()?;
        while !look(self)? {
            if self.now()? > start + PATIENCE {
                bail!("{what}: not within {} s", PATIENCE.as_secs());
            }
            self.tick(label)?;
            sleep(POLL);
        }
        Ok(self.now()? - start)
    }

    /// Whether a backend has this state.
    pub(super) fn has_state(&self, server: &str, state: &str) -> Result<bool> {
        let controller = self.controller.as_ref().context("no controller runs")?;
        Ok(controller.backend_state(server)? == state)
    }

    fn tick(&mut self, label: &str) -> Result<()> {
        self.interrupt.check()?;
        let load = self.load.as_ref().context("the load has ended")?;
        self.display.tick(label, load, self.controller.as_ref());
        Ok(())
    }
}
