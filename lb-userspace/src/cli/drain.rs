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
/// The status may be of a moment ago: that nobody came is believed when it was said so often.
const BELIEVED: u32 = 30;

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
            let mut nobody = 0;
            loop {
                let status = client.status().await?;
                match progress(&status) {
                    Progress::Draining => nobody = 0,
                    Progress::Drained => return say(arguments, "the VIPs are given up\n"),
                    Progress::Nobody(names) if nobody == BELIEVED => bail!(
                        "there is nobody to take over {}: the VIPs stay here",
                        names.join(", ")
                    ),
                    Progress::Nobody(_) => nobody += 1,
                }
                sleep(POLL).await;
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
    /// These instances are active still, and nobody came in their time.
    Nobody(Vec<String>),
}

fn progress(status: &Value) -> Progress {
    let instances = status["vrrp"].as_array().map(Vec::as_slice).unwrap_or_default();
    let active: Vec<&Value> =
        instances.iter().filter(|instance| instance["state"] == "active").collect();
    if active.is_empty() {
        return Progress::Drained;
    }
    // A backup is silent until it takes over: that none was ever heard says nothing.
    if active.iter().any(|instance| instance["draining"] == true) {
        return Progress::Draining;
    }
    let name = |instance: &Value| instance["name"].as_str().unwrap_or_default().to_owned();
    Progress::Nobody(active.iter().map(|instance| name(instance)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_as_long_as_the_controller_does() {
        let status = |state: &str, draining: bool| json!({"vrrp": [{"name": "api", "state": state, "draining": draining, "peers": []}]});
        assert_eq!(progress(&status("active", true)), Progress::Draining);
        assert_eq!(progress(&status("backup", false)), Progress::Drained);
        let alone = Progress::Nobody(vec!["api".to_owned()]);
        assert_eq!(progress(&status("active", false)), alone);
        assert_eq!(progress(&json!({"vrrp": []})), Progress::Drained);
    }
}
