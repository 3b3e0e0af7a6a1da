//! The paths through the program, measured one after the other.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result};
use lb_common::nat::Kind;
use lb_tests::bpf;
use lb_tests::family::Family;

use crate::beside::Beside;
use crate::datapath::Datapath;
use crate::flow::{Flow, Step};
use crate::measure::{self, DROP, PASS, Round, TX};
use crate::reference::Reference;
use crate::report::{Figure, Goal, Report};
use crate::scenario::Scenario;
use crate::traffic::{self, Frames, Voices};

pub(crate) const HOT: &str = "hot flow, request";
const HOT_REPLY: &str = "hot flow, reply";
pub(crate) const KNOWN: &str = "known flows, requests";
pub(crate) const REPLIES: &str = "known flows, replies";
const NEW: &str = "new flows";
const NOT_OURS: &str = "not for a VIP";
const DROPPED: &str = "dropped: malformed";
pub(crate) const MIX: &str = "mix, 30 % new";
pub(crate) const CLIENTS: &str = "mix, 30 % new, clients alone";

/// What others call a path, and of how many flows its frames are. `None`: it is for this table alone.
pub(crate) fn kind(name: &str, flows: u32) -> Option<(&'static str, u32)> {
    [
        (HOT, "forward", 1),
        (KNOWN, "forward", flows),
        (HOT_REPLY, "reply", 1),
        (REPLIES, "reply", flows),
        (NEW, "new", flows),
        (NOT_OURS, "not_ours", 0),
        (DROPPED, "dropped", 0),
    ]
    .into_iter()
    .find_map(|(path, kind, flows)| (path == name).then_some((kind, flows)))
}

/// Each needs a program of its own, whose tables are empty.
const NEW_ROUNDS: u32 = 3;
const MIX_ROUNDS: u32 = 5;
const MANY_FLOWS: u32 = 500_000;
const MIX_ROUNDS_OF_MANY_FLOWS: u32 = 3;

/// What all tables are made with.
pub(crate) struct Bench<'a> {
    pub(crate) floor: BorrowedFd<'a>,
    pub(crate) object: &'a [u8],
    pub(crate) beside: Option<&'a Beside>,
    pub(crate) extent: Extent,
}

/// How much of a table is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Full,
    /// What has a [`kind`], with so many runs of each path.
    Brief(usize),
    /// Of that, known flows alone.
    Known(usize),
}

impl Extent {
    const fn runs(self) -> usize {
        match self {
            Self::Full => measure::RUNS,
            Self::Brief(runs) | Self::Known(runs) => runs,
        }
    }

    fn has(self, path: &str) -> bool {
        match self {
            Self::Full => true,
            Self::Brief(_) => kind(path, 0).is_some(),
            Self::Known(_) => [HOT, KNOWN, HOT_REPLY, REPLIES].contains(&path),
        }
    }
}

/// Frames that leave flows as they are, and what becomes of them.
struct Path {
    name: &'static str,
    goal: Goal,
    frames: Frames,
    action: u32,
}

/// The name of a figure of the other program.
pub(crate) fn of_beside(name: &str) -> String {
    format!("  beside: {name}")
}

