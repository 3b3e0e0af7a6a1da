//! The controller's end of the VRRP thread: starts it, commands it, asks what it knows. I/O.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use tokio::sync::{mpsc, oneshot};

use super::super::addresses;
use super::super::lease::Leases;
use super::super::poller::Poller;
use super::super::view::View;
use super::super::{channel, clock, realtime};
use super::receive::Buffers;
use super::{Command, Notice, Plan, Thread};
use crate::netlink::garp::FrameSocket;

/// Commands come one at a time; reports in bursts of all VIPs at once.
const COMMANDS: usize = 64;
const REPORTS: usize = 4096;
const NOTICES: usize = 1024;

/// A running thread.
#[derive(Debug)]
pub struct Handle {
    commands: channel::Sender<Command>,
    views: Arc<Mutex<Vec<View>>>,
    thread: JoinHandle<()>,
    addresses: JoinHandle<()>,
}

/// Starts the threads of VRRP in the current network namespace. Instances take part once
/// [`Command::Ready`] is given; those that a predecessor was Active for do so at once.
pub fn spawn(plan: Plan, leases: Leases) -> Result<(Handle, mpsc::Receiver<Notice>)> {
    if let Err(error) = realtime::lock_memory() {
        log::warn!(
            "vrrp: memory is not locked ({error}; it takes CAP_IPC_LOCK): paging can delay it"
        );
    }
    let wake = channel::waker().context("making an eventfd")?;
    let wake_addresses = channel::waker().context("making an eventfd")?;
    let (commands, command_receiver) = channel::channel(COMMANDS, &wake);
    let (orders, order_receiver) = channel::channel(REPORTS, &wake_addresses);
    let (reports, report_receiver) = channel::channel(REPORTS, &wake);
    let (notices, notice_receiver) = mpsc::channel(NOTICES);
    let views = Arc::new(Mutex::new(Vec::new()));
    let poller = Poller::new().context("making an epoll instance")?;
    poller.add(&*wake).context("waiting for an eventfd")?;
    let addresses = addresses::spawn(order_receiver, wake_addresses, reports)?;
    let mut state = Thread {
        members: Vec::new(),
        leases,
        tick: clock::coarse_tick(),
        ready: false,
        poller,
        wake,
        commands: command_receiver,
        orders,
        reports: report_receiver,
        notices,
        frames: FrameSocket::open().context("opening a socket for frames")?,
        views: Arc::clone(&views),
        publish_at: None,
        buffers: Buffers::boxed(),
        places: Vec::new(),
        todo: Vec::new(),
    };
    state.configure(plan, clock::now());
    let thread = std::thread::Builder::new()
        .name("vrrp".to_owned())
        .spawn(|| state.run())
        .context("starting the thread for VRRP")?;
    Ok((Handle { commands, views, thread, addresses }, notice_receiver))
}

impl Handle {
    /// # Errors
    /// The thread has ended, or does not listen.
    pub fn command(&self, command: Command) -> Result<()> {
        ensure!(self.commands.send(command), "the VRRP thread takes no commands");
        Ok(())
    }

    /// What it knows of its instances.
    pub fn views(&self) -> Vec<View> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives everything up, and waits until the VIPs are removed.
    pub async fn shutdown(self) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.command(Command::Shutdown(reply))?;
        done.await.context("the VRRP thread ended")?;
        self.join().await
    }

    /// Leaves everything to a successor; each instance's term.
    pub async fn hand_over(self) -> Result<Vec<(Arc<str>, u64)>> {
        let (reply, terms) = oneshot::channel();
        self.command(Command::Handover(reply))?;
        let terms = terms.await.context("the VRRP thread ended")?;
        self.join().await?;
        Ok(terms)
    }

    async fn join(self) -> Result<()> {
        let both = tokio::task::spawn_blocking(move || {
            let (thread, addresses) = (self.thread.join(), self.addresses.join());
            thread.and(addresses)
        });
        ensure!(
            both.await.context("waiting for VRRP's threads")?.is_ok(),
            "a VRRP thread panicked"
        );
        Ok(())
    }
}
