//! `fairlead drain`. I/O.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{SocketOption, ask, print, print_json};

/// The longest interval, four times, and what a drain waits beyond that.
const TIMEOUT: Duration = Duration::from_secs(180);

const POLL: Duration = Duration::from_millis(50);

/// Give the VIPs to the other node without a gap and keep running. Waits until no VIP of VRRP is held.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead drain && systemctl reboot
  fairlead drain --resume")]
pub(super) struct Arguments {
    /// Take part in elections again, with the configured priority.
    #[arg(long)]
    resume: bool,
    /// What was done, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    ask(&arguments.socket.socket, async |client| {
        client.drain(arguments.resume).await?;
        if arguments.resume {
            return say(arguments, "takes part in elections again\n");
        }
        let drained = async {
            loop {
                let status = client.status().await?;
                match progress(&status) {
                    Progress::Draining => sleep(POLL).await,
                    Progress::Drained => return say(arguments, "the VIPs are given up\n"),
                    Progress::Nobody(names) => bail!(
                        "there is nobody to take over {}: the VIPs stay here",
                        names.join(", ")
                    ),
                }
            }
        };
        match timeout(TIMEOUT, drained).await {
            Ok(outcome) => outcome,
            Err(_) => {
                bail!("not given up within {} s; see the controller's log", TIMEOUT.as_secs())
            }
        }
    })
}

fn say(arguments: &Arguments, text: &str) -> Result<()> {
    if arguments.json { print_json(&json!({ "drained": !arguments.resume })) } else { print(text) }
}

/// How far a drain is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Draining,
    Drained,
    /// These instances are active still, and have heard of nobody else.
    Nobody(Vec<String>),
}

fn progress(status: &Value) -> Progress {
    let instances = status["vrrp"].as_array().map(Vec::as_slice).unwrap_or_default();
    let active: Vec<&Value> =
        instances.iter().filter(|instance| instance["state"] == "active").collect();
    if active.is_empty() {
        return Progress::Drained;
    }
    let is_alone = |instance: &&Value| instance["peers"].as_array().is_none_or(Vec::is_empty);
    if !active.iter().all(is_alone) {
        return Progress::Draining;
    }
    let name = |instance: &Value| instance["name"].as_str().unwrap_or_default().to_owned();
    Progress::Nobody(active.iter().map(|instance| name(instance)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_whoever_has_a_peer() {
        let status = |state: &str, peers: Value| json!({"vrrp": [{"name": "api", "state": state, "peers": peers}]});
        let peer = json!([{"address": "10.0.0.3"}]);
        assert_eq!(progress(&status("active", peer.clone())), Progress::Draining);
        assert_eq!(progress(&status("backup", peer)), Progress::Drained);
        let alone = Progress::Nobody(vec!["api".to_owned()]);
        assert_eq!(progress(&status("active", json!([]))), alone);
        assert_eq!(progress(&json!({"vrrp": []})), Progress::Drained);
    }
}
