//! Sequences of frames: recorded once from what a program makes of them, replayed as they are.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result, ensure};
use lb_tests::bpf;
use lb_tests::packet::Frame;

use crate::flow::{DATA, Flow, Step};
use crate::measure::TX;
use crate::scenario::Scenario;

/// Frames of equal length, one after the other.
#[derive(Clone)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// Of each; not 0.
    length: usize,
}

impl Frames {
    pub(crate) fn one(frame: &[u8]) -> Self {
        Self { bytes: frame.to_vec(), length: frame.len() }
    }

    fn of(scenario: &Scenario) -> Self {
        Self { bytes: vec![], length: scenario.frame_length() }
    }

    fn push(&mut self, frame: &[u8]) {
        self.bytes.extend(frame);
    }

    /// The next frames of flows whose senders had the last ones acknowledged, and nothing to acknowledge.
    /// Others stay as they are.
    pub(crate) fn go_on(&mut self) {
        let length = u32::try_from(DATA.len()).unwrap_or(0);
        for frame in self.bytes.chunks_exact_mut(self.length) {
            let Some(sequence) = sequence_of(frame) else { continue };
            let [a, b, c, d] = *sequence;
            let next = u32::from_be_bytes([a, b, c, d]).wrapping_add(length);
            *sequence = next.to_be_bytes();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.length)
    }

    pub(crate) fn count(&self) -> usize {
        self.bytes.len() / self.length
    }
}

/// The sequence number of a segment with data. Nobody looks at its checksum, which stays as it is.
fn sequence_of(frame: &mut [u8]) -> Option<&mut [u8; 4]> {
    let tcp = match frame.get(12..14)? {
        [0x08, 0x00] => 34,
        [0x86, 0xdd] => 54,
        _ => return None,
    };
    let has_data = frame.get(tcp + 20..)?.starts_with(DATA);
    frame.get_mut(tcp + 4..tcp + 8).filter(|_| has_data)?.try_into().ok()
}

/// The scenario's flows, after their handshakes.
pub(crate) fn open(program: BorrowedFd<'_>, scenario: &Scenario) -> Result<Vec<Flow>> {
    let mut flows: Vec<Flow> = (0..scenario.flows).map(Flow::new).collect();
    for flow in &mut flows {
        for step in Step::handshake(scenario.mode) {
            send(program, scenario, flow, *step)?;
        }
    }
    Ok(flows)
}

/// These of each flow, one behind the other, the flows in scattered order.
pub(crate) fn scattered(scenario: &Scenario, flows: &[Flow], steps: &[Step]) -> Result<Frames> {
    let mut order: Vec<&Flow> = flows.iter().collect();
    let mut dice = Dice(1);
    for last in (1..order.len()).rev() {
        order.swap(last, dice.below(last + 1));
    }
    let mut frames = Frames::of(scenario);
    for flow in order {
        for step in steps {
            frames.push(&flow.frame(scenario, *step).context("a flow without a handshake")?);
        }
    }
    Ok(frames)
}

/// The handshakes of all flows, one after the other, as a program has it that knew none of the flows.
pub(crate) fn handshakes(program: BorrowedFd<'_>, scenario: &Scenario) -> Result<Frames> {
    let mut frames = Frames::of(scenario);
    for index in 0..scenario.flows {
        let mut flow = Flow::new(index);
        for step in Step::handshake(scenario.mode) {
            frames.push(&send(program, scenario, &mut flow, *step)?);
        }
    }
    Ok(frames)
}

/// Who speaks after a flow's SYN.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voices {
    /// Both ends, in turn: SYN, SYN-ACK, ACK, then data to and fro.
    Both,
    /// The client alone, as if replies went another way.
    Client,
}

/// Frames of the scenario's flows in scattered order, 30 % of them the SYN that is each flow's first.
///
/// `program` must not know any of the flows; afterwards it does.
pub(crate) fn mix(program: BorrowedFd<'_>, scenario: &Scenario, voices: Voices) -> Result<Frames> {
    let mut dice = Dice(2);
    let mut frames = Frames::of(scenario);
    let flows = usize::try_from(scenario.flows)?;
    let mut known: Vec<(Flow, Step)> = Vec::with_capacity(flows);
    for left in (1..=flows * 10 / 3).rev() {
        let unseen = flows - known.len();
        if known.is_empty() || dice.below(left) < unseen {
            let mut flow = Flow::new(u32::try_from(known.len())?);
            frames.push(&send(program, scenario, &mut flow, Step::Syn)?);
            known.push((flow, Step::Syn));
            continue;
        }
        let at = dice.below(known.len());
        let (flow, last) = &mut known[at];
        *last = match voices {
            Voices::Both => last.next(),
            Voices::Client => Step::Request,
        };
        frames.push(&send(program, scenario, flow, *last)?);
    }
    ensure!(known.len() == flows, "only {} flows", known.len());
    Ok(frames)
}

/// Runs a flow's frame, which must be sent on, and returns it as it came.
fn send(
    program: BorrowedFd<'_>,
    scenario: &Scenario,
    flow: &mut Flow,
    step: Step,
) -> Result<Vec<u8>> {
    let frame = flow.frame(scenario, step).context("a backend that has not heard of the flow")?;
    let mut out = [0; 256];
    let ran = bpf::run(program, &frame, &mut out).context("running a frame")?;
    ensure!(ran.action == TX, "action {} for {step:?} of {flow:?}", ran.action);
    if step == Step::Syn {
        flow.set_forwarded(Frame::parse(&out[..ran.length])?);
    }
    Ok(frame)
}

/// Marsaglia's xorshift: the same numbers in every run.
struct Dice(u64);

impl Dice {
    /// A number less than `limit`, which must not be zero.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper half: its bits are the better ones.
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }
}
