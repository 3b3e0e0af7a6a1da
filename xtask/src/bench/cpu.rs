//! How long the machine's CPUs, and some processes, were busy.

use std::fs;

use anyhow::{Context as _, Result};

/// Of the kernel's clock in `/proc`: USER_HZ, which is 100 on every architecture that we build for.
const TICKS: f64 = 100.0;

/// What the machine has done since it was started, in seconds of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Busy {
    /// User, nice, system, interrupts and soft interrupts.
    pub(crate) seconds: f64,
    /// Of that, soft interrupts.
    pub(crate) softirq: f64,
    /// Taken by the hypervisor for others.
    pub(crate) stolen: f64,
    /// In all, idle or not.
    pub(crate) total: f64,
}

impl Busy {
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        Self::parse(&text).context("/proc/stat has another form than proc(5) says")
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            seconds: self.seconds - before.seconds,
            softirq: self.softirq - before.softirq,
            stolen: self.stolen - before.stolen,
            total: self.total - before.total,
        }
    }

    /// Part of the time that was not idle.
    pub(crate) fn share(self) -> f64 {
        if self.total > 0.0 { (self.seconds + self.stolen) / self.total } else { 0.0 }
    }

    fn parse(text: &str) -> Option<Self> {
        let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let ticks: Vec<f64> = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [user, nice, system, idle, waiting, irq, softirq, stolen] = *ticks.first_chunk()?;
        let busy = user + nice + system + irq + softirq;
        Some(Self {
            seconds: busy / TICKS,
            softirq: softirq / TICKS,
            stolen: stolen / TICKS,
            total: (busy + stolen + idle + waiting) / TICKS,
        })
    }
}

/// User and system time of processes and all their threads, in seconds; one that is gone has none.
pub(crate) fn of_processes(pids: &[u32]) -> f64 {
    let read = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    pids.iter().filter_map(|pid| of_process(&read(pid)?)).sum()
}

fn of_process(stat: &str) -> Option<f64> {
    // The name, in parentheses, may have blanks: fields are counted from behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_and_waiting_time_is_not_busy() {
        let text = "cpu  100 20 300 4000 50 6 70 8 0 0\ncpu0 1 2\n";
        let busy = Busy::parse(text).unwrap();
        assert_eq!((busy.seconds, busy.softirq, busy.stolen), (4.96, 0.7, 0.08));
        assert_eq!(busy.total, 45.54);
        assert_eq!(Busy::parse("cpu  1 2 3\n"), None);
    }

    #[test]
    fn a_process_may_have_any_name() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 2 0 9 8 7";
        assert_eq!(of_process(stat), Some(2.0));
    }
}