impl Bench<'_> {
    pub(crate) fn report(&self, scenario: &Scenario) -> Result<Report> {
        let datapath = Datapath::load_object(scenario, self.object)?;
        let program = datapath.program()?;
        let flows = traffic::open(program, scenario).context("opening flows")?;
        let mut figures = vec![];
        let paths = paths(scenario, &flows)?;
        drop(flows);
        let is_full = self.extent == Extent::Full;
        if is_full && scenario.family == Family::V4 && scenario.mode == Kind::Nat {
            figures.extend(self.reference(scenario, &paths).context("measuring one lookup")?);
        }
        for mut path in paths.into_iter().filter(|path| self.extent.has(path.name)) {
            figures.extend(self.steady(program, &mut path).context(path.name)?);
        }
        let info = bpf::info(program)?;
        drop(datapath);
        if self.extent.has(NEW) {
            figures.push(self.new_flows(scenario).context(NEW)?);
        }
        let mixes = is_full.then_some([(MIX, Voices::Both), (CLIENTS, Voices::Client)]);
        for (name, voices) in mixes.into_iter().flatten() {
            if voices == Voices::Client || scenario.mode != Kind::Dsr {
                figures.extend(self.mixed(scenario, name, voices).context(name)?);
            }
        }
        Ok(Report::new(*scenario, info, figures))
    }

    fn steady(&self, program: BorrowedFd<'_>, path: &mut Path) -> Result<Vec<Figure>> {
        let mut programs = vec![program];
        if let Some(beside) = self.beside
            && [HOT, KNOWN].contains(&path.name)
        {
            programs.push(beside.steady()?);
        }
        let frames = &mut path.frames;
        let mut rounds =
            measure::rounds(&programs, self.floor, frames, path.action, self.extent.runs())?;
        let theirs = rounds.split_off(1);
        let other = |rounds| Figure::new(of_beside(path.name), Goal::default(), rounds);
        let ours = rounds.into_iter().map(|rounds| Figure::new(path.name, path.goal, rounds));
        Ok(ours.chain(theirs.into_iter().map(other)).collect())
    }

    /// One lookup alone, of one flow and of many, and less than that.
    fn reference(&self, scenario: &Scenario, paths: &[Path]) -> Result<Vec<Figure>> {
        let of_flows: Vec<&Frames> = paths
            .iter()
            .filter(|path| path.action == TX && path.frames.count() > 1)
            .map(|path| &path.frames)
            .collect();
        let lookup = Reference::lookup(scenario, &of_flows)?;
        let slot = Reference::slot(scenario)?;
        let known = of_flows.first().context("no flows")?;
        let hot = known.iter().next().map(Frames::one).context("no frames")?;
        let mut figures = vec![];
        for (name, reference, frames) in [
            ("(one slot of as many alone, hot)", &slot, &hot),
            ("(one slot of as many alone)", &slot, *known),
            ("(one lookup of the kernel's alone, hot)", &lookup, &hot),
            ("(one lookup of the kernel's alone)", &lookup, *known),
        ] {
            let (programs, runs) = ([reference.program()], self.extent.runs());
            for rounds in measure::rounds(&programs, self.floor, &mut frames.clone(), TX, runs)? {
                figures.push(Figure::new(name, Goal::default(), rounds));
            }
        }
        Ok(figures)
    }

    /// The first segment of each flow, on programs that have seen none.
    fn new_flows(&self, scenario: &Scenario) -> Result<Figure> {
        let flows: Vec<Flow> = (0..scenario.flows).map(Flow::new).collect();
        let frames = traffic::scattered(scenario, &flows, &[Step::Syn])?;
        let rounds = (0..NEW_ROUNDS).map(|_| {
            let datapath = Datapath::load_object(scenario, self.object)?;
            measure::once(datapath.program()?, self.floor, &frames)
        });
        Ok(Figure::new(NEW, Goal::default(), rounds.collect::<Result<_>>()?))
    }

    /// Recorded on one program, then run on others that have not seen any of it.
    fn mixed(
        &self,
        scenario: &Scenario,
        name: &'static str,
        voices: Voices,
    ) -> Result<Vec<Figure>> {
        let teacher = Datapath::load_object(scenario, self.object)?;
        let frames = traffic::mix(teacher.program()?, scenario, voices)?;
        drop(teacher);
        let (mut ours, mut theirs): (Vec<Round>, Vec<Round>) = (vec![], vec![]);
        let beside = self.beside.filter(|_| voices == Voices::Client);
        let rounds =
            if scenario.flows > MANY_FLOWS { MIX_ROUNDS_OF_MANY_FLOWS } else { MIX_ROUNDS };
        for _ in 0..rounds {
            let datapath = Datapath::load_object(scenario, self.object)?;
            ours.push(measure::once(datapath.program()?, self.floor, &frames)?);
            if let Some(other) = beside.and_then(Beside::fresh) {
                theirs.push(measure::once(other, self.floor, &frames)?);
            }
        }
        let goal = absolute(scenario, Goal { most: Some(400.0), aim: Some(290.0) });
        let mut figures = vec![Figure::new(name, goal, ours)];
        if !theirs.is_empty() {
            figures.push(Figure::new(of_beside(name), Goal::default(), theirs));
        }
        Ok(figures)
    }
}

/// Goals in nanoseconds are for IPv4 and a moderate number of flows.
fn absolute(scenario: &Scenario, goal: Goal) -> Goal {
    let applies = scenario.family == Family::V4 && scenario.flows <= MANY_FLOWS;
    if applies { goal } else { Goal::default() }
}

fn paths(scenario: &Scenario, flows: &[Flow]) -> Result<Vec<Path>> {
    let hot = absolute(scenario, Goal { most: Some(58.0), aim: Some(43.0) });
    let known = absolute(scenario, Goal::most(150.0));
    let not_ours = Goal::most(15.0);
    let not_for_vip = if scenario.mode == Kind::Dnat { Goal::most(25.0) } else { not_ours };
    let path = |name, goal, frames, action| Path { name, goal, frames, action };
    let one = |name, goal, frame: &[u8], action| path(name, goal, Frames::one(frame), action);
    let hot_frame = |step| {
        let frame = flows.first().and_then(|flow| flow.frame(scenario, step));
        frame.context("no flow")
    };
    let mut paths = vec![one(HOT, hot, &hot_frame(Step::Request)?, TX)];
    let requests = traffic::scattered(scenario, flows, &[Step::Request])?;
    paths.push(path(KNOWN, known, requests, TX));
    if scenario.mode != Kind::Dsr {
        let replies = traffic::scattered(scenario, flows, &[Step::Reply])?;
        paths.push(one(HOT_REPLY, hot, &hot_frame(Step::Reply)?, TX));
        paths.push(path(REPLIES, known, replies, TX));
    }
    paths.push(one(NOT_OURS, not_for_vip, &scenario.stray_syn(), PASS));
    if scenario.mode == Kind::Dnat {
        let frame = scenario.stray_syn_of_backend();
        paths.push(one("not for a VIP, from a backend's host", Goal::default(), &frame, PASS));
    }
    paths.push(one("not IP", not_ours, &scenario.arp(), PASS));
    paths.push(one(DROPPED, Goal::default(), &scenario.malformed(), DROP));
    Ok(paths)
}
