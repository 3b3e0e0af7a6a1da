//! The client of the API, for the commands. I/O.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

mod queries;

use super::model::{
    BackendChange, BackendChanged, Drain, Event, Failure, Reload, Reloaded, Stop, Version,
};

/// Longer than the server takes to give up, so that its explanation arrives.
const TIMEOUT: Duration = Duration::from_secs(45);

/// A thousand services with their backends are a tenth of it.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// No controller is there to be asked, or this user may not ask it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// Asks the controller that listens on one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub async fn version(&self) -> Result<Version> {
        self.get("/v1/version").await
    }

    /// As the controller says it, keys unknown to this program included.
    pub async fn status(&self) -> Result<Value> {
        self.get("/v1/status").await
    }

    /// What has changed, or would.
    pub async fn reload(&self, dry_run: bool) -> Result<Reloaded> {
        self.post("/v1/reload", &Reload { dry_run }).await
    }

    /// What happened; `question` is that of the path. Calls `see` for each event, until `see` fails or,
    /// unless it asks to follow, there are no more.
    pub async fn events(
        &self,
        question: &str,
        mut see: impl FnMut(&str, Event) -> Result<()>,
    ) -> Result<()> {
        let path = format!("/v1/events?{question}");
        self.lines(
            &path,
            || (),
            |line| see(line, serde_json::from_str(line).context("reading an event")?),
        )
        .await
    }

    /// Calls `begun` when there is an answer, and `see` for each line of it, until that fails or there are
    /// no more.
    async fn lines(
        &self,
        path: &str,
        begun: impl FnOnce(),
        mut see: impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let mut text = Vec::new();
        self.pieces(path, begun, |piece| {
            text.extend_from_slice(piece);
            if text.len() > MAX_ANSWER {
                bail!("the controller says one endless line");
            }
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let line = str::from_utf8(line.trim_ascii()).context("reading a line")?;
                if !line.is_empty() {
                    see(line)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Likewise for each piece of the answer, as it comes.
    async fn pieces(
        &self,
        path: &str,
        begun: impl FnOnce(),
        mut see: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (answer, connection) =
            timeout(TIMEOUT, self.open(path)).await.map_err(|_| self.hangs())??;
        let status = answer.status();
        if status.is_success() {
            begun();
        }
        let mut body = answer.into_body();
        let mut refusal = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the controller has gone")?;
            let Ok(data) = frame.into_data() else { continue };
            if status.is_success() {
                see(&data)?;
            } else if refusal.len() + data.len() <= MAX_ANSWER {
                refusal.extend_from_slice(&data);
            }
        }
        connection.abort();
        if status.is_success() { Ok(()) } else { Err(self.refused(status, &refusal)) }
    }

    /// Returns when the controller knows, not when it has ended.
    pub async fn stop(&self, handover: bool) -> Result<()> {
        self.post::<Value>("/v1/stop", &Stop { handover }).await.map(drop)
    }

    /// Returns when the controller has begun.
    pub async fn drain(&self, resume: bool) -> Result<()> {
        self.post::<Value>("/v1/drain", &Drain { resume }).await.map(drop)
    }

    pub async fn set_backend(
        &self,
        service: &str,
        backend: &str,
        change: &BackendChange,
    ) -> Result<BackendChanged> {
        let path = format!("/v1/services/{}/backends/{}", encode(service), encode(backend));
        self.post(&path, change).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.call(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T> {
        let shown = self.socket.display();
        let (status, body) = timeout(TIMEOUT, self.exchange(method, path, body))
            .await
            .map_err(|_| self.hangs())??;
        if !status.is_success() {
            return Err(self.refused(status, &body));
        }
        serde_json::from_slice(&body).with_context(|| {
            format!("the answer at {shown} makes no sense: is it a controller of this version?")
        })
    }

    fn hangs(&self) -> Error {
        let shown = self.socket.display();
        anyhow!("the controller at {shown} does not answer: it hangs; see its log")
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Error {
        let shown = self.socket.display();
        match serde_json::from_slice::<Failure>(body) {
            Ok(failure) => anyhow!("{}", failure.error),
            Err(_) => anyhow!("the controller at {shown} answers {status}: is it Fairlead?"),
        }
    }

    /// The head of an answer, and what moves its bytes.
    async fn open(
        &self,
        path: &str,
    ) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>)> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The connection moves the bytes; how it ends is seen by the answer.
        let connection = tokio::spawn(connection);
        let request = request(Method::GET, path, Bytes::new())?;
        let answer = sender.send_request(request).await.context("asking the controller")?;
        Ok((answer, connection))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let shown = self.socket.display();
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = request(method, path, body)?;
        let exchange = async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| anyhow!(error))?.to_bytes();
            Ok::<_, Error>((status, body))
        };
        // The connection moves the bytes; how it ends is seen by the exchange.
        let (answer, _) = tokio::join!(exchange, connection);
        answer.with_context(|| format!("asking the controller at {shown}"))
    }

    fn unreachable(&self, error: io::Error) -> Error {
        let shown = self.socket.display();
        let kind = error.kind();
        if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            return Error::new(Unreachable(format!(
                "no controller answers at {shown}: is `fairlead run` running? another socket: --socket"
            )));
        }
        if kind == io::ErrorKind::PermissionDenied {
            return Error::new(Unreachable(format!(
                "not allowed to use {shown}: run as the controller's user, mostly root"
            )));
        }
        Error::new(error).context(format!("connecting to {shown}"))
    }
}

fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "fairlead")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .context("making a request")
}

/// A name as one segment of a path.
fn encode(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}
