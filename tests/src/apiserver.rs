//! A stand-in for a kube-apiserver: TLS, the health paths, a long watch, and a mode that is switched
//! from a plain HTTP port on the loopback of its namespace (`POST /mode/drain`).

mod answer;

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

pub use self::answer::byte_at;
use self::answer::{answer, text};
use crate::echo::listen;
use crate::http::{SERVED_BY, request_inside};
use crate::netns::Netns;
use crate::pki::Pki;
use crate::server_thread::ServerThread;

/// Where the mode is switched, inside the server's namespace.
pub const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9443);

/// Between two lines of a watch.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How late a slow server answers: later than a probe waits.
const SLOWNESS: Duration = Duration::from_secs(5);
/// How late TLS starts in [`Mode::SlowHandshake`].
const SLOW_HANDSHAKE: Duration = Duration::from_secs(2);
/// What `/bytes` sends at once.
const CHUNK: u64 = 16 * 1024;

/// How the server feels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Ok,
    /// Every health path answers 500.
    Fail,
    /// Everything is answered, late.
    Slow,
    /// `/readyz` answers 500, `/livez` 200: what an apiserver does that shuts down in order.
    Drain,
    /// It takes no more connections, and serves those it has: what comes after that.
    Leave,
    /// The health paths answer 401: anonymous requests are off.
    Unauthorized,
    /// The health paths answer 500 unless they are to leave etcd out.
    WithoutEtcd,
    /// TLS starts late: later than a probe waits.
    SlowHandshake,
}

impl Mode {
    const ALL: [Self; 8] = [
        Self::Ok,
        Self::Fail,
        Self::Slow,
        Self::Drain,
        Self::Leave,
        Self::Unauthorized,
        Self::WithoutEtcd,
        Self::SlowHandshake,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Slow => "slow",
            Self::Drain => "drain",
            Self::Leave => "leave",
            Self::Unauthorized => "unauthorized",
            Self::WithoutEtcd => "without-etcd",
            Self::SlowHandshake => "slow-handshake",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }

    /// What a health path answers.
    fn status(self, path: &str, query: Option<&str>) -> StatusCode {
        let leaves_etcd_out = query.is_some_and(|query| query.contains("exclude=etcd"));
        let is_well = match self {
            Self::Ok | Self::Slow | Self::SlowHandshake => true,
            Self::Fail => false,
            Self::Drain | Self::Leave => path == "/livez",
            Self::WithoutEtcd => leaves_etcd_out,
            Self::Unauthorized => return StatusCode::UNAUTHORIZED,
        };
        if is_well { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
    }
}

/// Switches a server in this process.
#[derive(Clone, Debug)]
pub struct Control(Arc<Switches>);

#[derive(Debug)]
struct Switches {
    mode: watch::Sender<Mode>,
    /// In place of the certificate that the server started with.
    tls: Mutex<Option<Arc<ServerConfig>>>,
    /// Connections taken so far, probes among them.
    connections: AtomicU64,
}

impl Default for Control {
    fn default() -> Self {
        let mode = watch::Sender::new(Mode::Ok);
        Self(Arc::new(Switches { mode, tls: Mutex::default(), connections: AtomicU64::new(0) }))
    }
}

impl Control {
    pub fn set(&self, mode: Mode) {
        self.0.mode.send_replace(mode);
    }

    pub fn mode(&self) -> Mode {
        *self.0.mode.borrow()
    }

    /// Another certificate for connections from now on.
    pub fn set_tls(&self, config: Arc<ServerConfig>) {
        *self.0.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }

    /// Connections taken so far, those of probes included.
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::Relaxed)
    }

    fn acceptor(&self) -> Option<TlsAcceptor> {
        let tls = self.0.tls.lock().unwrap_or_else(PoisonError::into_inner);
        tls.clone().map(TlsAcceptor::from)
    }

    async fn left(&self) {
        // The sender is ours: there is no error.
        let _ = self.0.mode.subscribe().wait_for(|mode| *mode == Mode::Leave).await;
    }
}

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A server whose ports are open.
pub struct Bound {
    name: Arc<str>,
    acceptor: TlsAcceptor,
    apis: Vec<std::net::TcpListener>,
    control: std::net::TcpListener,
}

