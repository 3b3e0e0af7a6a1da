//! The API over a real socket in a directory of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::api::Api;
use super::api::MAX_BODY;
use super::client::Client;
use super::model::{Admin, BackendChange, Event, What};
use super::*;
use crate::events::Events;

mod document;
mod events;
mod files;
mod flows;
mod hostile;
mod listener;
mod live;
mod openapi;
mod packets;

#[tokio::test]
async fn the_client_gets_status_and_version() {
    let server = Server::start();
    let status: Status = serde_json::from_value(server.client().status().await.unwrap()).unwrap();
    assert_eq!(status, fixture());
    let version = server.client().version().await.unwrap();
    assert_eq!((version.version.as_str(), version.pid), ("0.1.0", std::process::id()));
}

#[tokio::test]
async fn a_newer_status_is_seen_at_once() {
    let server = Server::start();
    server.status.send_replace(Arc::new(Status { pid: 7, ..Status::default() }));
    assert_eq!(server.client().status().await.unwrap()["pid"], 7);
}

#[tokio::test]
async fn reload_says_what_changed_or_what_is_wrong() {
    let server = Server::start();
    let reloaded = server.client().reload(false).await.unwrap();
    assert_eq!((reloaded.changes, reloaded.applied), (vec!["backend cp3 added".to_owned()], true));
    assert!(!server.client().reload(true).await.unwrap().applied);
    server.refuse("fairlead.yaml:3:1: no such key");
    let error = server.client().reload(false).await.unwrap_err();
    assert_eq!(error.to_string(), "fairlead.yaml:3:1: no such key");
    let (status, body) = server.request("POST", "/v1/reload", "").await;
    assert_eq!((status, body), (422, json!({ "error": "fairlead.yaml:3:1: no such key" })));
}

#[tokio::test]
async fn a_backend_can_be_drained_and_weighed() {
    let server = Server::start();
    let change =
        BackendChange { admin: Some(Admin::Draining), weight: Some(7), reset_weight: false };
    let changed = server.client().set_backend("api", "cp 1/é", &change).await.unwrap();
    assert_eq!((changed.change, changed.not_kept.as_deref()), (change, Some("a full disk")));
    let uid = nix::unistd::geteuid();
    let login = std::fs::read_to_string("/proc/self/loginuid").ok();
    let login = login.and_then(|text| text.trim().parse().ok()).filter(|uid| *uid != u32::MAX);
    let by = Peer::local(uid.as_raw(), login);
    let seen = format!("set api | cp 1/é | Some(Draining) | Some(7) | {by}");
    assert_eq!(server.seen(), [seen]);
    server.refuse("no such backend");
    let error = server.client().set_backend("api", "cp9", &change).await.unwrap_err();
    assert_eq!(error.to_string(), "no such backend");
}

