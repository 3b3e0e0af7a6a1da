//! Handshakes through the program at a node's interface, as test runs of it.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_programs;
use lb_tests::packet::{ACK, Frame, SYN};
use lb_tests::topology::{API_PORT, Topology};
use lb_tests::{bpf, link};

use crate::scene::xdp;

/// XDP's verdicts that send a frame on.
const SENT: [u32; 2] = [3, 4];
const ISS: u32 = 1000;
const IRS: u32 = 5000;
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 0, 10];

/// Opens connections through the program at a node's interface. Frames are patched, not made anew, and nobody looks
/// at their checksums: what is measured is the controller, on the same two cores.
pub(super) struct Opener {
    program: OwnedFd,
    ingress: u32,
    syn: Vec<u8>,
    syn_ack: Vec<u8>,
    ack: Vec<u8>,
    tried: u32,
    /// For which no SNAT port was free among the candidates.
    pub(super) refused: u32,
}

/// Where source and destination address, and both ports, are in a frame of IPv4 without options.
const SOURCE: Range<usize> = 26..30;
const DESTINATION: Range<usize> = 30..34;
const PORTS: Range<usize> = 34..38;

impl Opener {
    pub(super) fn new(lab: &Topology) -> Result<Self> {
        let node = &lab.lbs[0];
        let (id, _) = xdp(node)?.context("no program at eth0")?;
        let mut programs = loaded_programs();
        let found = programs.find(|it| it.as_ref().is_ok_and(|it| it.id() == id));
        let program = found.context("the program is gone")??.fd()?.as_fd().try_clone_to_owned()?;
        let lb = link::mac_of(&node.host.netns, "eth0")?;
        let ingress = node.host.netns.on_thread(|| Ok(nix::net::if_::if_nametoindex("eth0")?))?;
        let vip = SocketAddr::from((lab.vip(), API_PORT));
        let anybody = SocketAddr::from(([0; 4], 0));
        let request = || Frame::tcp(anybody, vip).macs(CLIENT_MAC, lb);
        let reply = Frame::tcp((lab.vip(), API_PORT), vip).macs(BACKEND_MAC, lb);
        Ok(Self {
            program,
            ingress,
            syn: request().flags(SYN).seq(ISS).options(&[2, 4, 5, 0xb4]).bytes(),
            syn_ack: reply.flags(SYN | ACK).seq(IRS).ack(ISS + 1).bytes(),
            ack: request().flags(ACK).seq(ISS + 1).ack(IRS + 1).bytes(),
            tried: 0,
            refused: 0,
        })
    }

    pub(super) const fn opened(&self) -> u32 {
        self.tried - self.refused
    }

    /// So many more, one after the other, by the thread that is in the node's namespace.
    pub(super) fn open(&mut self, count: u32) -> Result<()> {
        let all = self.opened() + count;
        while self.opened() < all {
            let (host, port) = (self.tried / 50_000, self.tried % 50_000);
            let address = [10, 88, 0, u8::try_from(host)? + 1];
            let port = u16::try_from(10_000 + port)?;
            self.tried += 1;
            if !self
                .handshake(address, port)
                .with_context(|| format!("connection {}", self.tried))?
            {
                self.refused += 1;
            }
        }
        Ok(())
    }

    /// `false`: the SYN was not sent on.
    fn handshake(&mut self, address: [u8; 4], port: u16) -> Result<bool> {
        let Self { syn, syn_ack, ack, .. } = self;
        for frame in [&mut *syn, &mut *ack] {
            frame[SOURCE].copy_from_slice(&address);
            frame[PORTS.start..PORTS.start + 2].copy_from_slice(&port.to_be_bytes());
        }
        let mut there = [0; 128];
        let (program, ingress) = (self.program.as_fd(), Some(self.ingress));
        if !SENT.contains(&bpf::run_from(program, ingress, syn, &mut there)?.action) {
            return Ok(false);
        }
        syn_ack[SOURCE].copy_from_slice(&there[DESTINATION]);
        syn_ack[DESTINATION].copy_from_slice(&there[SOURCE]);
        syn_ack[PORTS.start..PORTS.start + 2].copy_from_slice(&there[36..38]);
        syn_ack[PORTS.start + 2..PORTS.end].copy_from_slice(&there[34..36]);
        for frame in [&*syn_ack, &*ack] {
            let ran = bpf::run_from(program, ingress, frame, &mut [])?;
            ensure!(SENT.contains(&ran.action), "verdict {}", ran.action);
        }
        Ok(true)
    }
}
