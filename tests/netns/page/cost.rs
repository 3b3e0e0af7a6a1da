//! What scrapers and open pages cost.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::*;
use crate::measured;

const PAGES: usize = 50;
const SCRAPES_PER_SECOND: u32 = 100;
const SPAN: Duration = Duration::from_secs(8);
/// Of a core. What is wanted is 5 % on a machine with nothing else to do; this one runs tests, on two cores.
const BOUND: f64 = 0.25;
/// `USER_HZ`, in which the kernel counts a process's time; it is so on every architecture.
const TICKS: f64 = 100.0;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_hundred_scrapes_a_second_and_fifty_pages_cost_little() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let controller = start(&lab)?;
    let pid = controller.pid().context("no controller")?;
    let idle = spent(pid, || std::thread::sleep(SPAN))?;
    let (served, load) = lab.lbs[0].host.netns.on_thread(|| {
        let (stop, shown) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut outcome = None;
        std::thread::scope(|scope| {
            for _ in 0..PAGES {
                scope.spawn(|| look_on(&stop, &shown));
            }
            outcome = Some(spent(pid, scrape));
            stop.store(true, Ordering::Relaxed);
        });
        let load = outcome.context("nothing was measured")??;
        Ok((shown.into_inner(), load))
    })?;
    let more = load - idle;
    measured(&format!(
        "{SCRAPES_PER_SECOND} scrapes/s and {PAGES} pages ({served} statuses shown): {:.1} % of a core, \
         beside {:.1} % without",
        more * 100.0,
        idle * 100.0
    ));
    let least = PAGES as u64 * (SPAN.as_secs() - 3);
    ensure!(served >= least, "{served} statuses were shown, {least} should have been");
    ensure!(more < BOUND, "{:.1} % of a core", more * 100.0);
    let listener = &controller.status()?["listener"];
    let requests = listener["requests"].as_u64().context("no listener")?;
    let least = SPAN.as_secs() * u64::from(SCRAPES_PER_SECOND) * 8 / 10;
    ensure!(requests >= least, "{requests} requests, {least} should have been");
    let refused = listener["refused"].as_object().context("no listener")?;
    ensure!(refused.values().all(|count| *count == 0), "{listener}");
    Ok(())
}

/// Part of a core that the process takes while that is done.
#[expect(clippy::disallowed_methods, reason = "a test of what something costs")]
fn spent(pid: u32, work: impl FnOnce()) -> Result<f64> {
    let used = || -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // After the name, which may have blanks: proc(5) has user and system time as the 14th and 15th.
        let rest = stat.rsplit(')').next().context("no stat")?;
        let ticks = rest.split_whitespace().skip(11).take(2).map(|it| it.parse::<f64>());
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
    };
    let (start, before) = (Instant::now(), used()?);
    work();
    Ok((used()? - before) / start.elapsed().as_secs_f64())
}

/// As a page does: one connection, all that comes.
fn look_on(stop: &AtomicBool, shown: &AtomicU64) {
    let Ok(mut stream) = ask("/v1/live") else { return };
    let mut bytes = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok(count @ 1..) = stream.read(&mut bytes) else { return };
        let text = String::from_utf8_lossy(&bytes[..count]);
        shown.fetch_add(text.matches("event: status").count() as u64, Ordering::Relaxed);
    }
}

/// As Prometheus does: one connection, one request after the other.
#[expect(clippy::disallowed_methods, reason = "it keeps a pace")]
fn scrape() {
    let Ok(mut stream) = ask("/v1/status") else { return };
    let (start, mut count) = (Instant::now(), 1);
    let mut bytes = vec![0; 65_536];
    while start.elapsed() < SPAN {
        // Smaller than what one read brings.
        let Ok(1..) = stream.read(&mut bytes) else { return };
        let next = start + Duration::from_secs(1) * count / SCRAPES_PER_SECOND;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if stream.write_all(request("/v1/status").as_bytes()).is_err() {
            return;
        }
        count += 1;
    }
}

fn ask(path: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(LISTEN)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request(path).as_bytes())?;
    Ok(stream)
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {LISTEN}\r\n\r\n")
}
