//! `lab demo`: everything that an operator fears, under load, with a count of what it cost.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use lb_tests::controller::{self, Controller};
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::topology::{self, API_PORT, Plan, Topology};

use self::display::Display;
use self::stage::Stage;
use self::verdict::Verdict;
use super::interrupt::Interrupt;
use super::servers::Servers;
use super::{LabOptions, binary};

mod display;
mod pair;
mod stage;
mod steps;
mod verdict;

/// From the controller's start until every server is seen up.
const UP_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    lab: LabOptions,
    /// New TLS connections each second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Watch streams that stay open
    #[arg(long, default_value_t = 12)]
    watches: usize,
    /// How long each step is watched at least
    #[arg(long, default_value_t = 5, hide = true)]
    seconds_per_phase: u32,
    /// Two nodes that share their flows: the one with the VIP dies and comes back
    #[arg(long, conflicts_with_all = ["direct", "two_arm"])]
    pair: bool,
    /// No load balancer: load straight at the first backend, to try the lab itself
    #[arg(long, hide = true)]
    direct: bool,
}

pub(super) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let interrupt = Interrupt::catch()?;
    let program = match args.direct {
        true => None,
        false => Some(binary::fairlead(args.lab.fairlead.as_deref())?),
    };
    topology::remove_stale()?;
    if args.pair {
        let program = program.context("a pair without a controller")?;
        return pair::run(args, &program, interrupt);
    }
    eprintln!("Building the lab …");
    let plan = Plan { arms: args.lab.arms(), ..Plan::default() };
    let lab = Topology::build(&plan)?;
    let servers = Servers::start_all(&lab, false)?;
    let controller = match &program {
        Some(program) => Some(start_controller(&lab, &servers, program)?),
        None => None,
    };
    interrupt.check()?;

    let target = match &controller {
        Some(_) => lab.vip(),
        None => lab.backends.first().context("a lab without backends")?.address,
    };
    let load = Load {
        target: SocketAddr::from((target, API_PORT)),
        talk: Talk::tls(servers.pki())?,
        pace: Pace::Open { per_second: args.rate },
        watches: args.watches,
    };
    println!(
        "Load on {}: {} TLS connections/s, {} watch streams; per server: answers/s and state.\n",
        load.target, args.rate, args.watches
    );
    let running = load.start(&lab.client.netns.handle())?;
    let at_least = Duration::from_secs(1) * args.seconds_per_phase;
    let mut stage = Stage {
        lab: &lab,
        servers,
        controller,
        load: Some(running),
        interrupt,
        display: Display::new(&lab),
        at_least,
        steps: Vec::new(),
    };
    let ended = steps::run(&mut stage);
    stage.display.end();
    let verdict = Verdict::of(&stage)?;
    verdict.print();
    // Whoever pressed Ctrl-C knows why it ended.
    if stage.interrupt.check().is_ok()
        && !verdict.is_good()
        && let Some(controller) = &stage.controller
    {
        eprintln!("The controller's log ends with:\n{}", last_lines(&controller.log(), 30));
    }
    ended?;
    ensure!(!stage.steps.is_empty(), "no step was made");
    Ok(ExitCode::from(u8::from(!verdict.is_good())))
}

/// Starts it, and waits until it sees every server up.
fn start_controller<'lab>(
    lab: &'lab Topology,
    servers: &Servers<'_>,
    program: &Path,
) -> Result<Controller<'lab>> {
    let lb = lab.lbs.first().context("a lab without an LB node")?;
    let mut controller = Controller::new(lb, program, lab.directory());
    controller.write_config(&controller::config(lab, servers.pki(), controller.socket()))?;
    controller.start()?;
    for host in &lab.backends {
        let up = controller.wait_backend(&host.name, "up", UP_TIMEOUT);
        up.with_context(|| {
            format!("the controller's log:\n{}", last_lines(&controller.log(), 30))
        })?;
    }
    Ok(controller)
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
