//! A generator of frames in the kernel: an XDP program that writes segments of known flows and redirects them
//! into an interface, run on frames that are made for it (`BPF_PROG_TEST_RUN` with live frames).

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::bpf::{self, Program};
use crate::netns::Netns;
use crate::packet::{ACK, Frame, Mac};

/// Of every frame that is made here: what it becomes is recognised by it.
pub const MARK: u8 = 0x10;
/// In bytes, a multiple of eight.
const LENGTH: usize = 64;
/// Of the template; a flow's number is added to the port and subtracted from the window, so that the checksum
/// holds for all flows.
const WINDOW: u16 = 60_000;
/// Where they are, behind Ethernet and an IPv4 header without options.
const PORT_AT: u64 = 34;
const WINDOW_AT: u64 = 48;
/// Frames of one run.
const BURST: u32 = 100_000;

/// Segments to send: one after the other of flows from `source` and the ports that follow, to `target`.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    pub source: SocketAddrV4,
    pub target: SocketAddrV4,
    pub source_mac: Mac,
    pub target_mac: Mac,
    /// A power of two.
    pub flows: u16,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sent {
    pub frames: u64,
    pub took: Duration,
}

/// Drops what has the mark, and passes the rest.
pub fn drop_marked() -> io::Result<Program> {
    Program::load(&[
        0x0000_0000_0000_1261,                       // r2 = the frame's start
        0x0000_0000_0004_1361,                       // r3 = the frame's end
        0x0000_0000_0000_24bf,                       // r4 = r2
        0x0000_0010_0000_0407,                       // r4 += 16
        0x0000_0000_0006_342d,                       // if r4 > r3 goto pass
        0x0000_0000_000c_2469,                       // r4 = the EtherType
        0x0000_0008_0004_0455,                       // if r4 != IPv4 goto pass
        0x0000_0000_000f_2571,                       // r5 = the type of service
        0x0000_0000_0002_0555 | (MARK as u64) << 32, // if r5 != MARK goto pass
        0x0000_0001_0000_00b7,                       // r0 = XDP_DROP
        0x0000_0000_0000_0095,                       // exit
        0x0000_0002_0000_00b7,                       // pass: r0 = XDP_PASS
        0x0000_0000_0000_0095,                       // exit
    ])
}

/// `r0 = 1` (XDP_DROP), `exit`.
pub const XDP_DROP: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

impl Segments {
    /// Sends for `span` into an interface of `netns`, on one CPU: that does everything that follows, until what
    /// the frames became is dropped.
    pub fn send(&self, netns: &Netns, interface: &str, span: Duration) -> Result<Sent> {
        ensure!(self.flows.is_power_of_two(), "{} flows", self.flows);
        netns.on_thread(|| {
            let mut cpus = CpuSet::new();
            cpus.set(0)?;
            // The thread ends with this.
            sched_setaffinity(Pid::from_raw(0), &cpus).context("staying on one CPU")?;
            let index = if_nametoindex(interface).with_context(|| format!("no {interface}"))?;
            let program = Program::load(&self.program(index)).context("loading the generator")?;
            let template = self.template();
            let (mut frames, start) = (0, Instant::now());
            while start.elapsed() < span {
                bpf::run_live(program.as_fd(), &template, BURST).context("sending frames")?;
                frames += u64::from(BURST);
            }
            Ok(Sent { frames, took: start.elapsed() })
        })
    }

    /// The first flow's segment.
    fn template(&self) -> [u8; LENGTH] {
        let frame = Frame::tcp(self.source, self.target)
            .macs(self.source_mac, self.target_mac)
            .tos(MARK)
            .flags(ACK)
            .window(WINDOW)
            .payload(&[0; LENGTH - 54]);
        let mut bytes = frame.bytes();
        bytes.resize(LENGTH, 0);
        let mut template = [0; LENGTH];
        template.copy_from_slice(&bytes);
        template
    }

    /// See linux/bpf.h for the eight bytes of an instruction.
    fn program(&self, ifindex: u32) -> Vec<u64> {
        const CALL_PRANDOM: u64 = 0x0000_0007_0000_0085;
        const CALL_REDIRECT: u64 = 0x0000_0017_0000_0085;
        let immediate = |opcode: u64, value: u64| opcode | (value & 0xffff_ffff) << 32;
        let stores = self.template();
        let (words, _) = stores.as_chunks::<8>();
        let mut program = vec![
            0x0000_0000_0000_1761, // r7 = the frame's start
            0x0000_0000_0004_1361, // r3 = the frame's end
            0x0000_0000_0000_74bf, // r4 = r7
            immediate(0x0407, LENGTH as u64),
            // if r4 > r3 goto end: over the rest but the last two
            0,
            CALL_PRANDOM,
            immediate(0x0057, u64::from(self.flows - 1)), // r0 &= flows - 1
            0x0000_0000_0000_08bf,                        // r8 = r0
        ];
        for (at, word) in (0..).step_by(8).zip(words) {
            let word = u64::from_le_bytes(*word);
            // r5 = eight bytes, in two instructions; then to their place.
            program.push(immediate(0x0518, word));
            program.push(immediate(0, word >> 32));
            program.push(0x577b | at << 16);
        }
        program.extend([
            immediate(0x05b7, u64::from(self.source.port())), // r5 = the first port
            0x850f,                                           // r5 += r8
            immediate(0x05dc, 16),                            // r5 = r5 in network order
            0x576b | PORT_AT << 16,
            immediate(0x05b7, u64::from(WINDOW)),
            0x851f, // r5 -= r8
            immediate(0x05dc, 16),
            0x576b | WINDOW_AT << 16,
            immediate(0x01b7, u64::from(ifindex)),
            immediate(0x02b7, 0),
            CALL_REDIRECT,
            0x95, // exit
        ]);
        let end = program.len();
        program[4] = 0x342d | ((end - 5) as u64) << 16;
        program.extend([0x0000_0001_0000_00b7, 0x95]); // end: r0 = XDP_DROP, exit
        program
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksums;

    fn segments(flows: u16) -> Segments {
        let [source, target] = ["10.0.0.2:40000", "10.0.0.100:6443"].map(|at| at.parse().unwrap());
        Segments { source, target, source_mac: [2; 6], target_mac: [4; 6], flows }
    }

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn segments_of_all_flows_have_good_checksums_and_arrive() {
        let (near, far) = (Netns::unique("live").unwrap(), Netns::unique("live-far").unwrap());
        near.ip(&format!("link add eth0 type veth peer name eth0 netns {}", far.name())).unwrap();
        for netns in [&near, &far] {
            netns.sysctl("ipv6/conf/eth0/disable_ipv6", "1").unwrap();
            netns.ip("link set eth0 up").unwrap();
        }
        let pass = crate::xdp_pass::XdpPass::load().unwrap();
        let _attached = {
            let _inside = far.enter().unwrap();
            pass.attach("eth0").unwrap()
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("live.pcap");
        let capture = crate::capture::Capture::start(&far, "eth0", "tcp", &file).unwrap();
        let sent = segments(8).send(&near, "eth0", Duration::from_millis(1)).unwrap();
        assert_eq!(sent.frames, u64::from(BURST));
        let sums: checksums::Sums = capture.finish().unwrap();
        sums.ensure_good().unwrap();
        assert!(sums.ipv4 > 100, "{sums:?}");
    }
}
