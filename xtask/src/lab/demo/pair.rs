//! `lab demo --pair`: two nodes that share their flows; the one with the VIP dies under load and comes back, and
//! streams go on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_tests::controller::{self, Controller};
use lb_tests::load::{Load, Pace, Running, Talk};
use lb_tests::topology::{API_PORT, Plan, Topology};

use super::super::interrupt::Interrupt;
use super::super::servers::Servers;
use super::{DemoArgs, UP_TIMEOUT};

/// What must happen at all happens within this.
const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);
const SYNC_PORT: u16 = 7946;

/// The stage: two nodes and what looks at them.
struct Show<'lab> {
    lab: &'lab Topology,
    nodes: [Controller<'lab>; 2],
    load: Running,
    interrupt: Interrupt,
}

pub(super) fn run(args: &DemoArgs, program: &Path, interrupt: Interrupt) -> Result<ExitCode> {
    let lab = Topology::build(&Plan { arms: args.lab.arms(), lb_nodes: 2, ..Plan::default() })?;
    let servers = Servers::start_all(&lab, false)?;
    let nodes = [node(&lab, &servers, program, 0)?, node(&lab, &servers, program, 1)?];
    for host in &lab.backends {
        for node in &nodes {
            node.wait_backend(&host.name, "up", UP_TIMEOUT)?;
        }
    }
    let load = Load {
        target: SocketAddr::from((lab.vip(), API_PORT)),
        talk: Talk::tls(servers.pki())?,
        pace: Pace::Open { per_second: args.rate },
        watches: args.watches,
    };
    println!(
        "Two nodes, lb1 and lb2, share their flows. Load on {}: {} TLS connections/s, {} watch streams.\n",
        load.target, args.rate, args.watches
    );
    wait_active(&nodes[0])?;
    let load = load.start(&lab.client.netns.handle())?;
    let mut show = Show { lab: &lab, nodes, load, interrupt };
    let played = play(&mut show, SECOND * args.seconds_per_phase);
    let recorder = show.load.recorder.clone();
    let breaks = show.load.watches.breaks(&(Duration::ZERO..Duration::MAX));
    let longest = show.load.watches.longest_gap(&(Duration::ZERO..Duration::MAX));
    drop(show.load.stop()?);
    let report = recorder.report(&(Duration::ZERO..Duration::MAX));
    println!(
        "\n{} of {} watch streams broke; the longest silence in one was {} ms.\n{} of {} new connections \
         failed: {:?}",
        breaks.len(),
        args.watches,
        longest.as_millis(),
        report.failed_total(),
        report.sent,
        report.failed
    );
    played?;
    Ok(ExitCode::from(u8::from(!breaks.is_empty())))
}

fn play(show: &mut Show<'_>, phase: Duration) -> Result<()> {
    show.watch("both are up", phase)?;
    show.nodes[0].kill9()?;
    show.lab.fabric.ip("link set lb1 down")?;
    println!("       lb1 died: its controller was killed and its link cut");
    let from = show.load.recorder.now();
    show.until("lb1 is dead", &|show| is_active(&show.nodes[1]))?;
    let took = show.load.recorder.now() - from;
    println!("       lb2 has the VIP after {} ms", took.as_millis());
    show.watch("lb2 serves", phase)?;
    show.lab.fabric.ip("link set lb1 up")?;
    show.nodes[0].start()?;
    println!("       lb1 is back; it learns what lb2 knows before it takes the VIP");
    show.until("lb1 learns", &|show| is_active(&show.nodes[0]))?;
    println!("       lb1 has the VIP again");
    show.watch("lb1 serves again", phase)
}

impl Show<'_> {
    /// Shows each second of so many.
    fn watch(&self, label: &str, span: Duration) -> Result<()> {
        let end = self.load.recorder.now() + span;
        while self.load.recorder.now() < end {
            self.line(label)?;
        }
        Ok(())
    }

    fn until(&self, label: &str, is_so: &dyn Fn(&Self) -> Result<bool>) -> Result<()> {
        let end = self.load.recorder.now() + PATIENCE;
        while !is_so(self)? {
            if self.load.recorder.now() > end {
                bail!("{label}: not over within {} s", PATIENCE.as_secs());
            }
            self.interrupt.check()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A second, and what came of it.
    fn line(&self, label: &str) -> Result<()> {
        let from = self.load.recorder.now();
        std::thread::sleep(SECOND);
        self.interrupt.check()?;
        let now = self.load.recorder.now();
        let answers: usize = self.load.recorder.answers(&(from..now)).values().sum();
        let failed = self.load.recorder.report(&(Duration::ZERO..now)).failed_total();
        let nodes = self.nodes.iter().zip(["lb1", "lb2"]).map(|(node, name)| state(node, name));
        println!(
            "{:3} s  {label:<18}  {answers:4} answers/s  failed {failed}  watches {}  {}",
            now.as_secs(),
            self.load.watches.open(),
            nodes.collect::<Vec<_>>().join("  ")
        );
        Ok(())
    }
}

/// Its VRRP state, and the flows that it has.
fn state(node: &Controller<'_>, name: &str) -> String {
    let Ok(status) = node.status() else { return format!("{name} is dead") };
    let state = status["vrrp"][0]["state"].as_str().unwrap_or("?").to_owned();
    format!("{name} {state}, {} flows", status["flows"]["established"])
}

fn is_active(node: &Controller<'_>) -> Result<bool> {
    Ok(node.status()?["vrrp"][0]["state"] == "active")
}

fn wait_active(node: &Controller<'_>) -> Result<()> {
    lb_tests::eventually::eventually_is("lb1 to be active", PATIENCE, || is_active(node), |is| *is)
        .map(drop)
}

fn node<'lab>(
    lab: &'lab Topology,
    servers: &Servers<'_>,
    program: &Path,
    index: usize,
) -> Result<Controller<'lab>> {
    let lb = lab.lbs.get(index).context("a lab without a second node")?;
    let other = lab.lbs.get(1 - index).context("a lab without a second node")?;
    let mut controller = Controller::new(lb, program, lab.directory());
    let key = lab.directory().join("sync-key");
    if index == 0 {
        write_key(&key)?;
    }
    let (own, other, vip) = (lb.host.address, other.host.address, lab.vip());
    let more = format!(
        "vrrp:
  - {{ name: api, interface: eth0, vrid: 51, priority: {}, advert_interval: 100ms, vips: [{vip}] }}
sync:
  listen: {own}:{SYNC_PORT}
  peers: [{other}:{SYNC_PORT}]
  key_file: {}
",
        250 - index,
        key.display()
    );
    let yaml = controller::config(lab, servers.pki(), controller.socket()) + &more;
    controller.write_config(&yaml)?;
    controller.start()?;
    Ok(controller)
}

/// 32 random bytes, for root only.
fn write_key(path: &Path) -> Result<()> {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).context("writing the key")
}
