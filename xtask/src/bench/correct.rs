//! Whether a peer does its work at all: who answers, what arrives, how frames look. One that fails has no
//! figures.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_tests::capture::Capture;
use lb_tests::connects;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::transfer::{MIB, Way, transfer};

use super::lab::Standing;

/// From the balancer's start to its first answer.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECTIONS: u64 = 300;
const BYTES: u64 = 8 * MIB;

/// Every backend answers, each about as often; data is intact both ways, and every captured frame has
/// good checksums.
pub(super) fn check(standing: &Standing<'_>) -> Result<()> {
    eventually("a first answer", PATIENCE, || {
        let target = standing.web();
        Ok(match connects::run(&standing.lab.client.netns, target, 1) {
            Ok(connects) => match connects.why {
                None => Seen::Done(()),
                Some(why) => Seen::Pending(why),
            },
            Err(error) => Seen::Pending(format!("{error:#}")),
        })
    })?;
    answers(standing)?;
    let lab = standing.lab;
    let captures = ["client", "cp1"].map(|host| {
        let file = lab.directory().join(format!("check-{host}.pcap"));
        Capture::start(&lab.fabric, host, "tcp", &file).map(|capture| (host, capture))
    });
    for way in [Way::Download, Way::Upload] {
        let target = standing.hashed();
        let hashes = lab.client.netns.on_thread(|| transfer(target, way, BYTES));
        let hashes = hashes.with_context(|| format!("{way:?} of {BYTES} bytes"))?;
        ensure!(hashes.sent == hashes.received, "{way:?}: what arrived is not what was sent");
    }
    for capture in captures {
        let (host, capture) = capture?;
        capture.finish()?.ensure_good().with_context(|| format!("frames captured at {host}"))?;
    }
    Ok(())
}

fn answers(standing: &Standing<'_>) -> Result<()> {
    let load = Load {
        target: standing.web(),
        talk: Talk::Http,
        pace: Pace::Closed { connections: CONNECTIONS, workers: 8 },
        watches: 0,
    };
    let recorder = load.start(&standing.lab.client.netns.handle())?.wait()?;
    let report = recorder.report(&(Duration::ZERO..Duration::MAX));
    if let Some((.., why, words)) = report.failures.first() {
        let failed = report.failed_total();
        bail!("{failed} of {CONNECTIONS} connections: {}: {words}", why.as_str());
    }
    let shares = &report.by_server;
    ensure!(shares.len() == standing.shares(), "only these answered: {shares:?}");
    let even = report.sent / standing.shares();
    let is_fair = shares.values().all(|share| (even / 2..=even * 2).contains(share));
    ensure!(is_fair, "uneven shares: {shares:?}");
    Ok(())
}
