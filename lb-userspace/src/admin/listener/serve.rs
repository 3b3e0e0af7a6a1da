//! The listener's one task, and one for each connection. I/O.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::super::api::READ_TIMEOUT;
use super::super::connection::{Endless, Impatient};
use super::super::model::Peer;
use super::super::server::{ACCEPT_PAUSE, END_TIMEOUT, MAX_DURATION, WRITE_TIMEOUT};
use super::Shared;
use super::counts::{Counts, Refused};
use super::tls::Tls;

/// Of a request's line and headers; what browsers send is a tenth of it.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// An address that is not there may come, and one that is taken may be left.
const BIND_AGAIN: Duration = Duration::from_secs(2);

/// What all connections have in common.
pub(super) struct Server {
    pub(super) router: Router,
    pub(super) tls: Option<Tls>,
    pub(super) counts: Arc<Counts>,
    pub(super) shared: Arc<Shared>,
}

/// Serves until `stop` completes or its sender is dropped.
pub(super) async fn run(listen: SocketAddr, server: Server, mut stop: oneshot::Receiver<()>) {
    let listener = tokio::select! {
        listener = bind(listen, &server.shared) => listener,
        _ = &mut stop => return,
    };
    log::info!("admin: listening on {listen}");
    let server = Arc::new(server);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::warn!("admin.listen: accepting a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            _ = &mut stop => break,
        };
        // Closed at once where there is none: whoever waits in line waits for those who take all places.
        let Some(place) = server.shared.places.take(from.ip()) else {
            server.counts.refuse(Refused::Connections);
            continue;
        };
        let server = Arc::clone(&server);
        connections.spawn(async move {
            let _place = place;
            serve(stream, from, &server).await;
        });
    }
    drop(listener);
    let _ = timeout(END_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

/// Tries until it works: page and metrics are no reason for a load balancer not to start.
async fn bind(listen: SocketAddr, shared: &Shared) -> TcpListener {
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                shared.set_error(None);
                if let Ok(bound) = listener.local_addr() {
                    // Bound once.
                    let _ = shared.bound.set(bound);
                }
                return listener;
            }
            Err(error) => {
                if shared.set_error(Some(error.to_string())) {
                    log::error!("admin.listen: {listen}: {error}; trying again");
                }
                sleep(BIND_AGAIN).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, from: SocketAddr, server: &Server) {
    // Latency only.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &server.tls else { return answer(stream, from, server).await };
    let config = match tls.get().await {
        Ok(config) => config,
        Err(error) => {
            log::warn!("admin.tls: {error}");
            return server.counts.refuse(Refused::Tls);
        }
    };
    match timeout(READ_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => answer(stream, from, server).await,
        Ok(Err(error)) => {
            log::debug!("admin.tls: {from}: {error}");
            server.counts.refuse(Refused::Tls);
        }
        Err(_) => server.counts.refuse(Refused::Tls),
    }
}

async fn answer<S>(stream: S, from: SocketAddr, server: &Server)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (endless, asked) = (Endless::default(), Arc::new(Mutex::new(Instant::now())));
    let router = TowerToHyperService::new(server.router.clone());
    let (served, last) = (endless.clone(), Arc::clone(&asked));
    let service = service_fn(move |mut request: Request<Incoming>| {
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let extensions = request.extensions_mut();
        extensions.insert(None::<Peer>);
        extensions.insert(from);
        extensions.insert(served.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)), service);
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            // Clients go away as they like.
            log::debug!("admin.listen: {from}: {error}");
            if let Some(why) = reason(&error) {
                server.counts.refuse(why);
            }
        },
        () = too_long(&endless, &asked) => server.counts.refuse(Refused::Slow),
    }
}

/// Completes when a request takes too long, its answer included.
async fn too_long(endless: &Endless, asked: &Mutex<Instant>) {
    loop {
        let until = *asked.lock().unwrap_or_else(PoisonError::into_inner) + MAX_DURATION;
        if until <= Instant::now() {
            if endless.get() {
                return std::future::pending().await;
            }
            return;
        }
        sleep_until(until).await;
    }
}

fn reason(error: &hyper::Error) -> Option<Refused> {
    if error.is_parse_too_large() {
        Some(Refused::Large)
    } else if error.is_parse() {
        Some(Refused::Malformed)
    } else if error.is_timeout() {
        Some(Refused::Slow)
    } else {
        None
    }
}
