//! A stand-in for a kube-apiserver: TLS, the health paths, a long watch, and a mode that is switched
//! from a plain HTTP port on the loopback of its namespace (`POST /mode/drain`).

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tokio_rustls::TlsAcceptor;

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
/// What `/bytes` sends at once.
const CHUNK: u64 = 16 * 1024;

/// How the server feels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    Ok,
    /// Every health path answers 500.
    Fail,
    /// Everything is answered, late.
    Slow,
    /// `/readyz` answers 500, `/livez` 200: what an apiserver does that shuts down in order.
    Drain,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Ok, Self::Fail, Self::Slow, Self::Drain];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Slow => "slow",
            Self::Drain => "drain",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }

    const fn ready(self) -> bool {
        matches!(self, Self::Ok | Self::Slow)
    }

    const fn live(self) -> bool {
        !matches!(self, Self::Fail)
    }
}

/// Switches a server in this process.
#[derive(Clone, Debug)]
pub struct Control(Arc<AtomicU8>);

impl Default for Control {
    fn default() -> Self {
        Self(Arc::new(AtomicU8::new(Mode::Ok as u8)))
    }
}

impl Control {
    pub fn set(&self, mode: Mode) {
        self.0.store(mode as u8, Ordering::Relaxed);
    }

    pub fn mode(&self) -> Mode {
        let stored = self.0.load(Ordering::Relaxed);
        Mode::ALL.into_iter().find(|mode| *mode as u8 == stored).unwrap_or(Mode::Ok)
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
        let (stream, _) = listener.accept().await.context("accepting")?;
        stream.set_nodelay(true)?;
        let (acceptor, name, control) = (acceptor.clone(), Arc::clone(&name), control.clone());
        tokio::spawn(async move {
            // A client that gives up in the handshake is the client's business.
            if let Ok(stream) = acceptor.accept(stream).await {
                connection(stream, name, control, false).await;
            }
        });
    }
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

async fn answer(
    request: Request<Incoming>,
    name: &str,
    mode: Mode,
) -> Result<Response<Body>, hyper::Error> {
    if mode == Mode::Slow {
        sleep(SLOWNESS).await;
    }
    let health = |well: bool| match well {
        true => text(StatusCode::OK, "ok".to_owned()),
        false => text(StatusCode::INTERNAL_SERVER_ERROR, format!("[-]{}", mode.as_str())),
    };
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/readyz" | "/healthz") => health(mode.ready()),
        (&Method::GET, "/livez") => health(mode.live()),
        (&Method::GET, "/version") => {
            let version =
                json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0-lab", "server": name});
            text(StatusCode::OK, version.to_string())
        }
        (&Method::GET, "/watch") => watch(name),
        (&Method::GET, "/bytes") => bytes(asked_length(request.uri().query())),
        (&Method::POST, "/hash") => hash(request.into_body()).await?,
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    })
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A line of JSON each 100 ms, with a counter; without end.
fn watch(name: &str) -> Response<Body> {
    let state = (interval(WATCH_INTERVAL), 0_u64, name.to_owned());
    let lines = stream::unfold(state, |(mut clock, count, name)| async move {
        clock.tick().await;
        let line = format!("{}\n", json!({"server": name, "count": count}));
        Some((Ok(Frame::data(Bytes::from(line))), (clock, count + 1, name)))
    });
    Response::new(BodyExt::boxed_unsync(StreamBody::new(lines)))
}

fn asked_length(query: Option<&str>) -> u64 {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.strip_prefix("n=")?.parse().ok()).next().unwrap_or(0)
}

/// `length` bytes, each a function of its place: see [`byte_at`].
fn bytes(length: u64) -> Response<Body> {
    let chunks = stream::unfold(0, move |sent| async move {
        let end = length.min(sent + CHUNK);
        (sent < end).then(|| {
            let chunk: Vec<u8> = (sent..end).map(byte_at).collect();
            (Ok(Frame::data(Bytes::from(chunk))), end)
        })
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(chunks)));
    response.headers_mut().insert("content-length", length.into());
    response
}

/// What `/bytes` sends at `place`. A prime period: a lost or doubled segment shows.
pub fn byte_at(place: u64) -> u8 {
    u8::try_from(place % 251).unwrap_or_default()
}

async fn hash(mut body: Incoming) -> Result<Response<Body>, hyper::Error> {
    let (mut digest, mut length) = (Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            digest.update(data);
            length += data.len();
        }
    }
    let sum: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(text(StatusCode::OK, json!({"sha256": sum, "length": length}).to_string()))
}
