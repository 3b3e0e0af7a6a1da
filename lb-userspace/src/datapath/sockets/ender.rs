//! A thread that ends connections of local clients to backends that are lost. I/O.
//!
//! It finds them among the sockets of this network namespace by what is kept with them; if it is to, then
//! among those of the machine's others too (pods), which takes CAP_SYS_ADMIN. Otherwise those end by their
//! own timeouts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use lb_common::addr::Endpoint;
use lb_common::socket::Redirect;

use super::namespaces;
use crate::datapath::sys;
use crate::netlink::sock_diag::{SockDiag, SocketId};

/// Sockets that are ended at a time, and the pause after them: who is cut off comes back at once.
const BATCH: u64 = 100;
const PAUSE: Duration = Duration::from_millis(10);
/// Orders that wait; of more, the caller is told.
const QUEUE: usize = 1024;
/// A socket whose connection was under way when it was led is found again after this.
const AGAIN: Duration = Duration::from_millis(100);

/// A backend whose connections are to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub backend: SocketAddr,
    /// As it stands with sockets.
    pub endpoint: Endpoint,
    /// What the connections were to be to.
    pub services: BTreeSet<Endpoint>,
    /// Those made before, nanoseconds of CLOCK_MONOTONIC.
    pub before_ns: u64,
    /// Those of other network namespaces too.
    pub in_pods: bool,
}

/// The thread's other end. It ends with this.
#[derive(Debug)]
pub struct Ender {
    orders: SyncSender<Lost>,
    counts: Arc<Counts>,
}

/// Connections that were ended, and of them those of other network namespaces.
#[derive(Debug, Default)]
struct Counts {
    ended: AtomicU64,
    in_pods: AtomicU64,
}

impl Ender {
    /// Starts it in this network namespace. `redirects`: the map that is kept with sockets.
    pub fn start(redirects: OwnedFd) -> anyhow::Result<Self> {
        let (orders, received) = sync_channel(QUEUE);
        let counts = Arc::<Counts>::default();
        let worker = Worker { redirects, counts: Arc::clone(&counts) };
        thread::Builder::new()
            .name("sockets".to_owned())
            .spawn(move || worker.serve(&received))
            .context("starting the thread that ends connections")?;
        Ok(Self { orders, counts })
    }

    /// Has the connections to a backend ended; gives it back if too many wait.
    pub fn end(&self, lost: Lost) -> Result<(), Lost> {
        self.orders.try_send(lost).map_err(|error| match error {
            TrySendError::Full(lost) | TrySendError::Disconnected(lost) => lost,
        })
    }

    /// How many it has ended.
    pub fn ended(&self) -> u64 {
        self.counts.ended.load(Ordering::Relaxed)
    }

    /// How many of them in other network namespaces.
    pub fn ended_in_pods(&self) -> u64 {
        self.counts.in_pods.load(Ordering::Relaxed)
    }
}

struct Worker {
    redirects: OwnedFd,
    counts: Arc<Counts>,
}

/// Whose sockets the calling thread sees.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Home,
    Pod,
}

impl Worker {
    fn serve(&self, orders: &Receiver<Lost>) {
        while let Ok(lost) = orders.recv() {
            // Twice: the program leads a socket before the kernel lists its connection.
            let mut ended = self.carry_out(&lost);
            thread::sleep(AGAIN);
            ended += self.carry_out(&lost);
            if ended > 0 {
                log::warn!("{}: ended {ended} connections of local clients", lost.backend);
            }
        }
    }

    /// How many were ended.
    fn carry_out(&self, lost: &Lost) -> u64 {
        let before = self.counts.ended.load(Ordering::Relaxed);
        if let Err(error) = self.end_here(lost, Whose::Home) {
            log::error!("ending connections of local clients to {}: {error:#}", lost.backend);
        }
        if lost.in_pods
            && let Err(error) = self.visit_pods(lost)
        {
            log::error!("ending connections of pods to {}: {error:#}", lost.backend);
        }
        self.counts.ended.load(Ordering::Relaxed) - before
    }

    /// On a thread of its own: one that has entered a namespace stays there.
    fn visit_pods(&self, lost: &Lost) -> anyhow::Result<()> {
        let thread = thread::Builder::new().name("pods".to_owned());
        thread::scope(|scope| {
            let visit = thread.spawn_scoped(scope, || self.end_in_pods(lost));
            let visit = visit.context("starting a thread that enters their namespaces")?;
            visit.join().map_err(|_| anyhow!("the thread that enters their namespaces panicked"))?
        })
    }

    /// The first error, after all of them.
    fn end_in_pods(&self, lost: &Lost) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for namespace in namespaces::others()? {
            let ended = namespace.enter().and_then(|()| self.end_here(lost, Whose::Pod));
            outcome = outcome.and(ended);
        }
        outcome
    }

    /// Among the sockets that the calling thread sees.
    fn end_here(&self, lost: &Lost, whose: Whose) -> anyhow::Result<()> {
        let mut sockets = SockDiag::open()?;
        // One that changes its place meanwhile may be there twice.
        let mut found: Vec<SocketId> = Vec::new();
        let map = u32::try_from(self.redirects.as_fd().as_raw_fd()).context("a descriptor")?;
        sockets.connected(lost.backend, map, |id, kept| {
            let redirect = sys::from_bytes::<Redirect>(kept);
            if redirect.is_some_and(|it| is_lost(&it, lost)) {
                found.push(id);
            }
        })?;
        for id in &found {
            if sockets.destroy(id)? {
                self.count(whose);
            }
        }
        Ok(())
    }

    fn count(&self, whose: Whose) {
        if whose == Whose::Pod {
            self.counts.in_pods.fetch_add(1, Ordering::Relaxed);
        }
        let before = self.counts.ended.fetch_add(1, Ordering::Relaxed);
        if (before + 1).is_multiple_of(BATCH) {
            thread::sleep(PAUSE);
        }
    }
}

fn is_lost(redirect: &Redirect, lost: &Lost) -> bool {
    redirect.is_lost(lost.endpoint, lost.before_ns) && lost.services.contains(&redirect.service)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use lb_common::IPPROTO_TCP;
    use lb_common::addr::{IpBe, PortBe};

    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        let address: IpAddr = text.parse().unwrap();
        Endpoint::new(IpBe::new(address), PortBe::new(6443), IPPROTO_TCP)
    }

    #[test]
    fn only_connections_of_the_lost_backend_by_its_service_are_ended() {
        let (backend, service) = (endpoint("10.0.0.11"), endpoint("10.0.0.100"));
        let lost = Lost {
            backend: "10.0.0.11:6443".parse().unwrap(),
            endpoint: backend,
            services: BTreeSet::from([service]),
            before_ns: 1000,
            in_pods: false,
        };
        let redirect = Redirect { service, backend, made_ns: 999, ..Redirect::default() };
        assert!(is_lost(&redirect, &lost));
        assert!(!is_lost(&Redirect { made_ns: 1000, ..redirect }, &lost));
        assert!(!is_lost(&Redirect { backend: endpoint("10.0.0.12"), ..redirect }, &lost));
        assert!(!is_lost(&Redirect { service: endpoint("10.0.0.101"), ..redirect }, &lost));
    }
}
