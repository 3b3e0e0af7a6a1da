//! Captures by tcpdump, and their verdict. On an LB's own interface a capture does not show what XDP
//! sent: capture at the peer, which is the fabric's end of the veth pair.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::checksums::{Sums, check_pcap};
use crate::command::{Process, Signal};
use crate::eventually::{Seen, eventually};
use crate::netns::Netns;

/// A running tcpdump.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures `filter` on an interface of `netns` into `file`; returns when tcpdump listens.
    pub fn start(netns: &Netns, interface: &str, filter: &str, file: &Path) -> Result<Self> {
        let log = file.with_extension("log");
        let mut command = netns.command("tcpdump");
        // As root (-Z): it would otherwise give its privileges up and fail to write where root can.
        command.args(["-i", interface, "-U", "-n", "-s", "0", "-B", "32768", "-Z", "root", "-w"]);
        command.arg(file).arg(filter).stderr(File::create(&log)?);
        let mut process = Process::spawn(&mut command)?;
        eventually("tcpdump to listen", Duration::from_secs(10), || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.contains("listening on") {
                return Ok(Seen::Done(()));
            }
            if let Some(status) = process.exited()? {
                bail!("tcpdump: {status}: {said}");
            }
            Ok(Seen::Pending(said))
        })?;
        Ok(Self { process, file: file.to_owned() })
    }

    /// Stops, and judges every packet captured.
    pub fn finish(mut self) -> Result<Sums> {
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(Duration::from_secs(10))?;
        let bytes =
            fs::read(&self.file).with_context(|| format!("reading {}", self.file.display()))?;
        check_pcap(&bytes)
    }
}
