//! Whether the machine itself stood still: a virtual machine's CPUs are taken away at times, and whoever runs on one
//! then is late without fault. What keeps a CPU in the kernel for so long looks the same.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Between two looks at the clock.
const PAUSE: Duration = Duration::from_millis(1);
/// What is shorter is how threads are scheduled.
const NOTABLE: Duration = Duration::from_millis(5);
/// Above every thread of the controller's.
const PRIORITY: libc::c_int = 10;

static WITNESS: OnceLock<Witness> = OnceLock::new();

/// Begins to watch, for as long as this process lives: what tests do that bound how long something takes.
///
/// # Errors
/// Nobody says which CPUs there are.
pub fn watch() -> Result<()> {
    if WITNESS.get().is_none() {
        let witness = Witness::start()?;
        WITNESS.get_or_init(|| witness);
    }
    Ok(())
}

/// The longest time that a CPU was away within `span`, times since 1970.
pub fn during(span: &Range<Duration>) -> Duration {
    WITNESS.get().map(|witness| witness.longest(span)).unwrap_or_default()
}

/// Likewise within the last `span`.
pub fn lately(span: Duration) -> Duration {
    let now = now();
    during(&(now.saturating_sub(span)..now))
}

/// A thread for each CPU, before everything else that wants to run on it, until this is dropped.
#[derive(Debug)]
struct Witness {
    seen: Arc<Mutex<Vec<Range<Duration>>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Witness {
    fn start() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("asking for CPUs")?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut witness = Self { seen, stop, threads: Vec::new() };
        for cpu in (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)) {
            let (seen, stop) = (Arc::clone(&witness.seen), Arc::clone(&witness.stop));
            witness.threads.push(thread::spawn(move || look(cpu, &seen, &stop)));
        }
        Ok(witness)
    }

    fn longest(&self, span: &Range<Duration>) -> Duration {
        let seen = lock(&self.seen);
        let within =
            |it: &Range<Duration>| it.end.min(span.end).saturating_sub(it.start.max(span.start));
        seen.iter().map(within).max().unwrap_or_default()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

fn look(cpu: usize, seen: &Mutex<Vec<Range<Duration>>>, stop: &AtomicBool) {
    if pin(cpu).is_none() {
        return;
    }
    let mut last = now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
        let woken = now();
        if woken > last + PAUSE + NOTABLE {
            lock(seen).push(last..woken);
        }
        // Who was waited for in between is not the machine.
        last = now();
    }
}

/// To one CPU, with a priority of its own. `None`: it may not, and cannot tell who is late.
fn pin(cpu: usize) -> Option<()> {
    let mut only = CpuSet::new();
    only.set(cpu).ok()?;
    sched_setaffinity(Pid::from_raw(0), &only).ok()?;
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the kernel reads one structure; 0 is the calling thread.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    (set == 0).then_some(())
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn lock(seen: &Mutex<Vec<Range<Duration>>>) -> MutexGuard<'_, Vec<Range<Duration>>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
