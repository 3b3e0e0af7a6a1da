//! Frames in, verdicts, counters and frames out.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::PerCpuArray;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::backend::{BackendEvents, BackendTraffic};
use lb_common::connect::ConnectTimes;
use lb_common::counters::Counter;
use lb_common::map;
use lb_tests::packet::Frame;

use super::names::local_frame;
use super::{Harness, pool};

impl Harness {
    /// Runs a frame through the program: XDP action and frame. Counters are not looked at.
    pub(crate) fn run(&self, frame: &[u8]) -> (Action, Vec<u8>) {
        let program: &Xdp = match &self.traced {
            Some(traced) => traced.tracer.loaded().unwrap(),
            None => self.ebpf().program(lb_common::PROGRAM).unwrap().try_into().unwrap(),
        };
        let mut out = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        (Action::from(result.return_value), out)
    }

    /// For runs without this harness's care.
    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        let program: &Xdp = self.ebpf().program(lb_common::PROGRAM).unwrap().try_into().unwrap();
        program.fd().unwrap().as_fd()
    }

    pub(crate) fn counters(&self) -> Vec<u64> {
        self.counts.all()
    }

    pub(crate) fn counters_of_a_successor(&self) -> Vec<u64> {
        pool::counts(self.ebpf()).all()
    }

    pub(crate) fn traffic(&self, id: u32) -> BackendTraffic {
        self.counts.traffic(id)
    }

    pub(crate) fn events(&self, id: u32) -> BackendEvents {
        self.counts.events(id)
    }

    /// The controller gives this identifier to another backend.
    pub(crate) fn forget_backend(&self, id: u32) {
        self.counts.clear(id);
    }

    /// Half-open flows that others took the place of.
    pub(crate) fn evicted(&self) -> u64 {
        let evicted: PerCpuArray<_, u64> = self.map(map::HALF_OPEN_EVICTED).try_into().unwrap();
        evicted.get(&0, 0).unwrap().iter().sum()
    }

    pub(crate) fn connect_times(&self, id: u32) -> ConnectTimes {
        let times: PerCpuArray<_, ConnectTimes> = self.map(map::CONNECT_TIMES).try_into().unwrap();
        let mut sum = ConnectTimes::default();
        times.get(&id, 0).unwrap().iter().for_each(|cpu| sum += cpu);
        sum
    }

    /// From which moment of CLOCK_MONOTONIC on connections are timed again. Nanoseconds.
    pub(crate) fn time_from(&mut self, due: u64) {
        pool::set_each(self.ebpf.as_mut().unwrap(), pool::TIMED, 0, due);
    }

    /// What was counted so far is no matter of the next frame.
    pub(crate) fn forget_counts(&mut self) {
        self.before = self.counters();
    }

    /// What was counted since the last frame.
    pub(super) fn moved(&mut self) -> Vec<(&'static str, u64)> {
        let after = self.counters();
        let moved = Counter::ALL
            .iter()
            .zip(after.iter().zip(&self.before))
            .filter(|(_, (after, before))| after != before)
            .map(|(counter, (after, before))| (counter.name(), after - before))
            .collect();
        self.before = after;
        moved
    }

    /// Runs a frame, of which exactly one counter must take note.
    pub(crate) fn send_bytes(&mut self, frame: &[u8]) -> Outcome {
        let (action, bytes) = self.run(frame);
        let moved = self.moved();
        let [(counter, 1)] = moved[..] else {
            panic!("{action:?} moved {moved:?}");
        };
        let (verdict, of_what) = counter.split_once('_').unwrap();
        let is_local = of_what.starts_with("local_");
        let expected = match verdict {
            "pass" => Action::Pass,
            // To this node's kernel.
            "forward" if is_local => Action::Pass,
            "drop" => Action::Drop,
            "redirect" => Action::Redirect,
            _ => Action::Tx,
        };
        // A reset goes back the way the frame came, or to another interface.
        assert!(
            action == expected || (verdict, action) == ("reset", Action::Redirect),
            "{counter}"
        );
        if matches!(action, Action::Pass | Action::Drop) && !is_local {
            assert_eq!(bytes, frame, "{counter}: the frame is changed");
        }
        Outcome { action, counter, bytes }
    }

    /// A frame between named hosts as it is in this family.
    pub(crate) fn local(&self, frame: &Frame) -> Frame {
        local_frame(self.family, frame)
    }

    pub(crate) fn send(&mut self, frame: &Frame) -> Outcome {
        self.send_bytes(&self.local(frame).bytes())
    }

    /// The counter of a frame that passes or drops.
    #[track_caller]
    pub(crate) fn expect(&mut self, frame: &Frame, counter: &str) {
        let outcome = self.send(frame);
        assert_eq!(outcome.counter, counter, "{frame:#?}");
    }

    /// A frame that must leave as `expected`, by one counter.
    #[track_caller]
    pub(crate) fn expect_frame(&mut self, frame: &Frame, counter: &str, expected: &Frame) {
        let (outcome, expected) = (self.send(frame), self.local(expected));
        assert_eq!(outcome.counter, counter, "{frame:#?}");
        assert_eq!(outcome.frame(), expected);
        assert_eq!(outcome.bytes, expected.bytes());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Aborted,
    Drop,
    Pass,
    Tx,
    Redirect,
    Unknown(u32),
}

impl From<u32> for Action {
    fn from(action: u32) -> Self {
        match action {
            0 => Self::Aborted,
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Tx,
            4 => Self::Redirect,
            other => Self::Unknown(other),
        }
    }
}

/// What became of a frame.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) action: Action,
    pub(crate) counter: &'static str,
    pub(crate) bytes: Vec<u8>,
}

impl Outcome {
    /// The frame that left, its checksums verified.
    #[track_caller]
    pub(crate) fn frame(&self) -> Frame {
        Frame::parse(&self.bytes).unwrap()
    }
}
