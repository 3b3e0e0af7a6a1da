//! How soon the VIP is taken over from a node that was killed: by ours, and by keepalived, in one run.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::keepalived::{self, Keepalived};
use lb_tests::standstill;
use lb_tests::topology::LbNode;

use super::{KEEPALIVED_LATE, Ours, Pair, down_interval, together};
use crate::scene::PATIENCE;

/// Of each kind; `FAIRLEAD_TAKE_OVERS=21` makes a longer run.
const RUNS: usize = 5;
const BACKUP: u8 = 100;
const ACTIVE: u8 = 200;
/// How much later than keepalived's own: the larger of both.
const PERCENT: u32 = 10;
const LATER: Duration = Duration::from_millis(5);

/// What runs on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Keepalived,
}

/// It, running.
enum Speaker<'pair> {
    Ours(Controller<'pair>),
    Keepalived(Keepalived),
}

/// From the last advertisement of the one that was killed.
#[derive(Clone, Copy, Debug)]
struct TakeOver {
    advertised: Duration,
    announced: Duration,
}

/// Who is killed, and who takes over. The first is what the others are compared with.
const DIRECTIONS: [(Kind, Kind); 4] = [
    (Kind::Keepalived, Kind::Keepalived),
    (Kind::Keepalived, Kind::Ours),
    (Kind::Ours, Kind::Keepalived),
    (Kind::Ours, Kind::Ours),
];

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_take_over_is_as_soon_as_keepalived_s_own_at_a_second() -> Result<()> {
    compare(Duration::from_secs(1), 1, true)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_take_over_is_as_soon_as_keepalived_s_own_at_a_tenth_of_a_second() -> Result<()> {
    compare(Duration::from_millis(100), runs()?, true)
}

/// One after the other: at this interval they would disturb each other.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_take_over_is_as_soon_as_keepalived_s_own_at_a_hundredth_of_a_second() -> Result<()> {
    compare(Duration::from_millis(10), runs()?, false)
}

fn runs() -> Result<usize> {
    let runs = std::env::var("FAIRLEAD_TAKE_OVERS").ok();
    Ok(runs.map_or(Ok(RUNS), |text| text.parse())?)
}

fn compare(interval: Duration, runs: usize, at_once: bool) -> Result<()> {
    let found: Mutex<Vec<(Kind, Kind, TakeOver)>> = Mutex::default();
    let measure = |(killed, follows): (Kind, Kind)| {
        let median = take_overs(killed, follows, interval, runs)?;
        found.lock().unwrap_or_else(PoisonError::into_inner).push((killed, follows, median));
        Ok(())
    };
    if at_once {
        let jobs = DIRECTIONS.map(|direction| move || measure(direction));
        let jobs = [0, 1, 2, 3].map(|n| ("", &jobs[n] as &(dyn Fn() -> Result<()> + Sync)));
        together(&jobs)?;
    } else {
        DIRECTIONS.into_iter().try_for_each(measure)?;
    }
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let of = |direction: (Kind, Kind)| {
        let wanted = found.iter().find(|(killed, follows, _)| (*killed, *follows) == direction);
        wanted.map(|(_, _, median)| *median).context("not measured")
    };
    let own = of(DIRECTIONS[0])?;
    let allowed = |own: Duration| own + LATER.max(own * PERCENT / 100);
    super::super::measured(&format!(
        "every {interval:?}, {runs} runs: keepalived's own {own:?}; the protocol's {:?}",
        down_interval(BACKUP, interval)
    ));
    for direction in &DIRECTIONS[1..] {
        let (TakeOver { advertised, announced }, (killed, follows)) = (of(*direction)?, direction);
        super::super::measured(&format!(
            "every {interval:?}: {follows:?} after {killed:?}: {advertised:?}, {announced:?}"
        ));
        let in_time = match follows {
            Kind::Ours => {
                advertised <= allowed(own.advertised) && announced <= allowed(own.announced)
            }
            // What keepalived does once it has advertised is its own, and it may wait for locks of the kernel
            // that it has in common with the one that is dying: on one machine only.
            Kind::Keepalived => advertised <= own.advertised + KEEPALIVED_LATE.min(own.advertised),
        };
        ensure!(
            in_time,
            "{follows:?} after {killed:?}: {advertised:?}, {announced:?}; keepalived's own: {own:?}"
        );
    }
    Ok(())
}

