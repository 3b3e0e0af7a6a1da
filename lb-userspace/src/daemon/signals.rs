//! What operators and service managers ask for by signals. I/O.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Ending;

/// Signals that an operator or a service manager sends.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("handling signals");
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
            user1: on(SignalKind::user_defined1())?,
        })
    }

    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End(Ending::Release),
            _ = self.interrupt.recv() => Wish::End(Ending::Release),
            _ = self.user1.recv() => Wish::End(Ending::Handover),
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

/// What a signal asks for.
pub(super) enum Wish {
    End(Ending),
    Reload,
}
