//! What scrapers and open pages cost, and whether they hold up what must be on time.

use std::collections::BTreeMap;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use lb_tests::capture::Capture;
use lb_tests::packet::ETH_LEN;
use lb_tests::standstill;
use pcap_file::pcap::PcapReader;

use lb_tests::used::Used;

use super::*;
use crate::measured;

const PAGES: usize = 50;
const SCRAPES_PER_SECOND: u32 = 100;
const SPAN: Duration = Duration::from_secs(8);
/// Of a core, for the binary that is released.
const BOUND: f64 = 0.05;
/// For one without optimisations, of which nothing is promised.
const BOUND_UNOPTIMISED: f64 = 0.5;
/// The protocol of advertisements.
const VRRP: u8 = 112;
/// Of advertisements.
const ADVERTS: Duration = Duration::from_millis(100);
/// Of probes, each of which may come a tenth later.
const PROBES: Duration = Duration::from_millis(250);
/// What a machine that runs clients, pages and servers on the same cores adds.
const SLACK: Duration = Duration::from_millis(75);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_hundred_scrapes_a_second_and_fifty_pages_cost_little_and_delay_nothing() -> Result<()> {
    standstill::watch()?;
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let controller = start_with(&lab, elected)?;
    let pid = controller.pid().context("no controller")?;
    let quiet = Punctual::watch(&lab, "quiet.pcap")?;
    let idle = spent(pid, || std::thread::sleep(SPAN))?;
    let quiet = quiet.gaps()?;
    let busy = Punctual::watch(&lab, "busy.pcap")?;
    let (served, load) = lab.lbs[0].host.netns.on_thread(|| load(pid))?;
    let busy = busy.gaps()?;
    let more = load - idle;
    measured(&format!(
        "{SCRAPES_PER_SECOND} scrapes/s and {PAGES} pages ({served} statuses shown): {:.1} % of a core, \
         beside {:.1} % without",
        more * 100.0,
        idle * 100.0
    ));
    measured(&format!("longest gaps: without {quiet:?}, with {busy:?}"));
    let least = PAGES as u64 * (SPAN.as_secs() - 3);
    ensure!(served >= least, "{served} statuses were shown, {least} should have been");
    let bound = if is_optimised() { BOUND } else { BOUND_UNOPTIMISED };
    ensure!(more < bound, "{:.1} % of a core", more * 100.0);
    answered(&controller)?;
    for (name, gaps) in &busy {
        let (interval, most) = if name == "adverts" {
            (ADVERTS, ADVERTS + SLACK)
        } else {
            (PROBES, PROBES * 11 / 10 + SLACK)
        };
        let expected = (SPAN.as_millis() / interval.as_millis()) as usize * 8 / 10;
        ensure!(gaps.count >= expected, "{name}: {} of {expected}", gaps.count);
        ensure!(gaps.longest <= most, "{name}: a gap of {:?}", gaps.longest);
    }
    ensure!(busy.len() == 1 + lab.backends.len(), "{busy:?}");
    Ok(())
}

/// `cargo xtask test` says which binary it has built.
fn is_optimised() -> bool {
    env::var_os("FAIRLEAD_BIN_PROFILE").is_some_and(|profile| profile == "release")
}

/// With an election to advertise for, and probes often enough to notice one that is late.
fn elected(yaml: &str) -> String {
    let vip = yaml.lines().find_map(|line| line.trim().strip_prefix("vips: ")).unwrap_or_default();
    let instance = format!(
        "vrrp:\n  - {{ name: edge, interface: eth0, vrid: 77, priority: 200, advert_interval: {}ms, vips: {vip} }}\n",
        ADVERTS.as_millis()
    );
    let often = format!("interval: {}ms, timeout: 200ms", PROBES.as_millis());
    yaml.replacen("interval: 1s, timeout: 1s", &often, 1) + &instance
}

