//! What an operator's looking costs: the program as it is beside one that counts nothing, and with another in
//! front of it that follows packets. In turns, on the same frames.

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use fairlead::datapath::packets::{Packets, Tracer};
use lb_common::addr::IpBe;
use lb_common::nat::Kind;
use lb_common::rate::RateLimit;
use lb_common::trace::Filter;
use lb_tests::bpffs::Bpffs;
use lb_tests::family::Family;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::datapath::Datapath;
use crate::flow::{Flow, Step};
use crate::measure::{self, Round, TX};
use crate::scenario::Scenario;
use crate::traffic::{self, Frames};

/// Segments of known flows.
struct Path {
    name: &'static str,
    steps: &'static [Step],
    /// All are of one flow.
    is_one: bool,
}

const PATHS: [Path; 6] = [
    Path { name: "request", steps: &[Step::Request], is_one: true },
    Path { name: "reply", steps: &[Step::Reply], is_one: true },
    Path { name: "request and reply", steps: &[Step::Request, Step::Reply], is_one: true },
    Path { name: "request", steps: &[Step::Request], is_one: false },
    Path { name: "reply", steps: &[Step::Reply], is_one: false },
    Path { name: "request and reply", steps: &[Step::Request, Step::Reply], is_one: false },
];
/// How often both programs are loaded anew in either order.
const LOADS: usize = 5;
/// Rounds of what needs programs that have seen nothing.
const OPENING_ROUNDS: usize = 15;
/// Few enough for the ring of what is told.
const TOLD_AT_ONCE: usize = 4000;
const TOLD_ROUNDS: usize = 9;
/// What `fairlead trace --follow` tells at most unless it is asked for more: in a second, and at once.
const USUAL: RateLimit = RateLimit::new(1000, 100);
/// For what is in the ring.
const SOON: Duration = Duration::from_millis(5);

/// One kind of looking, on one path.
pub(crate) struct Observed {
    what: &'static str,
    path: &'static str,
    flows: u32,
    /// In the same rounds.
    with: Vec<Round>,
    without: Vec<Round>,
}

/// Everything, over IPv4 in mode `nat`. `uncounted`: an object that was built without counting.
pub(crate) fn all(floor: BorrowedFd<'_>, uncounted: &[u8], runs: usize) -> Result<Vec<Observed>> {
    let scenario = Scenario::new(Family::V4, Kind::Nat);
    let mut all = known(floor, &scenario, uncounted, runs)?;
    all.push(opening(floor, &scenario, uncounted).context("opening flows")?);
    let ours = Datapath::load(&scenario)?;
    let flows = traffic::open(ours.program()?, &scenario).context("opening flows")?;
    let mut request = frames(&scenario, &flows, &[Step::Request], true)?;
    all.extend(followed(floor, &ours, &mut request, runs).context("following packets")?);
    Ok(all)
}

/// Known flows. Where the kernel puts a program and its table makes more of a difference than what is measured, and so does
/// which of two was loaded first: each round has both programs anew, twice, the one and then the other first.
fn known(
    floor: BorrowedFd<'_>,
    scenario: &Scenario,
    uncounted: &[u8],
    runs: usize,
) -> Result<Vec<Observed>> {
    let mut all = PATHS.map(|Path { name, is_one, .. }| Observed {
        what: "counting",
        path: name,
        flows: if is_one { 1 } else { scenario.flows },
        with: vec![],
        without: vec![],
    });
    let runs = runs / LOADS / 2;
    for _ in 0..LOADS {
        let ours = fairlead::datapath::OBJECT;
        let forth = loaded(floor, scenario, [ours, uncounted], runs)?;
        let back = loaded(floor, scenario, [uncounted, ours], runs)?;
        for ((observed, forth), back) in all.iter_mut().zip(forth).zip(back) {
            observed.with.push(Round::mean(&[forth[0], back[1]]));
            observed.without.push(Round::mean(&[forth[1], back[0]]));
        }
    }
    Ok(all.into())
}

/// What each path takes in either of two programs, which are loaded in this order.
fn loaded(
    floor: BorrowedFd<'_>,
    scenario: &Scenario,
    objects: [&[u8]; 2],
    runs: usize,
) -> Result<Vec<[Round; 2]>> {
    let [first, second] = objects.map(|object| {
        let datapath = Datapath::load_object(scenario, object)?;
        let flows = traffic::open(datapath.program()?, scenario).context("opening flows")?;
        anyhow::Ok((datapath, flows))
    });
    let ((first, flows), (second, _)) = (first?, second?);
    let programs = [first.program()?, second.program()?];
    let measured = PATHS.iter().map(|path| {
        let mut frames = frames(scenario, &flows, path.steps, path.is_one)?;
        let rounds = measure::rounds(&programs, floor, &mut frames, TX, runs);
        let rounds = rounds.context(path.name)?;
        anyhow::Ok([Round::mean(&rounds[0]), Round::mean(&rounds[1])])
    });
    measured.collect()
}

