//! What a controller that was killed or hangs still does for its VIPs, and until when.
//!
//! ```text
//!  last advertisement          answer_until               forward_until
//!  │◄─────── 3 intervals ───────────►│◄────── linger ─────────►│
//!   answers, makes flows, forwards     forwards what it knows    drops everything
//! ```

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::Signal;
use lb_tests::controller::Controller;
use lb_tests::family::Family;
use lb_tests::link::Asking;
use lb_tests::topology::API_PORT;

use super::{INTERVAL, Ours, Pair, ensure_between, together, wait_both};
use crate::scene::PATIENCE;

/// The lease for answers and flows.
const ANSWERS: Duration = INTERVAL.saturating_mul(3);
const LINGER: Duration = Duration::from_secs(1);
/// Between two attempts of one kind.
const PAUSE: Duration = Duration::from_millis(5);
/// A frame on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(10);
/// A busy machine does not try all the time.
const SELDOM: Duration = Duration::from_millis(120);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_controller_that_is_killed_or_hangs_answers_nobody_once_its_peer_does() -> Result<()> {
    together(&[
        ("killed", &|| silent_before_the_peer(Signal::SIGKILL)),
        ("stopped", &|| silent_before_the_peer(Signal::SIGSTOP)),
        ("nobody takes over", &nothing_after_the_linger),
    ])
}

fn silent_before_the_peer(signal: Signal) -> Result<()> {
    let pair = Pair::build()?;
    let _keepalived = pair.dual_keepalived(100)?;
    let mut controller = dual_controller(&pair, "")?;
    let vips = Family::ALL.map(|family| pair.lab.vip_of(family));
    let (ours, theirs) = (pair.mac(pair.node())?, pair.mac(pair.other())?);
    let _asking = Asking::start(&pair.lab.client, &vips, PAUSE)?;
    point_at(&pair, ours)?;
    let stop = AtomicBool::new(false);
    let (mark, made) = std::thread::scope(|scope| {
        let tried = Family::ALL.map(|family| {
            let (pair, stop) = (&pair, &stop);
            scope.spawn(move || flows_made(pair, family, stop))
        });
        std::thread::sleep(INTERVAL * 3);
        let mark = pair.wire.mark();
        let begun = controller.signal(signal).and_then(|()| taken_over(&pair, mark));
        std::thread::sleep(INTERVAL * 10);
        stop.store(true, Ordering::Relaxed);
        let made = tried.map(|thread| thread.join().expect("an attempt panicked"));
        begun.map(|()| (mark, made))
    })?;
    for ((family, vip), made) in Family::ALL.into_iter().zip(vips).zip(made) {
        let last = last_advert(&pair, 0, family)?;
        let peer = pair.wire.adverts(source(&pair, 1, family)?, mark);
        let (taken_over, _) = *peer.first().context("nobody took over")?;
        let answered = pair.wire.answers(vip, ours);
        let answered = *answered.last().context("we never answered")?;
        ensure_between(
            "answered for",
            answered.saturating_sub(last),
            ANSWERS - SELDOM,
            ANSWERS + ON_ITS_WAY,
        )?;
        let made = made?.context("no flow was ever made")?;
        ensure_between(
            "made flows for",
            made.saturating_sub(last),
            ANSWERS - SELDOM,
            ANSWERS + ON_ITS_WAY,
        )?;
        ensure!(answered < taken_over && made < taken_over, "the peer took over before");
        ensure!(!pair.wire.answers(vip, theirs).is_empty(), "the peer does not answer for {vip}");
    }
    Ok(())
}

/// The frames of clients that know no other node still come.
fn nothing_after_the_linger() -> Result<()> {
    let pair = Pair::build()?;
    // The kernel's errors show that a packet was passed to it.
    pair.node().host.netns.sysctl("ipv4/icmp_ratelimit", "0")?;
    pair.node().host.netns.sysctl("ipv6/icmp/ratelimit", "0")?;
    let mut controller = dual_controller(&pair, "    linger: 1s")?;
    point_at(&pair, pair.mac(pair.node())?)?;
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let (pair, stop) = (&pair, &stop);
        let tried = Family::ALL.map(|family| {
            [
                scope.spawn(move || flows_made(pair, family, stop)),
                scope.spawn(move || forwarded(pair, family, stop)),
                scope.spawn(move || passed(pair, family, stop)),
            ]
        });
        std::thread::sleep(INTERVAL * 3);
        let killed = controller.kill9();
        std::thread::sleep(ANSWERS + LINGER + INTERVAL * 5);
        stop.store(true, Ordering::Relaxed);
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Option<Duration>>>| {
            thread.join().expect("an attempt panicked")
        };
        let seen = tried.map(|threads| threads.map(join));
        killed.map(|()| seen)
    })?;
    for (family, [made, forwarded, passed]) in Family::ALL.into_iter().zip(seen) {
        let last = last_advert(&pair, 0, family)?;
        let after = |what: &str, at: Result<Option<Duration>>| {
            let at = at?.with_context(|| format!("{family:?}: never {what}"))?;
            Ok::<Duration, anyhow::Error>(at.saturating_sub(last))
        };
        let (answers, all) = (ANSWERS + ON_ITS_WAY, ANSWERS + LINGER + ON_ITS_WAY);
        ensure_between("made flows for", after("made", made)?, ANSWERS - SELDOM, answers)?;
        ensure_between("forwarded for", after("forwarded", forwarded)?, all - SELDOM, all)?;
        ensure_between("passed for", after("passed", passed)?, Duration::ZERO, all)?;
    }
    Ok(())
}