/// All of them at once; how many statuses the pages were shown, and the part of a core that it took.
fn load(pid: u32) -> Result<(u64, f64)> {
    let (stop, shown) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut outcome = None;
    std::thread::scope(|scope| {
        for _ in 0..PAGES {
            scope.spawn(|| look_on(&stop, &shown));
        }
        outcome = Some(spent(pid, scrape));
        stop.store(true, Ordering::Relaxed);
    });
    Ok((shown.into_inner(), outcome.context("nothing was measured")??))
}

/// Nothing was turned away.
fn answered(controller: &Controller<'_>) -> Result<()> {
    let listener = &controller.status()?["listener"];
    let requests = listener["requests"].as_u64().context("no listener")?;
    let least = SPAN.as_secs() * u64::from(SCRAPES_PER_SECOND) * 8 / 10;
    ensure!(requests >= least, "{requests} requests, {least} should have been");
    let refused = listener["refused"].as_object().context("no listener")?;
    ensure!(refused.values().all(|count| *count == 0), "{listener}");
    Ok(())
}

/// What the node sends that must be on time, as the kernel sees it on the wire.
struct Punctual {
    capture: Capture,
    file: PathBuf,
}

/// Between what should come regularly.
#[derive(Clone, Copy, Debug, Default)]
struct Gaps {
    count: usize,
    longest: Duration,
}

impl Punctual {
    fn watch(lab: &Topology, file: &str) -> Result<Self> {
        let node = &lab.lbs[0].host;
        let file = lab.directory().join(file);
        let probes = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn";
        let filter = format!("src host {} and (ip proto 112 or {probes})", node.address);
        Ok(Self { capture: Capture::start(&lab.fabric, &node.name, &filter, &file)?, file })
    }

    /// Of advertisements, and of the probes of each backend.
    fn gaps(self) -> Result<BTreeMap<String, Gaps>> {
        self.capture.finish()?;
        let mut reader = PcapReader::new(fs::File::open(&self.file)?)?;
        let (mut last, mut all) = (BTreeMap::new(), BTreeMap::<String, Gaps>::new());
        while let Some(packet) = reader.next_packet() {
            let packet = packet?;
            let ip = packet.data.get(ETH_LEN..).context("a short frame")?;
            let [protocol, rest @ ..] = &ip[9..20] else { continue };
            let name = if *protocol == VRRP {
                "adverts".to_owned()
            } else {
                format!("probes of {:?}", &rest[6..10])
            };
            let gaps = all.entry(name.clone()).or_default();
            gaps.count += 1;
            if let Some(before) = last.insert(name, packet.timestamp) {
                // What is late because the machine was is not late.
                let stood = standstill::during(&(before..packet.timestamp));
                let gap = packet.timestamp.saturating_sub(before).saturating_sub(stood);
                gaps.longest = gaps.longest.max(gap);
            }
        }
        Ok(all)
    }
}

/// Part of a core that the process takes while that is done.
#[expect(clippy::disallowed_methods, reason = "a test of what something costs")]
fn spent(pid: u32, work: impl FnOnce()) -> Result<f64> {
    let used = || Used::by(pid).map(|used| used.cpu_seconds);
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
    let Ok(mut stream) = ask("/metrics") else { return };
    let (start, mut count) = (Instant::now(), 1);
    while start.elapsed() < SPAN {
        if read_answer(&mut stream).is_err() {
            return;
        }
        let next = start + Duration::from_secs(1) * count / SCRAPES_PER_SECOND;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if stream.write_all(request("/metrics").as_bytes()).is_err() {
            return;
        }
        count += 1;
    }
}

/// Reads one answer to its end.
fn read_answer(stream: &mut TcpStream) -> Result<()> {
    const END: &[u8] = b"\r\n\r\n";
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 65_536]);
    loop {
        let count = stream.read(&mut piece)?;
        ensure!(count > 0, "it hung up");
        bytes.extend_from_slice(&piece[..count]);
        let Some(head) = bytes.windows(END.len()).position(|part| part == END) else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("an answer without a length")?.trim().parse()?;
        if bytes.len() >= head + END.len() + length {
            return Ok(());
        }
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
