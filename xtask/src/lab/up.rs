//! A lab that stays until it is taken down.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_tests::bpffs;
use lb_tests::command::{Signal, signal_namespace};
use lb_tests::controller::{self, Controller};
use lb_tests::netns;
use lb_tests::topology::{Plan, Topology};
use serde_json::json;

use super::servers::Servers;
use super::{LabOptions, binary};

/// The lab's files. That it exists means that a lab is up, or was half built.
const DIRECTORY: &str = "/run/fairlead-lab";
/// What is recorded about the lab in there.
const STATE: &str = "lab.json";
/// Every namespace that a lab can have.
const NAMESPACES: [&str; 7] = [
    "fairlead-lb1",
    "fairlead-lb2",
    "fairlead-client",
    "fairlead-cp1",
    "fairlead-cp2",
    "fairlead-cp3",
    "fairlead-fabric",
];
/// What a controller gets to release its VIPs.
const STOP_STEPS: u32 = 50;
const STOP_STEP: Duration = Duration::from_millis(100);

pub(super) fn up(options: &LabOptions) -> Result<ExitCode> {
    let directory = Path::new(DIRECTORY);
    if directory.exists() {
        bail!("{DIRECTORY} exists: a lab is up; `cargo xtask lab down` removes it");
    }
    let binary = binary::fairlead(options.fairlead.as_deref())?;
    build(options, &binary).inspect_err(|_| {
        // The first failure is the one to tell.
        let _ = take_down(directory);
    })?;
    Ok(ExitCode::SUCCESS)
}

fn build(options: &LabOptions, binary: &Path) -> Result<()> {
    let plan = Plan { arms: options.arms(), persistent: Some(DIRECTORY.into()), ..Plan::default() };
    let mut lab = Topology::build(&plan)?;
    lab.keep()?;
    let servers = Servers::start_all(&lab, true)?;
    let lb = lab.lbs.first().context("a lab without an LB node")?;
    let controller = Controller::new(lb, binary, lab.directory());
    let (config, socket) = (controller.config_file().to_owned(), controller.socket().to_owned());
    controller.write_config(&controller::config(&lab, servers.pki(), &socket))?;
    let (vip, ca_file) = (lab.vip(), servers.pki().ca_file());
    let process = controller.start_detached()?;
    let state = json!({"vip": vip, "config": config, "socket": socket, "ca_file": ca_file});
    fs::write(lab.directory().join(STATE), format!("{state:#}\n"))?;
    servers.forget();
    process.forget();

    let (binary, ca) = (binary.display(), ca_file.display());
    let (config, socket) = (config.display(), socket.display());
    println!(
        "The lab is up: VIP {vip}, configuration {config}. Try:\n\n  \
         ip netns exec fairlead-client curl --cacert {ca} https://{vip}:6443/version\n  \
         {binary} status --socket {socket}\n  \
         ip netns exec fairlead-cp1 curl -X POST http://127.0.0.1:9443/mode/drain     \
         # ok | fail | slow | drain\n  \
         ip netns exec fairlead-client bash\n\n\
         The controller's log is {DIRECTORY}/lb1.log. `cargo xtask lab down` removes everything."
    );
    Ok(())
}

pub(super) fn down() -> Result<ExitCode> {
    let directory = Path::new(DIRECTORY);
    if !directory.exists() {
        println!("There is no lab.");
        return Ok(ExitCode::SUCCESS);
    }
    take_down(directory)?;
    println!("The lab is gone.");
    Ok(ExitCode::SUCCESS)
}

fn take_down(directory: &Path) -> Result<()> {
    // The controllers first, in order: they release what they hold while it is there.
    let (lbs, others) = NAMESPACES.split_at(2);
    for lb in lbs {
        stop(lb)?;
    }
    for name in others {
        signal_namespace(name, Some(Signal::SIGKILL))?;
    }
    for name in NAMESPACES {
        netns::delete(name);
    }
    for mount in Topology::mounts(directory) {
        bpffs::unmount(&mount);
    }
    fs::remove_dir_all(directory).with_context(|| format!("removing {DIRECTORY}"))
}

/// SIGTERM to what runs in a namespace, and SIGKILL to what does not heed it.
fn stop(namespace: &str) -> Result<()> {
    signal_namespace(namespace, Some(Signal::SIGTERM))?;
    for _ in 0..STOP_STEPS {
        if signal_namespace(namespace, None)? == 0 {
            return Ok(());
        }
        sleep(STOP_STEP);
    }
    signal_namespace(namespace, Some(Signal::SIGKILL)).map(drop)
}
