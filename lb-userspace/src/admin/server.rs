//! Serves the routes of `api` on the socket: one request a connection, few connections at once, and
//! none for long. Run by the daemon as one task. I/O.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::api::{self, Api, READ_TIMEOUT, REPLY_TIMEOUT};
use super::connection::{Endless, Impatient, peer};
use super::socket::Listener;

/// Others wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 64;

/// For a request's head and body, the command's two waits, and the answer's way.
pub(super) const MAX_DURATION: Duration =
    READ_TIMEOUT.saturating_mul(4).saturating_add(REPLY_TIMEOUT);

/// For open connections to get their answers at the end: the one that asked for it, above all.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(2);

/// For a client to read something of what it asked for.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Out of file descriptors, most likely: trying at once would fail at once.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` completes; then removes the socket, and ends when open connections have
/// their answers, or two seconds later.
pub async fn serve(listener: Listener, api: Api, shutdown: impl Future<Output = ()>) -> Result<()> {
    let (listener, file) = listener.into_tokio()?;
    let router = api::router(api);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let answered = answer(stream, router.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        answered.await;
                    });
                }
                Err(error) => {
                    log::warn!("admin socket: accepting a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(file);
    let _ = timeout(END_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn answer(stream: UnixStream, router: Router) {
    let (peer, endless) = (peer(&stream), Endless::default());
    let router = TowerToHyperService::new(router);
    let served = endless.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(served.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)), service);
    let limit = async {
        sleep(MAX_DURATION).await;
        if endless.get() {
            std::future::pending().await
        }
    };
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            // Clients go away as they like.
            log::debug!("admin socket: {error}");
        },
        () = limit => log::debug!("admin socket: a client took too long"),
    }
}