/// The median of several.
fn take_overs(killed: Kind, follows: Kind, interval: Duration, runs: usize) -> Result<TakeOver> {
    let pair = Pair::build()?;
    let (first, second) = (pair.node(), pair.other());
    let mark = pair.wire.mark();
    let _follower = Speaker::start(&pair, second, follows, BACKUP, interval)?;
    wait_advert(&pair, pair.theirs(), mark)?;
    let (mut advertised, mut announced) = (Vec::new(), Vec::new());
    let mut attempts = 0;
    while advertised.len() < runs {
        attempts += 1;
        let mark = pair.wire.mark();
        let mut active = Speaker::start(&pair, first, killed, ACTIVE, interval)?;
        wait_advert(&pair, pair.ours(), mark)?;
        pair.wait_vip(second, pair.vip(), false)?;
        // Past what the one that gave way had to say.
        std::thread::sleep(interval * 3 + Duration::from_millis(200));
        let mark = pair.wire.mark();
        active.kill9()?;
        let (taken, stood) = once(&pair, mark)?;
        // If the machine stood still it says nothing; but not for ever.
        if stood <= LATER || attempts > 3 * runs {
            advertised.push(taken.advertised);
            announced.push(taken.announced);
        }
        // A keepalived does not mind what its predecessor left, and does not remove it.
        let words = format!("addr del {}/32 dev eth0", pair.vip());
        drop(active);
        pair.wait_vip(second, pair.vip(), true)?;
        let _ = first.host.netns.ip(&words);
    }
    let (advertised, announced) = (median(advertised), median(announced));
    Ok(TakeOver { advertised, announced })
}

/// And for how long the machine stood still meanwhile.
fn once(pair: &Pair, mark: usize) -> Result<(TakeOver, Duration)> {
    let taken = wait_advert(pair, pair.theirs(), mark)?;
    let adverts = pair.wire.adverts(pair.ours(), 0);
    let (last, priority) = *adverts.last().context("the killed one never advertised")?;
    ensure!(priority == ACTIVE, "it gave up with {priority}");
    let mac = pair.mac(pair.other())?;
    let announced = pair.wire.wait("an announcement", mark, PATIENCE, |said| {
        matches!(&said.what, lb_tests::wire::What::Garp { vip, mac: from }
            if IpAddr::V4(*vip) == pair.vip() && *from == mac)
    })?;
    let stood = standstill::during(&(last..announced.at));
    Ok((TakeOver { advertised: taken - last, announced: announced.at - last }, stood))
}

/// The first advertisement of `source` after `mark`.
fn wait_advert(pair: &Pair, source: IpAddr, mark: usize) -> Result<Duration> {
    let said = pair
        .wire
        .wait("an advertisement", mark, PATIENCE, |said| said.priority_of(source).is_some())?;
    Ok(said.at)
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}

impl<'pair> Speaker<'pair> {
    fn start(
        pair: &'pair Pair,
        node: &'pair LbNode,
        kind: Kind,
        priority: u8,
        interval: Duration,
    ) -> Result<Self> {
        Ok(match kind {
            Kind::Ours => {
                let ours = Ours { interval, ..pair.settings(priority) };
                Self::Ours(pair.start_on(node, &ours)?)
            }
            Kind::Keepalived => {
                let interval = interval.as_secs_f64();
                let settings = keepalived::Settings::new(priority, interval, &[pair.vip()]);
                let directory = pair.lab.directory();
                Self::Keepalived(Keepalived::start(&node.host.netns, directory, &settings)?)
            }
        })
    }

    fn kill9(&mut self) -> Result<()> {
        match self {
            Self::Ours(controller) => controller.kill9(),
            Self::Keepalived(keepalived) => keepalived.kill9(),
        }
    }
}
