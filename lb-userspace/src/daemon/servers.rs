//! Who answers questions while the controller runs: on the socket, and by TCP if that is wanted.

use anyhow::Result;
use futures_util::future::OptionFuture;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::admin::api::Api;
use crate::admin::listener::{self, Handle};
use crate::admin::{self, Listener};
use crate::config::Admin;

/// Both, or one of them.
pub(super) struct Servers {
    socket: JoinHandle<Result<()>>,
    pub(super) by_tcp: Option<Handle>,
    shutdown: oneshot::Sender<()>,
}

/// Starts to serve. That there cannot be a listener by TCP is no reason not to balance.
pub(super) fn start(socket: Listener, config: &Admin, api: Api) -> Servers {
    let by_tcp = listener::start(config, &api).unwrap_or_else(|error| {
        log::error!("{error:#}");
        None
    });
    let (shutdown, stopping) = oneshot::channel::<()>();
    let socket = tokio::spawn(admin::serve(socket, api, async {
        // Dropped or sent, it is the end.
        let _ = stopping.await;
    }));
    Servers { socket, by_tcp, shutdown }
}

impl Servers {
    /// Ends once the answers under way are sent.
    pub(super) async fn stop(self) {
        let _ = self.shutdown.send(());
        let by_tcp = OptionFuture::from(self.by_tcp.map(Handle::stop));
        let _ = tokio::join!(self.socket, by_tcp);
    }
}
