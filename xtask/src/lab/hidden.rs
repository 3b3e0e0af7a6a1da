//! The programs that run inside the lab's namespaces.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use lb_tests::apiserver::{Control, bind};
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::netns::NetnsHandle;
use lb_tests::pki::Pki;

#[derive(Debug, Args)]
pub(super) struct ApiserverArgs {
    #[arg(long)]
    name: String,
    #[arg(long)]
    listen: SocketAddr,
    /// Directory with the certificates
    #[arg(long)]
    pki: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    #[arg(long)]
    target: SocketAddr,
    /// Directory with ca.crt; without it: plain TCP at an echo server
    #[arg(long)]
    pki: Option<PathBuf>,
    /// New connections each second
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// So many connections in all, as fast as `--workers` can, instead of a rate
    #[arg(long)]
    connections: Option<u64>,
    #[arg(long, default_value_t = 16)]
    workers: usize,
    /// Plain TCP: the server closes first
    #[arg(long)]
    server_closes_first: bool,
    /// Long watch streams besides
    #[arg(long, default_value_t = 0)]
    watches: usize,
    /// How long a rate is kept up
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

pub(super) fn apiserver(args: &ApiserverArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = bind(&args.name, args.listen, &Pki::open(&args.pki))?;
        server.serve(Control::default()).await
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn load(args: &LoadArgs) -> Result<ExitCode> {
    let talk = match &args.pki {
        Some(directory) => Talk::tls(&Pki::open(directory))?,
        None => Talk::Plain { server_closes_first: args.server_closes_first },
    };
    let pace = match args.connections {
        Some(connections) => Pace::Closed { connections, workers: args.workers },
        None => Pace::Open { per_second: args.rate },
    };
    let here = std::fs::File::open("/proc/self/ns/net").context("opening our own namespace")?;
    let load = Load { target: args.target, talk, pace, watches: args.watches };
    let running = load.start(&NetnsHandle::new(here))?;
    let second = Duration::from_secs(1);
    let mut seconds = 0;
    while !running.is_finished() && (args.connections.is_some() || seconds < args.seconds) {
        std::thread::sleep(second);
        let span = second * seconds..second * (seconds + 1);
        println!("{}", running.recorder.report(&span).to_json());
        seconds += 1;
    }
    let watch_breaks = running.watches.breaks(&(Duration::ZERO..Duration::MAX)).len();
    let report = running.stop()?.report(&(Duration::ZERO..Duration::MAX));
    let mut total = report.to_json();
    total["total"] = true.into();
    total["watch_breaks"] = watch_breaks.into();
    println!("{total}");
    Ok(ExitCode::from(u8::from(report.failed_total() + watch_breaks > 0)))
}