/// Opens one address or several, and [`CONTROL`], in the namespace of the calling thread.
pub fn bind(name: &str, addresses: impl ToSocketAddrs, pki: &Pki) -> Result<Bound> {
    Ok(Bound {
        name: name.into(),
        acceptor: TlsAcceptor::from(pki.server_config(name)?),
        apis: addresses.to_socket_addrs()?.map(listen).collect::<Result<_>>()?,
        control: listen(CONTROL)?,
    })
}

/// Starts a server on a thread of this process: dropping it closes every connection, as a kill would.
pub fn start(
    netns: &Netns,
    name: &str,
    addresses: impl ToSocketAddrs,
    pki: &Pki,
) -> Result<(ServerThread, Control)> {
    let addresses: Vec<_> = addresses.to_socket_addrs()?.collect();
    let bound = netns.on_thread(|| bind(name, &addresses[..], pki))?;
    let control = Control::default();
    let thread_control = control.clone();
    Ok((ServerThread::start(name, || bound.serve(thread_control))?, control))
}

/// Switches the mode of the server that runs in a namespace, whatever process it is.
pub fn set_mode(netns: &Netns, mode: Mode) -> Result<()> {
    request_inside(netns, CONTROL, "POST", &format!("/mode/{}", mode.as_str())).map(drop)
}

impl Bound {
    /// Serves until the future is dropped, and the tasks of its runtime with it.
    pub async fn serve(self, control: Control) -> Result<()> {
        let mut serving = JoinSet::new();
        for api in self.apis {
            let (acceptor, name) = (self.acceptor.clone(), Arc::clone(&self.name));
            serving.spawn(serve_api(TcpListener::from_std(api)?, acceptor, name, control.clone()));
        }
        let controls = TcpListener::from_std(self.control)?;
        serving.spawn(serve_control(controls, self.name, control));
        while let Some(ended) = serving.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn serve_api(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    name: Arc<str>,
    control: Control,
) -> Result<()> {
    loop {
        let (stream, _) = tokio::select! {
            biased;
            // With it the listener goes; connections stay.
            () = control.left() => return Ok(()),
            accepted = listener.accept() => accepted.context("accepting")?,
        };
        stream.set_nodelay(true)?;
        control.0.connections.fetch_add(1, Ordering::Relaxed);
        let acceptor = control.acceptor().unwrap_or_else(|| acceptor.clone());
        let (name, control) = (Arc::clone(&name), control.clone());
        tokio::spawn(async move {
            if control.mode() == Mode::SlowHandshake {
                sleep(SLOW_HANDSHAKE).await;
            }
            // A client that asks in clear is spared the handshake, as no apiserver does: a load of many
            // connections would otherwise be one of cryptography.
            if !is_tls(&stream).await {
                return connection(stream, name, control, false).await;
            }
            // A client that gives up in the handshake is the client's business.
            if let Ok(stream) = acceptor.accept(stream).await {
                connection(stream, name, control, false).await;
            }
        });
    }
}

/// Whether the first byte that a client sends is that of a handshake (RFC 8446 section 5.1).
async fn is_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    stream.peek(&mut first).await.is_ok_and(|length| length == 0 || first == [22])
}

async fn serve_control(controls: TcpListener, name: Arc<str>, control: Control) -> Result<()> {
    loop {
        let (stream, _) = controls.accept().await.context("accepting")?;
        tokio::spawn(connection(stream, Arc::clone(&name), control.clone(), true));
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    name: Arc<str>,
    control: Control,
    is_control: bool,
) {
    let service = service_fn(|request| {
        let (name, control) = (Arc::clone(&name), control.clone());
        async move {
            let answer = if is_control {
                Ok(switch(&request, &control))
            } else {
                answer(request, &name, control.mode()).await
            };
            answer.map(|mut answer| {
                if let Ok(value) = name.parse() {
                    answer.headers_mut().insert(SERVED_BY, value);
                }
                answer
            })
        }
    });
    // Connections are cut here on purpose; the client judges.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The control port: `GET /mode`, `POST /mode/NAME`.
fn switch(request: &Request<Incoming>, control: &Control) -> Response<Body> {
    let asked = request.uri().path().strip_prefix("/mode");
    let status = match (request.method(), asked.map(|rest| rest.trim_start_matches('/'))) {
        (&Method::GET, Some("")) => StatusCode::OK,
        (&Method::POST, Some(name)) => match Mode::parse(name) {
            Some(mode) => {
                control.set(mode);
                StatusCode::OK
            }
            None => StatusCode::BAD_REQUEST,
        },
        _ => StatusCode::NOT_FOUND,
    };
    text(status, format!("{}\n", control.mode().as_str()))
}