/// Of one flow, or of each in scattered order.
fn frames(scenario: &Scenario, flows: &[Flow], steps: &[Step], is_one: bool) -> Result<Frames> {
    let flows = if is_one { flows.get(..1).context("no flow")? } else { flows };
    traffic::scattered(scenario, flows, steps)
}

/// Handshakes, whose SYN-ACK is what a connect time ends with.
fn opening(floor: BorrowedFd<'_>, scenario: &Scenario, uncounted: &[u8]) -> Result<Observed> {
    let teacher = Datapath::load(scenario)?;
    let frames = traffic::handshakes(teacher.program()?, scenario)?;
    drop(teacher);
    let objects = [fairlead::datapath::OBJECT, uncounted];
    let mut rounds = [vec![], vec![]];
    for round in 0..OPENING_ROUNDS {
        for turn in 0..objects.len() {
            let at = (round + turn) % objects.len();
            let datapath = Datapath::load_object(scenario, objects[at])?;
            rounds[at].push(measure::once(datapath.program()?, floor, &frames)?);
        }
    }
    let [with, without] = rounds;
    Ok(Observed {
        what: "counting",
        path: "handshake, each segment",
        flows: scenario.flows,
        with,
        without,
    })
}

/// While somebody reads: packets of others, these at the usual rate, and every one of these.
fn followed(
    floor: BorrowedFd<'_>,
    ours: &Datapath,
    frames: &mut Frames,
    runs: usize,
) -> Result<Vec<Observed>> {
    let stranger = IpBe::new([192, 0, 2, 1].into());
    let others = Filter { client: stranger, client_mask: IpBe::mask(128), ..Filter::ALL };
    let mut all = vec![];
    for (what, filter) in [
        ("following another client", others),
        ("following at 1,000 a second", Filter { limit: USUAL, ..Filter::ALL }),
    ] {
        let reader = Reader::start(ours, &filter)?;
        let programs = [reader.program()?, ours.program()?];
        let rounds = measure::rounds(&programs, floor, frames, TX, runs).context(what)?;
        all.extend(Observed::of(what, "request", 1, rounds));
    }
    let mut reader = Reader::start(ours, &Filter::ALL)?;
    let (mut with, mut without) = (vec![], vec![]);
    for _ in 0..TOLD_ROUNDS {
        let told = measure::some(reader.program()?, floor, frames, TOLD_AT_ONCE)?;
        with.push(told);
        reader.drain()?;
        without.push(measure::some(ours.program()?, floor, frames, TOLD_AT_ONCE)?);
    }
    reader.ensure_all_told(TOLD_ROUNDS * TOLD_AT_ONCE)?;
    all.push(Observed { what: "following every packet", path: "request", flows: 1, with, without });
    Ok(all)
}

/// Somebody who follows packets. In the order in which it has to go.
struct Reader {
    packets: Box<dyn Packets>,
    tracer: Tracer,
    runtime: Runtime,
    told: usize,
    _pins: Bpffs,
    _directory: TempDir,
}

impl Reader {
    fn start(ours: &Datapath, filter: &Filter) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let pins = Bpffs::mount(&directory.path().join("bpf"))?;
        let mut tracer = ours.followed(pins.path(), filter)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let packets = runtime.block_on(async { tracer.packets() })?;
        Ok(Self { packets, tracer, runtime, told: 0, _pins: pins, _directory: directory })
    }

    fn program(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.tracer.loaded()?.fd()?.as_fd())
    }

    fn drain(&mut self) -> Result<()> {
        let packets = &mut self.packets;
        let told = self.runtime.block_on(async {
            let mut told = 0;
            while let Ok(seen) = timeout(SOON, packets.next()).await {
                told += seen?.len();
            }
            std::io::Result::Ok(told)
        });
        self.told += told.context("reading packets")?;
        Ok(())
    }

    /// Else something else was measured.
    fn ensure_all_told(&self, count: usize) -> Result<()> {
        let tally = self.packets.tally()?;
        anyhow::ensure!(
            self.told == count && tally.lost == 0,
            "{} of {count} were told, {} lost",
            self.told,
            tally.lost
        );
        Ok(())
    }
}

impl Observed {
    fn of(
        what: &'static str,
        path: &'static str,
        flows: u32,
        rounds: Vec<Vec<Round>>,
    ) -> Option<Self> {
        let mut rounds = rounds.into_iter();
        Some(Self { what, path, flows, with: rounds.next()?, without: rounds.next()? })
    }

    pub(crate) fn json(&self) -> Value {
        let raw = |rounds: &[Round]| rounds.iter().map(|round| round.raw).collect::<Vec<_>>();
        let floor: Vec<f64> = self.with.iter().map(|round| round.floor).collect();
        json!({
            "what": self.what,
            "path": self.path,
            "flows": self.flows,
            "with": raw(&self.with),
            "without": raw(&self.without),
            "floor": floor,
        })
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = |rounds: &[Round]| {
            let mut all: Vec<f64> = rounds.iter().map(|round| round.raw).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        let (with, without) = (median(&self.with), median(&self.without));
        let name = format!("{}: {}, {} flows", self.what, self.path, self.flows);
        write!(f, "{name:<64}{with:>8.1}{without:>8.1}{:>8.1}", with - without)
    }
}
