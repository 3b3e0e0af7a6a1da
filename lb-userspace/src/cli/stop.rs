//! `fairlead stop`. I/O.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use nix::sys::socket::{getsockopt, sockopt};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{SocketOption, ask, print_json};

/// For the controller to end, besides giving VIPs to another node.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A drain takes at most so many advertisement intervals.
const DRAIN_INTERVALS: u32 = 5;

const POLL: Duration = Duration::from_millis(20);

/// End the controller in order, and wait until it has: up to 30 s, and five advertisement intervals where there is VRRP.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead stop --handover      # and start the new version
  fairlead stop")]
pub(super) struct Arguments {
    /// Leave the datapath running for a successor: for restarts and upgrades.
    #[arg(long)]
    handover: bool,
    /// Which process has ended, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    ask(&arguments.socket.socket, async |client| {
        let pid = match listener(&arguments.socket.socket) {
            Some(pid) => pid,
            None => client.version().await?.pid,
        };
        let limit = limit(&client.status().await?);
        let before = start_time(pid);
        client.stop(arguments.handover).await?;
        let gone = async {
            while before.is_some() && start_time(pid) == before {
                sleep(POLL).await;
            }
        };
        if timeout(limit, gone).await.is_err() {
            bail!("process {pid} has not ended within {} s; see its log", limit.as_secs());
        }
        if arguments.json {
            print_json(&json!({ "pid": pid, "handover": arguments.handover }))?;
        }
        Ok(())
    })
}

/// The process that listens there, as it is numbered here: one in a container takes itself for 1.
fn listener(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).ok()?;
    let credentials = getsockopt(&stream, sockopt::PeerCredentials).ok()?;
    // 0: it has no number here.
    u32::try_from(credentials.pid()).ok().filter(|pid| *pid != 0)
}

fn limit(status: &Value) -> Duration {
    let instances = status["vrrp"].as_array().map(Vec::as_slice).unwrap_or_default();
    let interval = |instance: &Value| instance["advert_interval_ms"].as_u64();
    let longest = instances.iter().filter_map(interval).max().unwrap_or(0);
    let drain = Duration::from_millis(longest).saturating_mul(DRAIN_INTERVALS);
    TIMEOUT.saturating_add(drain)
}

/// Tells a process from a later one with its number; none if it has ended, though its parent may not
/// have noticed.
fn start_time(pid: u32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Of proc_pid_stat(5), fields 3 (state) and 22. Field 2 is a name in parentheses, of any characters.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_has_time() {
        assert_eq!(limit(&json!({ "vrrp": [] })), TIMEOUT);
        let instances = [10_000, 1000].map(|interval| json!({ "advert_interval_ms": interval }));
        assert_eq!(limit(&json!({ "vrrp": instances })), Duration::from_secs(80));
    }

    #[test]
    fn zombies_have_ended() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse_stat(&format!("7 (a) b) S {rest}")), Some(4242));
        assert_eq!(parse_stat(&format!("7 (fairlead) Z {rest}")), None);
        assert_eq!(parse_stat("7 (fairlead) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn who_listens_is_known_by_the_number_it_has_here() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert_eq!(listener(&path), None);
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(listener(&path), Some(std::process::id()));
    }

    #[test]
    fn a_living_process_has_a_start_time() {
        let own = start_time(std::process::id());
        assert!(own.is_some());
        assert_eq!(own, start_time(std::process::id()));
    }
}
