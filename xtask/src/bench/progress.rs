//! What is being done, and how much of the time is gone: a bar on a terminal, a line for each part elsewhere.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::lab::interrupt::Interrupt;

/// The run as its user sees it, and its clock.
pub(crate) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    start: Instant,
    limit: Duration,
    interrupt: Interrupt,
}

impl Progress {
    /// From here on Ctrl-C is heard at the next step.
    pub(crate) fn start(limit: Duration) -> Result<Self> {
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {elapsed}  {msg}")?;
        let bar = ProgressBar::new(limit.as_secs()).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(500));
        let interrupt = Interrupt::catch()?;
        let is_terminal = stderr().is_terminal();
        Ok(Self { bar, is_terminal, start: Instant::now(), limit, interrupt })
    }

    /// Something begins that deserves a line where there is no bar.
    pub(crate) fn part(&self, what: &str) -> Result<()> {
        if !self.is_terminal {
            println!("{:4} s  {what}", self.start.elapsed().as_secs());
        }
        self.step(what)
    }

    /// Something small begins.
    ///
    /// # Errors
    /// Somebody pressed Ctrl-C.
    pub(crate) fn step(&self, what: &str) -> Result<()> {
        self.bar.set_position(self.start.elapsed().as_secs());
        self.bar.set_message(what.to_owned());
        self.interrupt.check()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether this much of the time is left.
    pub(crate) fn has(&self, wanted: Duration) -> bool {
        self.start.elapsed() + wanted <= self.limit
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
