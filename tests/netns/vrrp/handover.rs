//! A restart that outlasts the election: `restart_grace`.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use lb_tests::netns::Netns;
use lb_tests::wire::{Said, What};

use super::{INTERVAL, KEEPALIVED_LATE, Ours, Pair, ensure_between, has, skew};
use crate::scene::PATIENCE;

const LATE: Duration = Duration::from_millis(60);

/// At an interval at which three are over long before a successor starts.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_handover_outlasts_the_election_at_a_short_interval() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(100)?;
    let mut controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    let mark = pair.wire.mark();
    ensure!(controller.stop(true)?.success());
    let last = last_words(&pair, mark)?;
    ensure!(last.interval == Duration::from_secs(1), "announced {:?}", last.interval);
    ensure!(has(pair.node(), pair.vip())?, "the VIP is gone");
    // A restart may take much less than three intervals.
    std::thread::sleep(INTERVAL * 8);
    let begin = pair.wire.mark();
    controller.start()?;
    pair.wait_state(&controller, "active")?;
    let first = pair.advertised(begin)?;
    let gap = first.at - last.at;
    // Longer than peers would have waited anyway.
    ensure_between("without an advertisement", gap, INTERVAL * 8, Duration::from_secs(3))?;
    ensure!(interval(&first) == Some(INTERVAL), "{first:?}");
    let What::Advert { destination, ttl, .. } = first.what else { anyhow::bail!("no advert") };
    ensure!(ttl == 255 && destination == IpAddr::from([224, 0, 0, 18]), "{ttl}, {destination}");
    // Keepalived has learned the short interval again, or it would wait for seconds.
    std::thread::sleep(INTERVAL * 5);
    let theirs = pair.wire.adverts(pair.theirs(), mark);
    ensure!(theirs.is_empty(), "keepalived took over: {theirs:?}");
    let status = controller.status()?;
    ensure!(status["vrrp"][0]["reason"].to_string().contains("predecessor"), "{status}");
    ensure!(has(pair.node(), pair.vip())?, "the VIP is gone");
    controller.kill9()?;
    let theirs = pair.theirs();
    let took_over =
        pair.wire.wait("keepalived", mark, PATIENCE, |said| said.priority_of(theirs).is_some())?;
    let ours = pair.wire.adverts(pair.ours(), mark);
    let (last, _) = ours.last().context("no advertisement of ours")?;
    let expected = INTERVAL * 3 + skew(100, INTERVAL);
    ensure_between("took over", took_over.at - *last, expected - LATE, expected + KEEPALIVED_LATE)
}

/// Nobody answers for the VIP before keepalived does, and never two.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_successor_that_never_comes_is_replaced_after_the_grace() -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.active_keepalived(100)?;
    let more = "    restart_grace: 1s";
    let mut controller = pair.start(&Ours { more, ..pair.settings(200) })?;
    pair.wait_state(&controller, "active")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;
    let (ours, theirs) = (pair.mac(pair.node())?, pair.mac(pair.other())?);
    let mark = pair.wire.mark();
    let stop = AtomicBool::new(false);
    let (answers, first) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_again_and_again(&pair, &stop));
        let first = take_over(&pair, &mut controller, mark);
        stop.store(true, Ordering::Relaxed);
        let answers = asking.join().map_err(|_| anyhow::anyhow!("the asking thread"))?;
        anyhow::Ok((answers?, first?))
    })?;
    let last = last_words(&pair, mark)?;
    // 1 s is three times 333 ms, which centiseconds round up.
    let announced = Duration::from_millis(340);
    ensure!(last.interval == announced, "announced {:?}", last.interval);
    let expected = announced * 3 + skew(100, announced);
    let least = expected - Duration::from_millis(2);
    ensure_between("keepalived took over", first.at - last.at, least, expected + KEEPALIVED_LATE)?;
    let lease_ends = last.at + announced * 3;
    for Answer { asked, heard, mac } in &answers {
        let is_ours = *mac == Some(ours);
        ensure!(!is_ours || *asked < lease_ends, "answered {:?} too late", *asked - lease_ends);
        let is_theirs = *mac == Some(theirs);
        ensure!(!is_theirs || *heard >= first.at, "keepalived answered before it was Active");
    }
    let count = |wanted| answers.iter().filter(|answer| answer.mac == wanted).count();
    let counts = [Some(ours), None, Some(theirs)].map(count);
    super::super::measured(&format!("answers of ours, nobody, keepalived: {counts:?}"));
    ensure!(counts[0] > 0 && counts[2] > 0, "{counts:?}");
    Ok(())
}

/// Hands over to nobody; keepalived's first advertisement.
fn take_over(
    pair: &Pair,
    controller: &mut lb_tests::controller::Controller<'_>,
    mark: usize,
) -> Result<Said> {
    ensure!(controller.stop(true)?.success());
    let theirs = pair.theirs();
    let wanted = |said: &Said| said.priority_of(theirs).is_some();
    let first = pair.wire.wait("keepalived", mark, PATIENCE, wanted)?;
    pair.wait_vip(pair.other(), pair.vip(), true)?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(first)
}

/// The last advertisement of ours.
struct LastWords {
    at: Duration,
    interval: Duration,
}

fn last_words(pair: &Pair, mark: usize) -> Result<LastWords> {
    let said = pair.wire.said();
    let mut ours = said.iter().skip(mark).filter(|said| said.priority_of(pair.ours()).is_some());
    let last = ours.next_back().context("we did not advertise")?;
    Ok(LastWords { at: last.at, interval: interval(last).context("no interval")? })
}

/// What an advertisement of version 3 says.
fn interval(said: &Said) -> Option<Duration> {
    match &said.what {
        What::Advert { message, .. } => {
            let bytes = message.get(4..6)?;
            Some(Duration::from_millis(u64::from(u16::from_be_bytes([bytes[0], bytes[1]])) * 10))
        }
        What::Garp { .. } | What::Advertisement { .. } | What::Answer { .. } => None,
    }
}

/// Who said to have the VIP, and when the question was asked and answered: of CLOCK_REALTIME.
struct Answer {
    asked: Duration,
    heard: Duration,
    mac: Option<[u8; 6]>,
}

fn ask_again_and_again(pair: &Pair, stop: &AtomicBool) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let asked = now()?;
        let mac = ask(&pair.lab.client.netns, SocketAddr::from((pair.lab.vip(), 9)))?;
        answers.push(Answer { asked, heard: now()?, mac });
    }
    Ok(answers)
}

/// Has a host ask by ARP who has an address.
fn ask(netns: &Netns, target: SocketAddr) -> Result<Option<[u8; 6]>> {
    let address = target.ip();
    // There may be nothing to forget.
    let _ = netns.ip(&format!("neigh del {address} dev eth0"));
    netns.on_thread(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.send_to(b"?", target)?;
        Ok(())
    })?;
    std::thread::sleep(Duration::from_millis(15));
    let said = netns.ip(&format!("neigh show {address} dev eth0"))?;
    let mac = said.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
    let Some(mac) = mac else { return Ok(None) };
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("a MAC: {mac}"))?;
    Ok(<[u8; 6]>::try_from(bytes.as_slice()).ok())
}

#[expect(clippy::disallowed_methods, reason = "compared with the time stamps of frames")]
fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}
