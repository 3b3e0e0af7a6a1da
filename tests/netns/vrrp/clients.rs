//! New connections through a pair of ours while the VIPs move, in both families.
//!
//! Each connection is short: it opens, says a line, hears it and closes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family;
use lb_tests::load::{Load, Pace, Running, Talk};
use lb_tests::recorder::{Outcome, Recorder, Sample};
use lb_tests::topology::API_PORT;

use super::{INTERVAL, Ours, Pair, down_interval, wait_both};
use crate::scene::PATIENCE;

/// New connections a second in each family.
const RATE: u32 = 200;
const FIRST: u8 = 200;
const SECOND: u8 = 150;
/// What takes longer had to send its SYN again.
const AGAIN: Duration = Duration::from_millis(500);
/// Around what happens, undisturbed.
const CALM: Duration = Duration::from_millis(700);
/// Connections of some milliseconds that were under way in the very moment of a move, or as many more as a busy machine
/// has under way at once: without `sync` nobody told the node that takes over of them.
const UNDER_WAY: usize = 4;
/// Busy machines.
const LATE: Duration = Duration::from_millis(100);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn new_connections_are_served_while_the_vips_move() -> Result<()> {
    let pair = Pair::build_with(2, 3)?;
    let ours = |priority| Ours { vips6: pair.vips6(), ..pair.settings(priority) };
    let mut first = pair.start(&ours(FIRST))?;
    let second = pair.start_on(pair.other(), &ours(SECOND))?;
    for controller in [&first, &second] {
        for name in ["cp1", "cp2", "cp3", "cp1-v6", "cp2-v6", "cp3-v6"] {
            controller.wait_backend(name, "up", PATIENCE)?;
        }
    }
    wait_both(&first, "active")?;
    let clients = Clients::start(&pair)?;

    clients.ensure_none_lost("drain", || {
        first.cli(&["drain"])?;
        wait_both(&second, "active")
    })?;
    clients.ensure_none_lost("resume", || {
        first.cli(&["drain", "--resume"])?;
        wait_both(&first, "active")
    })?;
    clients.ensure_none_lost("SIGTERM", || {
        first.sigterm()?;
        ensure!(first.wait_exit(PATIENCE)?.success());
        wait_both(&second, "active")
    })?;
    clients.ensure_none_lost("fail-back after SIGTERM", || {
        first.start()?;
        wait_both(&first, "active")
    })?;
    clients.ensure_lost_for("SIGKILL", down_interval(SECOND, INTERVAL) + LATE, || {
        first.kill9()?;
        wait_both(&second, "active")
    })?;
    clients.ensure_none_lost("fail-back after SIGKILL", || {
        first.start()?;
        wait_both(&first, "active")
    })
}

/// A load for each family.
struct Clients {
    loads: Vec<(Family, Running)>,
}

impl Clients {
    fn start(pair: &Pair) -> Result<Self> {
        let netns = pair.lab.client.netns.handle();
        let load = |family: Family| {
            let load = Load {
                target: (pair.lab.vip_of(family), API_PORT).into(),
                talk: Talk::Plain { server_closes_first: false },
                pace: Pace::Open { per_second: RATE },
                watches: 0,
            };
            Ok((family, load.start(&netns)?))
        };
        Ok(Self { loads: Family::ALL.into_iter().map(load).collect::<Result<_>>()? })
    }

    fn ensure_none_lost(&self, what: &str, act: impl FnMut() -> Result<()>) -> Result<()> {
        self.ensure_lost_for(what, Duration::ZERO, act)
    }

    /// Connections that fail, or have to ask again, began within `span` of each other.
    fn ensure_lost_for(
        &self,
        what: &str,
        span: Duration,
        mut act: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let began: Vec<Duration> = self.loads.iter().map(|(_, load)| load.recorder.now()).collect();
        std::thread::sleep(CALM);
        act()?;
        std::thread::sleep(CALM);
        for ((family, load), from) in self.loads.iter().zip(began) {
            let samples = ended(&load.recorder, from)?;
            let (cut, failed): (Vec<&Sample>, Vec<&Sample>) = samples
                .iter()
                .filter(|sample| is_failed(sample))
                .partition(|sample| sample.connected_after.is_some());
            let again =
                |sample: &&Sample| load.recorder.to_connect(sample).is_none_or(|took| took > AGAIN);
            let troubled: Vec<Duration> =
                samples.iter().filter(again).map(|sample| sample.started).collect();
            let lasted = match (troubled.first(), troubled.last()) {
                (Some(first), Some(last)) => *last - *first,
                (None, _) | (_, None) => Duration::ZERO,
            };
            super::super::measured(&format!(
                "{what}, {family:?}: {} connections, {} failed, {} cut, {} asked again, for {lasted:?}",
                samples.len(),
                failed.len(),
                cut.len(),
                troubled.len() - failed.len(),
            ));
            let few = failed.iter().take(5).collect::<Vec<_>>();
            ensure!(failed.is_empty(), "{what}, {family:?}: {} failed: {few:?}", failed.len());
            let most = UNDER_WAY.max(at_once(&samples, from + CALM));
            ensure!(cut.len() <= most, "{what}, {family:?}: cut short: {cut:?}");
            ensure!(lasted <= span, "{what}, {family:?}: for {lasted:?}, not {span:?}");
            ensure!(samples.len() > 100, "{what}, {family:?}: {} connections", samples.len());
        }
        Ok(())
    }
}

/// What began since `from`, once all of it has ended.
fn ended(recorder: &Recorder, from: Duration) -> Result<Vec<Sample>> {
    let until = recorder.now();
    let samples = || {
        let all = recorder.samples().into_iter();
        let since = all.filter(|sample| (from..until).contains(&sample.started));
        Ok(since.collect::<Vec<_>>())
    };
    let ended = |samples: &Vec<Sample>| samples.iter().all(|sample| sample.finished.is_some());
    // They end within their own time limits.
    eventually_is("connections to end", PATIENCE, samples, ended).context("connections hang")
}

/// How many were under way at most at one moment before `until`.
fn at_once(samples: &[Sample], until: Duration) -> usize {
    let early = samples.iter().filter(|sample| sample.started < until);
    let spans: Vec<_> =
        early.filter_map(|sample| Some(sample.started..sample.finished.as_ref()?.0)).collect();
    let at = |moment: &Duration| spans.iter().filter(|span| span.contains(moment)).count();
    spans.iter().map(|span| at(&span.start)).max().unwrap_or_default()
}

const fn is_failed(sample: &Sample) -> bool {
    matches!(&sample.finished, Some((_, Outcome::Failed(..))))
}
