//! A thread that ends connections of local clients to backends that are lost. I/O.
//!
//! It finds them among the sockets of this network namespace by what is kept with them. Those of other
//! namespaces (pods) it cannot reach: that would take CAP_SYS_ADMIN; they end by their own timeouts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use lb_common::addr::Endpoint;
use lb_common::socket::Redirect;

use crate::datapath::sys;
use crate::netlink::sock_diag::{SockDiag, SocketId};

/// Sockets that are ended at a time, and the pause after them: who is cut off comes back at once.
const BATCH: usize = 100;
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
}

/// The thread's other end. It ends with this.
#[derive(Debug)]
pub struct Ender {
    orders: SyncSender<Lost>,
    ended: Arc<AtomicU64>,
}

impl Ender {
    /// Starts it in this network namespace. `redirects`: the map that is kept with sockets.
    pub fn start(redirects: OwnedFd) -> anyhow::Result<Self> {
        let (orders, received) = sync_channel(QUEUE);
        let ended = Arc::<AtomicU64>::default();
        let worker = Worker { redirects, ended: Arc::clone(&ended) };
        thread::Builder::new()
            .name("sockets".to_owned())
            .spawn(move || worker.serve(&received))
            .context("starting the thread that ends connections")?;
        Ok(Self { orders, ended })
    }

    /// Has the connections to a backend ended; gives it back if too many wait.
    pub fn end(&self, lost: Lost) -> Result<(), Lost> {
        self.orders.try_send(lost).map_err(|error| match error {
            TrySendError::Full(lost) | TrySendError::Disconnected(lost) => lost,
        })
    }

    /// How many it has ended.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }
}

struct Worker {
    redirects: OwnedFd,
    ended: Arc<AtomicU64>,
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

    fn carry_out(&self, lost: &Lost) -> u64 {
        self.try_carry_out(lost).unwrap_or_else(|error| {
            log::error!("ending connections of local clients to {}: {error:#}", lost.backend);
            0
        })
    }

    fn try_carry_out(&self, lost: &Lost) -> anyhow::Result<u64> {
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
        let mut ended = 0;
        for batch in found.chunks(BATCH) {
            for id in batch {
                if sockets.destroy(id)? {
                    ended += 1;
                    self.ended.fetch_add(1, Ordering::Relaxed);
                }
            }
            thread::sleep(PAUSE);
        }
        Ok(ended)
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
        };
        let redirect = Redirect { service, backend, made_ns: 999, ..Redirect::default() };
        assert!(is_lost(&redirect, &lost));
        assert!(!is_lost(&Redirect { made_ns: 1000, ..redirect }, &lost));
        assert!(!is_lost(&Redirect { backend: endpoint("10.0.0.12"), ..redirect }, &lost));
        assert!(!is_lost(&Redirect { service: endpoint("10.0.0.101"), ..redirect }, &lost));
    }
}