/// When the last attempt began that made a flow.
fn flows_made(pair: &Pair, family: Family, stop: &AtomicBool) -> Result<Option<Duration>> {
    let target = SocketAddr::from((pair.lab.vip_of(family), API_PORT));
    let connects = || TcpStream::connect_timeout(&target, INTERVAL / 4).is_ok();
    pair.lab.client.netns.on_thread(|| last_that(stop, connects))
}

/// When the last line was sent that came back, on one connection.
fn forwarded(pair: &Pair, family: Family, stop: &AtomicBool) -> Result<Option<Duration>> {
    let target = SocketAddr::from((pair.lab.vip_of(family), API_PORT));
    pair.lab.client.netns.on_thread(|| {
        let stream = TcpStream::connect_timeout(&target, INTERVAL * 10)?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        stream.read_line(&mut String::new())?;
        stream.get_ref().set_read_timeout(Some(INTERVAL / 2))?;
        let mut exchange = || -> std::io::Result<bool> {
            stream.get_mut().write_all(b"still there?\n")?;
            Ok(stream.read_line(&mut String::new())? > 0)
        };
        last_that(stop, || exchange().unwrap_or(false))
    })
}

/// When the last datagram was sent that the node's kernel said something about.
fn passed(pair: &Pair, family: Family, stop: &AtomicBool) -> Result<Option<Duration>> {
    let own: IpAddr = pair.lab.client.address_of(family);
    let vip = pair.lab.vip_of(family);
    pair.lab.client.netns.on_thread(|| {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect((vip, 9))?;
        socket.set_read_timeout(Some(INTERVAL / 5))?;
        let refused = || {
            let sent = socket.send(b"anybody?").and_then(|_| socket.recv(&mut [0; 16]));
            sent.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        };
        last_that(stop, refused)
    })
}

/// Tries until `stop`; when the last attempt began that succeeded.
fn last_that(stop: &AtomicBool, mut attempt: impl FnMut() -> bool) -> Result<Option<Duration>> {
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        let begun = now()?;
        if attempt() {
            last = Some(begun);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(last)
}

/// The clock of the wire's time stamps.
#[expect(clippy::disallowed_methods, reason = "compared with time stamps of frames")]
fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// Ours with both families, Active, whose backend is up.
fn dual_controller<'pair>(pair: &'pair Pair, more: &'static str) -> Result<Controller<'pair>> {
    let controller = pair.start(&Ours { vips6: pair.vips6(), more, ..pair.settings(200) })?;
    for name in ["cp1", "cp1-v6"] {
        controller.wait_backend(name, "up", PATIENCE)?;
    }
    wait_both(&controller, "active")?;
    for family in Family::ALL {
        pair.wait_vip(pair.node(), pair.lab.vip_of(family), true)?;
        pair.wait_vip(pair.other(), pair.lab.vip_of(family), false)?;
    }
    Ok(controller)
}

/// Whatever is said about the VIPs, the client sends to this MAC.
fn point_at(pair: &Pair, mac: [u8; 6]) -> Result<()> {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    for family in Family::ALL {
        let vip = pair.lab.vip_of(family);
        let words = format!("neigh replace {vip} lladdr {mac} dev eth0 nud permanent");
        pair.lab.client.netns.ip(&words)?;
    }
    Ok(())
}

/// Waits until keepalived advertises in both families.
fn taken_over(pair: &Pair, mark: usize) -> Result<()> {
    for family in Family::ALL {
        let peer = source(pair, 1, family)?;
        pair.wire.wait("keepalived", mark, PATIENCE, |said| said.priority_of(peer).is_some())?;
    }
    Ok(())
}

fn last_advert(pair: &Pair, node: usize, family: Family) -> Result<Duration> {
    let adverts = pair.wire.adverts(source(pair, node, family)?, 0);
    Ok(adverts.last().context("we never advertised")?.0)
}

/// Where a node's advertisements come from.
fn source(pair: &Pair, node: usize, family: Family) -> Result<IpAddr> {
    match family {
        Family::V4 => Ok(pair.lab.lbs[node].host.address.into()),
        Family::V6 => super::link_local(&pair.lab.lbs[node]),
    }
}
