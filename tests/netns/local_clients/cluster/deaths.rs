//! What each death costs. New connections fail for as long as it takes to notice, and no longer; established
//! ones to whoever lives go on, from outside and from the nodes.

use std::num::NonZeroU64;
use std::thread::{self, ScopedJoinHandle};

use anyhow::anyhow;
use lb_tests::transfer::{MIB, Way, transfer_paced};

use super::*;

/// New connections of each client and family.
const PER_SECOND: u32 = 15;
/// Streams that stay, of each client and family: a line each 100 ms, by TLS.
const WATCHES: usize = 6;
/// What has been established for so long is known to the other nodes.
const SETTLED: Duration = Duration::from_millis(700);
/// Until everything that began with the event has ended: a connect may take 3 s, and an answer 5 s.
const AFTERMATH: Duration = Duration::from_secs(8);
/// Of each stream, which so lasts for eight seconds.
const STREAM: u64 = 32 * MIB;
const PACE: Option<NonZeroU64> = NonZeroU64::new(4 * MIB);
/// Three advertisements, and the skew of priority 249.
const TAKE_OVER: Duration = Duration::from_millis(303);
/// As `fairlead check` says of this configuration: its process ends, and its host vanishes.
const REFUSED: Duration = Duration::from_millis(1100);
const SILENT: Duration = Duration::from_millis(2500);
/// A busy machine.
const BUSY: Duration = Duration::from_millis(700);

/// Something that happens to the first node.
struct Event {
    what: &'static str,
    /// Its apiserver does not live on.
    kills_apiserver: bool,
    /// The VIPs go to the second node, whose kernel takes no segments from there.
    moves: bool,
    /// For so long new connections may fail.
    limit: Duration,
}

/// Clients everywhere, with new connections, streams that listen, and streams that send.
struct Traffic<'a> {
    cluster: &'a Cluster,
    loads: Vec<(Family, At, Running)>,
}

impl<'a> Traffic<'a> {
    fn start(cluster: &'a Cluster) -> Result<Self> {
        let mut loads = Vec::new();
        for family in Family::ALL {
            for at in EVERYWHERE {
                let load = Load {
                    target: cluster.vip(family, API_PORT),
                    talk: Talk::tls(&cluster.pki)?,
                    pace: Pace::Open { per_second: PER_SECOND },
                    watches: WATCHES,
                };
                loads.push((family, at, cluster.load(at, &load)?));
            }
        }
        let traffic = Self { cluster, loads };
        traffic.wait_watches()?;
        Ok(traffic)
    }

    fn wait_watches(&self) -> Result<()> {
        let open = || Ok(self.loads.iter().map(|(.., load)| load.watches.open()).sum::<usize>());
        let all = |open: &usize| *open == WATCHES * self.loads.len();
        eventually_is("watch streams", PATIENCE, open, all).map(drop)
    }

    /// Lets it happen, and judges what everybody saw.
    fn during(&self, event: &Event, cause: impl FnOnce() -> Result<()>) -> Result<()> {
        thread::scope(|scope| {
            let streams = Family::ALL.map(|family| {
                let target = self.cluster.vip(family, STREAM_PORT);
                let send = move || transfer_paced(target, Way::Upload, STREAM, PACE);
                let outside = &self.cluster.lab.client.netns;
                let inside = move || {
                    let _member = self.cluster.cgroups[1].enter()?;
                    self.cluster.node(1).netns.on_thread(send)
                };
                [scope.spawn(move || outside.on_thread(send)), scope.spawn(inside)]
            });
            thread::sleep(SETTLED);
            let marks: Vec<_> = self.loads.iter().map(|(.., it)| it.recorder.now()).collect();
            cause()?;
            thread::sleep(AFTERMATH);
            for (load, mark) in self.loads.iter().zip(marks) {
                let (family, at, _) = load;
                let who = || format!("{}: {family:?}, {at:?}", event.what);
                self.judge(event, load, mark).with_context(who)?;
            }
            streams.into_iter().flatten().try_for_each(ensure_intact).context(event.what)
        })
    }

    fn judge(
        &self,
        event: &Event,
        (family, at, load): &(Family, At, Running),
        mark: Duration,
    ) -> Result<()> {
        let report = load.recorder.report(&(mark..Duration::MAX));
        let lasts = report.failures.iter().map(|(started, ..)| started.saturating_sub(mark)).max();
        crate::measured(&format!(
            "{}: {family:?}, {at:?}: {} of {} new connections failed ({:?}), the last one begun {:?} after it",
            event.what,
            report.failed_total(),
            report.sent,
            report.failed,
            lasts.unwrap_or_default(),
        ));
        ensure!(lasts.unwrap_or_default() <= event.limit + BUSY, "{:?}", report.failures);
        ensure!(report.answered > report.sent / 2, "{report:?}");
        let (first, second) = (&self.cluster.node(0).name, &self.cluster.node(1).name);
        for broken in load.watches.breaks(&(mark..Duration::MAX)) {
            // An attempt to come back.
            let was_open = !broken.server.is_empty();
            let dead = event.kills_apiserver && broken.server == *first;
            let told = broken.why.contains("reset") || broken.why.contains("aborted");
            let moved = event.moves && *at == At::Outside && broken.server == *second;
            ensure!(!was_open || dead || (moved && told), "{broken:?}");
        }
        Ok(())
    }
}

fn ensure_intact(stream: ScopedJoinHandle<'_, Result<lb_tests::transfer::Hashes>>) -> Result<()> {
    let hashes = stream.join().map_err(|_| anyhow!("a stream panicked"))??;
    ensure!(hashes.sent == hashes.received, "other bytes arrived");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_lives_goes_on_when_apiserver_controller_and_node_die() -> Result<()> {
    let cluster = Cluster::build("1s")?;
    let mut first = cluster.start(0)?;
    let (second, third) = (cluster.start(1)?, cluster.start(2)?);
    cluster.settle(&[&first, &second, &third], &first, &[0, 1, 2])?;
    wait_synced(&[&first, &second, &third])?;
    let mut traffic = Traffic::start(&cluster)?;

    let event = Event {
        what: "the active node's apiserver dies",
        kills_apiserver: true,
        moves: false,
        limit: REFUSED,
    };
    traffic.during(&event, || {
        cluster.end_apiserver(0);
        Ok(())
    })?;
    cluster.serve(0)?;
    cluster.settle(&[&first, &second, &third], &first, &[0, 1, 2])?;
    traffic.wait_watches()?;

    let event = Event {
        what: "the active node's controller dies",
        kills_apiserver: false,
        moves: true,
        limit: TAKE_OVER,
    };
    traffic.during(&event, || first.kill9())?;
    first.start()?;
    cluster.settle(&[&first, &second, &third], &first, &[0, 1, 2])?;
    wait_synced(&[&first, &second, &third])?;
    traffic.wait_watches()?;

    // Who is on it is dead too.
    traffic.loads.retain(|(_, at, _)| *at != At::Node(0));
    let event = Event {
        what: "the active node dies",
        kills_apiserver: true,
        moves: true,
        limit: TAKE_OVER.max(SILENT),
    };
    traffic.during(&event, || cluster.node(0).netns.ip("link set eth0 down").map(drop))?;
    cluster.settle(&[&second, &third], &second, &[1, 2])?;
    traffic.wait_watches()
}
