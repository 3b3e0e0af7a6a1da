//! `fairlead capture`. I/O, but for `Reader`.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use pcap_file::PcapError;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgParser};
use serde_json::json;

use super::packet_filters::PacketFilters;
use super::trace::said;
use super::{SocketOption, Usage, ask, print_json, warn};
use crate::admin::model::packet::{MAX_SNAP, MIN_SNAP, Missing};

/// Capture packets as the datapath meets them: as they came in and as they left.
///
/// tcpdump on the node sees nothing of what XDP sends. This does: a frame for each packet that came in, another
/// for what left, both with one comment that names their flow, and the verdict as a second one. Wireshark and
/// tshark read the file. The kernel filters; the datapath pays for it while the command runs, and only then.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead capture -w api.pcapng
  fairlead capture 10.0.0.2 -w client.pcapng --duration 5m
  fairlead capture 10.0.0.0/24 10.0.0.100:6443 -w drops.pcapng --verdict drop,reset
  fairlead capture --backend kube-apiserver/cp1 --snap 96 --rate 20000 -w cp1.pcapng
  fairlead capture 10.0.0.2 -w - | tshark -r -")]
pub(super) struct Arguments {
    /// The client's address, with or without its port, or a range; then the VIP, with or without its port.
    /// Neither has to be given.
    #[arg(value_name = "CLIENT[:PORT] [VIP[:PORT]]", num_args = 0..=2)]
    ends: Vec<String>,
    /// Where to write the capture, for its owner alone to read; - for standard output.
    #[arg(long = "write", short = 'w', value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    filters: PacketFilters,
    /// Keep so many bytes of each frame [default: all, up to 9216]
    #[arg(long, value_name = "BYTES",
        value_parser = clap::value_parser!(u32).range(i64::from(MIN_SNAP)..=i64::from(MAX_SNAP)))]
    snap: Option<u32>,
    /// At the end say how much was captured as JSON, on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

const _: () = assert!(MAX_SNAP == 9216, "said above");

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let query = arguments.filters.query(&arguments.ends, arguments.snap).map_err(Usage)?;
    let to_stdout = arguments.file == Path::new("-");
    if to_stdout && arguments.json {
        bail!(Usage("the capture and JSON cannot both go to standard output".to_owned()));
    }
    if to_stdout && io::stdout().is_terminal() {
        bail!(Usage("a capture is nothing to look at: write it to a file or a pipe".to_owned()));
    }
    let mut output: Option<Box<dyn Write>> = None;
    let mut reader = Reader::default();
    let ended = ask(&arguments.socket.socket, async |client| {
        let see = |piece: &[u8]| {
            // Only now: a capture that is refused leaves the file of before.
            let output = match &mut output {
                Some(output) => output,
                None => output.insert(create(&arguments.file, to_stdout)?),
            };
            reader.read(piece)?;
            let written = output.write_all(piece).and_then(|()| output.flush());
            written.with_context(|| format!("writing {}", arguments.file.display()))
        };
        let begun = || warn("capturing; Ctrl-C ends it");
        tokio::select! {
            captured = client.capture(&query, begun, see) => captured,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C"),
        }
    });
    said(&Missing::default(), &reader.missing);
    ended?;
    if arguments.json {
        let Missing { suppressed, lost } = reader.missing;
        return print_json(
            &json!({ "frames": reader.frames, "suppressed": suppressed, "lost": lost }),
        );
    }
    warn(&format!("{} frames captured", reader.frames));
    Ok(())
}

fn create(file: &Path, to_stdout: bool) -> Result<Box<dyn Write>> {
    if to_stdout {
        return Ok(Box::new(io::stdout()));
    }
    let mut options = OpenOptions::new();
    let file_ = options.write(true).create(true).truncate(true).mode(0o600).open(file);
    let opened: File = file_.with_context(|| format!("creating {}", file.display()))?;
    Ok(Box::new(opened))
}

/// Counts what goes by.
#[derive(Default)]
struct Reader {
    parser: Option<PcapNgParser>,
    /// The start of a block.
    rest: Vec<u8>,
    frames: u64,
    missing: Missing,
}

impl Reader {
    fn read(&mut self, piece: &[u8]) -> Result<()> {
        self.rest.extend_from_slice(piece);
        loop {
            let before = self.rest.len();
            match self.step() {
                Ok(()) => {}
                Err(PcapError::IncompleteBuffer) => return Ok(()),
                Err(error) => return Err(error).context("reading the controller's capture"),
            }
            if self.rest.len() == before || self.rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Takes one block.
    fn step(&mut self) -> Result<(), PcapError> {
        let Some(parser) = &mut self.parser else {
            let (rest, parser) = PcapNgParser::new(&self.rest)?;
            let used = self.rest.len() - rest.len();
            self.parser = Some(parser);
            self.rest.drain(..used);
            return Ok(());
        };
        let (rest, block) = parser.next_block(&self.rest)?;
        if let Block::EnhancedPacket(_) = &block {
            self.frames += 1;
        }
        if let Block::InterfaceStatistics(statistics) = &block {
            for option in &statistics.options {
                if let InterfaceStatisticsOption::IsbIfDrop(count) = option {
                    self.missing.suppressed = *count;
                }
                if let InterfaceStatisticsOption::IsbOsDrop(count) = option {
                    self.missing.lost = *count;
                }
            }
        }
        let used = self.rest.len() - rest.len();
        self.rest.drain(..used);
        Ok(())
    }
}
