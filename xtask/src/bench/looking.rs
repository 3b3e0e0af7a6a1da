//! Measures what an operator's looking costs: see `observed`.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_tests::scrape;

use super::lab::{self, Fabric, Standing};
use super::ns;
use super::observed::{Looking, Scrape};
use super::peer::Peer;
use super::progress::Progress;

/// A rendering of the metrics serves all who ask within 250 ms.
const APART: Duration = Duration::from_millis(300);
const SCRAPES: u32 = 15;

/// `uncounted`: the program that counts nothing.
pub(super) fn run(
    binary: &Path,
    uncounted: &Path,
    runs: u32,
    progress: &Progress,
) -> Result<Looking> {
    progress.step("what looking costs: scrapes")?;
    let scrape = Some(scrape(binary)?);
    progress.step("what looking costs: packets")?;
    Ok(Looking { timed: ns::observed(uncounted, runs)?, scrape })
}

/// What the controller takes for one, above what it takes anyway.
fn scrape(binary: &Path) -> Result<Scrape> {
    let lab = lab::build(Peer::FairleadNat, Fabric::Bare)?;
    let standing = Standing::start(Peer::FairleadNat, &lab, binary)?;
    let pid = *standing.pids().first().context("no controller")?;
    let socket = standing.socket().context("no controller")?;
    let spent = |ask: bool| -> Result<f64> {
        let before = cpu_ns(pid)?;
        for _ in 0..SCRAPES {
            if ask {
                scrape::text(socket, "application/openmetrics-text")?;
            }
            sleep(APART);
        }
        Ok(cpu_ns(pid)? - before)
    };
    // The first one after the start is made of what nobody has looked at yet.
    spent(true)?;
    let (idle, asked) = (spent(false)?, spent(true)?);
    let span = APART.as_secs_f64() * f64::from(SCRAPES);
    let ms = (asked - idle) / 1e6 / f64::from(SCRAPES);
    Ok(Scrape { ms: ms.max(0.0), idle: idle / 1e9 / span })
}

/// Of all threads of a process, user and system (`/proc/PID/task/TID/schedstat`).
fn cpu_ns(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("listing its threads")? {
        // One may have ended meanwhile.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let first = text.split_whitespace().next().context("an empty schedstat")?;
        sum += first.parse::<f64>()?;
    }
    Ok(sum)
}
