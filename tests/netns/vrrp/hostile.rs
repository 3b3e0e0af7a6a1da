//! What nobody should send: malformed, lax and mutated advertisements.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_tests::advert::{self, Advert};
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::link::{self, Hears};
use lb_tests::scrape::wait_sum;
use lb_tests::wire::Wire;
use socket2::Socket;

use super::{INTERVAL, Pair};
use crate::scene::PATIENCE;

/// How fast they are sent.
const PER_SECOND: u32 = 10_000;
/// In CI; `FAIRLEAD_FUZZ_ADVERTS=1000000` makes a longer run.
const MUTATED: u32 = 100_000;
const LATE_P99: Duration = Duration::from_millis(20);
/// An Active one answers what ranks below it, but so often at most.
const ADVERTS_PER_INTERVAL: u128 = 8;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_is_malformed_is_dropped_and_counted_and_what_is_lax_is_taken() -> Result<()> {
    let pair = Pair::build()?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "active")?;
    let socket = speaker(&pair)?;
    let sound = higher(&pair);
    let two = || vec![pair.lab.vip(), Ipv4Addr::new(10, 77, 0, 101)];
    let malformed = [
        ("interval 0", "adv_interval_errors", Advert { interval: 0, ..sound.clone() }),
        ("TTL 254", "ip_ttl_errors", Advert { ttl: 254, ..sound.clone() }),
        ("type 2", "invalid_type_packets", Advert { first: 0x32, ..sound.clone() }),
        ("version 2", "version_errors", Advert { first: 0x21, ..sound.clone() }),
        ("version 4", "version_errors", Advert { first: 0x41, ..sound.clone() }),
        ("count 0", "address_list_errors", Advert { vips: vec![], ..sound.clone() }),
        ("an address short", "packet_length_errors", Advert { count: Some(2), ..sound.clone() }),
        ("cut", "packet_length_errors", Advert { missing: 1, vips: two(), ..sound.clone() }),
        ("header only in part", "packet_length_errors", Advert { missing: 5, ..sound.clone() }),
        ("checksum", "checksum_errors", Advert { is_sum_wrong: true, ..sound.clone() }),
        ("another VRID", "vrid_errors", Advert { vrid: 78, ..sound.clone() }),
    ];
    for (what, counter, advert) in malformed {
        let count = |name: &str| counter_of(&controller, name);
        let before = (count(counter)?, count("advertisements_received")?);
        socket.send(&advert.frame())?;
        let seen = || Ok((count(counter)?, count("advertisements_received")?));
        eventually_is(what, PATIENCE, seen, |seen| *seen == (before.0 + 1, before.1))?;
        ensure!(state(&controller)? == "active", "{what} was obeyed");
    }
    for (name, count) in [
        ("adv_interval_errors", 1.0),
        ("ip_ttl_errors", 1.0),
        ("rcvd_invalid_type_packets", 1.0),
        ("version_errors", 2.0),
        ("address_list_errors", 1.0),
        ("packet_length_errors", 3.0),
        ("checksum_errors", 1.0),
        ("vrid_errors", 1.0),
    ] {
        wait_sum(&controller, &format!("fairlead_vrrp_{name}_total"), &[], |sum| sum == count)?;
    }
    // Four reserved bits are ignored; what comes after the packet is Ethernet's, after the list nobody's.
    let reserved = Advert { interval: 0xf00a, ..sound.clone() };
    let mut longer = sound.message();
    longer.extend([0xaa; 9]);
    let mut padded = sound.frame();
    padded.extend([0xbb; 40]);
    let long = advert::frame(sound.source, 255, &longer);
    for (what, frame) in [("reserved bits", reserved.frame()), ("padding", padded), ("more", long)]
    {
        pair.wait_state(&controller, "active")?;
        socket.send(&frame)?;
        pair.wait_state(&controller, "backup").context(what)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
#[expect(clippy::disallowed_methods, reason = "a test of how often something happens")]
fn mutated_advertisements_neither_stop_nor_delay_an_active_instance() -> Result<()> {
    let wanted = std::env::var("FAIRLEAD_FUZZ_ADVERTS").ok();
    let wanted = wanted.map_or(Ok(MUTATED), |text| text.parse())?;
    let pair = Pair::build()?;
    let mut controller = pair.start(&pair.settings(200))?;
    pair.wait_state(&controller, "active")?;
    let socket = speaker(&pair)?;
    let wire = Wire::of_port(&pair.lab.fabric, "lb1")?;
    let mut random = Random(0x5eed_0077);
    let (start, mut sent) = (Instant::now(), 0);
    while sent < wanted {
        let due = start.elapsed().as_micros() * u128::from(PER_SECOND) / 1_000_000;
        let due = u32::try_from(due)?;
        while sent < due.min(wanted) {
            // The link may have no room: then this one is lost.
            let _ = socket.send(&mutated(&pair, &mut random));
            sent += 1;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let took = start.elapsed();
    std::thread::sleep(INTERVAL * 3);
    ensure!(controller.is_running()?, "it ended:\n{}", controller.log());
    let status = controller.status()?;
    ensure!(status["vrrp"][0]["state"] == "active", "{status}");
    ensure!(status["vrrp"][0]["term"] == 1, "{status}");
    let adverts: Vec<Duration> =
        wire.adverts(pair.ours(), 0).into_iter().map(|(at, _)| at).collect();
    let mut late: Vec<Duration> =
        adverts.windows(2).map(|pair| (pair[1] - pair[0]).saturating_sub(INTERVAL)).collect();
    late.sort_unstable();
    let worst = *late.last().context("no advertisements")?;
    let p99 = late[late.len() * 99 / 100];
    super::super::measured(&format!(
        "{sent} mutated in {took:?}; {} advertisements, late p99 {p99:?} max {worst:?}; {}",
        adverts.len(),
        status["vrrp"][0]["counters"],
    ));
    ensure!(p99 < LATE_P99, "advertisements are late: {p99:?}");
    let most = ADVERTS_PER_INTERVAL * (took + INTERVAL * 6).as_millis() / INTERVAL.as_millis();
    ensure!(adverts.len() as u128 <= most, "{} advertisements, not {most}", adverts.len());
    ensure_log_is_bounded(&controller.log(), took)
}

/// A line for each second and cause at most: causes are lines without their figures and names.
fn ensure_log_is_bounded(log: &str, took: Duration) -> Result<()> {
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("vrrp")) {
        let (_, text) = line.split_once("vrrp").context("no instance")?;
        let words =
            text.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        *causes.entry(words.collect::<Vec<_>>().join(" ")).or_default() += 1;
    }
    super::super::measured(&format!("{causes:?}"));
    let most = took.as_secs() + 3;
    let chatty = causes.iter().find(|(_, count)| **count > most);
    ensure!(chatty.is_none(), "more than {most} lines: {chatty:?}");
    ensure!(causes.len() > 4, "too few causes: {causes:?}");
    Ok(())
}

/// An advertisement that ranks below ours, or does not count, with some of its bytes changed; the
/// checksum is made right again in half of them.
fn mutated(pair: &Pair, random: &mut Random) -> Vec<u8> {
    let source = Ipv4Addr::new(10, 77, 0, 3 + random.below(20));
    let mut message = Advert::new(source, 77, 1 + random.below(150), pair.lab.vip()).message();
    if random.below(16) == 0 {
        message.extend((0..random.below(200)).map(|_| 0x5a));
    }
    for _ in 0..random.below(4) {
        let place = usize::from(random.below(u8::MAX)) % message.len();
        message[place] = random.below(u8::MAX);
    }
    // What ranks above us would be obeyed, and rightly so. Priority 0 asks for an answer at once.
    message[2] = if random.below(16) == 0 { 0 } else { message[2] % 150 };
    if random.below(8) == 0 {
        message.truncate(usize::from(random.below(16)));
    }
    if random.below(2) == 0 {
        advert::seal(source, &mut message);
    }
    let ttl = if random.below(16) == 0 { random.below(u8::MAX) } else { 255 };
    advert::frame(source, ttl, &message)
}

/// Sound, and of a higher priority than ours.
fn higher(pair: &Pair) -> Advert {
    Advert::new(pair.other().host.address, 77, 200, pair.lab.vip())
}

/// A socket on the other node.
fn speaker(pair: &Pair) -> Result<Socket> {
    pair.other().host.netns.on_thread(|| link::open("eth0", Hears::Nothing))
}

fn counter_of(controller: &Controller<'_>, name: &str) -> Result<u64> {
    let status = controller.status()?;
    status["vrrp"][0]["counters"][name].as_u64().with_context(|| format!("no counter {name}"))
}

fn state(controller: &Controller<'_>) -> Result<String> {
    let status = controller.status()?;
    Ok(status["vrrp"][0]["state"].as_str().context("no state")?.to_owned())
}

/// Xorshift: the same run for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u8) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u8::try_from((self.0 >> 11) % u64::from(limit)).unwrap_or_default()
    }
}