#[tokio::test]
async fn stop_is_answered_before_the_end() {
    let mut server = Server::start();
    let (status, body) = server.request("POST", "/v1/stop", r#"{"handover":true}"#).await;
    assert_eq!((status, body), (202, json!({ "handover": true })));
    timeout(Duration::from_secs(5), &mut server.task).await.unwrap().unwrap().unwrap();
    assert!(!server.path.exists());
    assert_eq!(server.seen(), ["stop true"]);
}

#[tokio::test]
async fn a_drain_and_its_end_arrive_and_a_refusal_is_told() {
    let server = Server::start();
    let client = server.client();
    client.drain(false).await.unwrap();
    client.drain(true).await.unwrap();
    assert_eq!(server.seen(), ["drain false", "drain true"]);
    server.refuse("no other node");
    assert_eq!(client.drain(false).await.unwrap_err().to_string(), "no other node");
}

#[tokio::test]
async fn stop_without_a_body_is_no_handover() {
    let server = Server::start();
    assert_eq!(server.request("POST", "/v1/stop", "").await.0, 202);
    assert_eq!(server.seen(), ["stop false"]);
}

/// A controller that has ended its side of the channel.
#[tokio::test]
async fn commands_fail_when_nobody_takes_them() {
    let server = Server::start_with(|receiver, _| drop(receiver));
    assert_eq!(server.request("POST", "/v1/reload", "").await.0, 503);
    assert_eq!(server.request("GET", "/v1/status", "").await.0, 200);
}

type Log = Arc<std::sync::Mutex<Vec<String>>>;

pub(super) struct Server {
    path: PathBuf,
    status: watch::Sender<Arc<Status>>,
    events: Events,
    log: Log,
    refusal: Arc<std::sync::Mutex<Option<String>>>,
    flows: flows::Fake,
    task: JoinHandle<anyhow::Result<()>>,
    /// What the server serves.
    api: Api,
    _directory: TempDir,
}

fn fixture() -> Status {
    serde_json::from_str(include_str!("model/status.json")).unwrap()
}

impl Server {
    fn start() -> Self {
        Self::start_with(|receiver, control| {
            tokio::spawn(control.run(receiver));
        })
    }

    /// One with an event to tell of.
    fn eventful() -> Self {
        let server = Self::start();
        server.events.push(What::Vip { address: "10.0.0.100".to_owned(), gained: true });
        server
    }

    fn start_with(control: impl FnOnce(mpsc::Receiver<Command>, Control)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/admin.sock");
        let (status, reader) = watch::channel(Arc::new(fixture()));
        let (commands, receiver) = mpsc::channel(8);
        let (log, refusal) = (Log::default(), Arc::default());
        let flows = flows::Fake::some();
        let (stop, stopped) = oneshot::channel::<()>();
        let fake = Control {
            log: Arc::clone(&log),
            refusal: Arc::clone(&refusal),
            flows: flows.clone(),
            stop,
        };
        control(receiver, fake);
        let shutdown = async {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let listener = bind(&path).unwrap();
        let events = Events::default();
        let api = Api::new(reader, commands, events.clone());
        let task = tokio::spawn(serve(listener, api.clone(), shutdown));
        Self { path, status, events, log, refusal, flows, task, api, _directory: directory }
    }

    fn client(&self) -> Client {
        Client::new(&self.path)
    }

    fn refuse(&self, reason: &str) {
        *self.refusal.lock().unwrap() = Some(reason.to_owned());
    }

    fn seen(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    async fn request(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = text(method, path, body);
        parse(&exchange(&self.path, request.as_bytes()).await)
    }
}

/// Answers as the daemon would, and remembers what it was asked.
pub(super) struct Control {
    log: Log,
    refusal: Arc<std::sync::Mutex<Option<String>>>,
    flows: flows::Fake,
    stop: oneshot::Sender<()>,
}

impl Control {
    async fn run(self, mut commands: mpsc::Receiver<Command>) {
        let refusal = || self.refusal.lock().unwrap().clone();
        let say = |what: String| self.log.lock().unwrap().push(what);
        while let Some(command) = commands.recv().await {
            match command {
                Command::Query(query) => self.flows.answer(query, refusal(), say),
                Command::Reload { wish, reply, .. } => {
                    let changes = vec!["backend cp3 added".to_owned()];
                    let applied = !wish.dry_run;
                    let reloaded = Reloaded { changes, applied, ..Reloaded::default() };
                    let _ = reply.send(refusal().map_or(Ok(reloaded), Err));
                }
                Command::Drain { resume, reply } => {
                    say(format!("drain {resume}"));
                    let _ = reply.send(refusal().map_or(Ok(()), Err));
                }
                Command::Stop { handover } => {
                    say(format!("stop {handover}"));
                    break;
                }
                Command::SetBackend { service, backend, change, by, reply } => {
                    let BackendChange { admin, weight, .. } = change;
                    let by = by.unwrap();
                    say(format!("set {service} | {backend} | {admin:?} | {weight:?} | {by}"));
                    let why = Some("a full disk".to_owned());
                    let _ = reply.send(refusal().map_or(Ok(why), Err));
                }
                Command::SourceFor { reply, .. } => drop(reply),
            }
        }
        let _ = self.stop.send(());
    }
}

/// A request as it is sent.
fn text(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Sends bytes and reads until the server closes.
async fn exchange(path: &Path, request: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(120), stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

fn parse(answer: &[u8]) -> (u16, Value) {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if head.contains("content-type: application/vnd.tcpdump.pcap") {
        // Bytes, which a test of theirs reads.
        return (status, Value::String(String::new()));
    }
    let body = if head.contains("transfer-encoding: chunked") { joined(body) } else { body.into() };
    let texts = ["application/openmetrics-text", "text/event-stream"];
    if texts.iter().any(|kind| head.contains(&format!("content-type: {kind}"))) {
        return (status, Value::String(body));
    }
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

/// The contents of chunks (RFC 9112 section 7.1).
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(&rest[..length]);
        chunks = rest[length..].trim_start_matches("\r\n");
    }
    body
}
