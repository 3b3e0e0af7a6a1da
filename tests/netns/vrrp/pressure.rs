//! A machine without time, memory bandwidth and disk.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::advert::Advert;
use lb_tests::command::{Process, run};
use lb_tests::link::{self, Hears};
use lb_tests::standstill;

use super::{INTERVAL, Pair};

/// In CI; `FAIRLEAD_PRESSURE_SECONDS=60` makes a longer run.
const SECONDS: u64 = 10;
/// If the machine itself stands still, for two of the three intervals that a Backup waits.
const ATTEMPTS: usize = 3;
/// More than there are CPUs.
const HOGS: usize = 8;
/// What a loop of the shell does all the time.
const SPIN: &str = "while :; do :; done";
/// Takes memory, touches all of it, and gives it back.
const MEMORY: &str = "while :; do dd if=/dev/zero of=/dev/null bs=256M count=2 2>/dev/null; done";

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn pressure_on_cpu_memory_and_disk_costs_no_transition() -> Result<()> {
    let seconds = std::env::var("FAIRLEAD_PRESSURE_SECONDS").ok();
    let seconds = Duration::from_secs(seconds.map_or(Ok(SECONDS), |text| text.parse())?);
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        outcome = endure(seconds);
        // Both nodes are on one machine: when it goes on, either may be the first to run.
        let stood = standstill::lately(seconds * 2);
        if outcome.is_ok() || stood < INTERVAL * 2 {
            break;
        }
        super::super::measured(&format!("the machine stood still for {stood:?}: {outcome:?}"));
    }
    outcome
}

fn endure(seconds: Duration) -> Result<()> {
    let pair = Pair::build_with(3, 1)?;
    let _keepalived = pair.active_keepalived(100)?;
    let log = Stalled::new(&pair.lab.directory().join("stalled"))?;
    let mut controller = pair.controller(&pair.settings(200))?;
    controller.log_to(&log.path);
    controller.start()?;
    pair.wait_state(&controller, "active")?;
    let backup = pair.start_on(&pair.lab.lbs[2], &pair.settings(150))?;
    pair.wait_state(&backup, "backup")?;
    pair.wait_vip(pair.other(), pair.vip(), false)?;

    // Something to write about, once a second.
    let socket = pair.other().host.netns.on_thread(|| link::open("eth0", Hears::Nothing))?;
    let wrong = Advert::new(pair.lab.client.address, 77, 100, pair.lab.vip());
    let wrong = Advert { is_sum_wrong: true, ..wrong }.frame();
    log.fill()?;
    let mark = pair.wire.mark();
    let hogs = hogs(pair.lab.directory())?;
    for _ in 0..seconds.as_secs() * 4 {
        socket.send(&wrong)?;
        std::thread::sleep(Duration::from_millis(250));
    }
    let end = pair.wire.mark();
    drop(hogs);
    log.drain()?;

    let (ours, theirs) = (pair.ours(), pair.theirs());
    let third = pair.lab.lbs[2].host.address.into();
    let adverts: Vec<_> = pair.wire.adverts(ours, mark);
    let longest = adverts.windows(2).map(|two| two[1].0 - two[0].0).max().unwrap_or_default();
    let status = controller.status()?;
    let counters = &status["vrrp"][0]["counters"];
    let lateness = counters["worst_lateness_us"].as_u64().context("no lateness")?;
    super::super::measured(&format!(
        "{} advertisements in {seconds:?}, longest gap {longest:?}, worst lateness {lateness} µs, \
         {} said in all",
        adverts.len(),
        end - mark
    ));
    for other in [theirs, third] {
        let heard = pair.wire.adverts(other, mark);
        ensure!(heard.is_empty(), "{other} took over: {heard:?}");
    }
    ensure!(counters["master_transitions"] == 1, "{counters}");
    ensure!(counters["checksum_errors"].as_u64() >= Some(seconds.as_secs()), "{counters}");
    let transitions = backup.status()?["vrrp"][0]["counters"]["master_transitions"].clone();
    ensure!(transitions == 0, "the backup became active {transitions} times");
    let least = seconds.as_millis() / INTERVAL.as_millis();
    ensure!(adverts.len() as u128 + 3 >= least, "{} advertisements", adverts.len());
    ensure!(lateness > 0, "no lateness was measured");
    Ok(())
}

/// Busy loops, takers of memory, and writers that wait for the disk; all end when this is dropped.
fn hogs(directory: &Path) -> Result<Vec<Process>> {
    let disk = |number: usize| {
        let file = directory.join(format!("written{number}"));
        format!(
            "while :; do dd if=/dev/zero of={} bs=4M count=8 conv=fsync 2>/dev/null; done",
            file.display()
        )
    };
    let scripts = std::iter::repeat_n(SPIN.to_owned(), HOGS)
        .chain(std::iter::repeat_n(MEMORY.to_owned(), 2))
        .chain((0..2).map(disk));
    scripts.map(|script| Process::spawn(Command::new("sh").args(["-c", &script]))).collect()
}

/// A log whose disk takes no more bytes: a pipe that nobody reads.
struct Stalled {
    path: PathBuf,
    pipe: File,
}

impl Stalled {
    fn new(path: &Path) -> Result<Self> {
        run(Command::new("mkfifo").arg(path))?;
        let mut options = fs::OpenOptions::new();
        // With an end for reading, so that nobody waits for one.
        let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        Ok(Self { path: path.to_owned(), pipe: options.open(path)? })
    }

    /// Until a writer has to wait.
    fn fill(&self) -> Result<()> {
        for piece in [&[b'.'; 4096][..], b"."] {
            while wrote((&self.pipe).write(piece))? {}
        }
        Ok(())
    }

    /// Whoever waits goes on.
    fn drain(&self) -> Result<()> {
        let mut bytes = vec![0; 65_536];
        for _ in 0..10 {
            while wrote((&self.pipe).read(&mut bytes))? {}
            std::thread::sleep(INTERVAL / 4);
        }
        Ok(())
    }
}

/// `false`: it would have to wait.
fn wrote(done: std::io::Result<usize>) -> Result<bool> {
    match done {
        Ok(count) => Ok(count > 0),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}
