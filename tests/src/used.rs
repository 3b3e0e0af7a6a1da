//! What a process has used so far.

use std::fs;

use anyhow::{Context as _, Result};

/// `USER_HZ`, in which the kernel counts a process's time; it is so on every architecture.
const TICKS: f64 = 100.0;
const PAGE: u64 = 4096;

/// By proc(5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// User and system time of all its threads.
    pub cpu_seconds: f64,
    pub resident_mib: u64,
}

impl Used {
    pub fn by(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("looking at process {pid}"))?;
        // After the name, which may have blanks; fields are counted from the process's number, which is the first.
        let rest = stat.rsplit(')').next().context("no stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).context("a short stat");
        let ticks = field(14)?.parse::<f64>()? + field(15)?.parse::<f64>()?;
        Ok(Self {
            cpu_seconds: ticks / TICKS,
            resident_mib: field(24)?.parse::<u64>()? * PAGE / (1 << 20),
        })
    }
}
