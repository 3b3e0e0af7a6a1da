//! The client of the API, for the commands. I/O.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

mod queries;

use super::model::{BackendChange, Failure, Reloaded, Stop, Version};

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

    /// What has changed.
    pub async fn reload(&self) -> Result<Vec<String>> {
        Ok(self.post::<Reloaded>("/v1/reload", &()).await?.changes)
    }

    /// Returns when the controller knows, not when it has ended.
    pub async fn stop(&self, handover: bool) -> Result<()> {
        self.post::<Value>("/v1/stop", &Stop { handover }).await.map(drop)
    }

    pub async fn set_backend(
        &self,
        service: &str,
        backend: &str,
        change: &BackendChange,
    ) -> Result<()> {
        let path = format!("/v1/services/{}/backends/{}", encode(service), encode(backend));
        self.post::<Value>(&path, change).await.map(drop)
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
        let (status, body) =
            timeout(TIMEOUT, self.exchange(method, path, body)).await.map_err(|_| {
                anyhow!("the controller at {shown} does not answer: it hangs; see its log")
            })??;
        if !status.is_success() {
            match serde_json::from_slice::<Failure>(&body) {
                Ok(failure) => bail!("{}", failure.error),
                Err(_) => bail!("the controller at {shown} answers {status}: is it Fairlead?"),
            }
        }
        serde_json::from_slice(&body).with_context(|| {
            format!("the answer at {shown} makes no sense: is it a controller of this version?")
        })
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
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "fairlead")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
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
