//! The API by TCP: who gets what, at every operation of the document.

use std::net::SocketAddr;
use std::ops::RangeBounds;

use futures_util::future::join_all;
use tokio::net::TcpStream;

use super::super::listener::{self, Handle};
use super::document::{Operation, operations};
use super::*;
use crate::config;

mod limits;
mod tls;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What everybody may read; `trusted` takes the token, and the rest is refused.
const READABLE: [&str; 6] =
    ["/v1/version", "/v1/status", "/v1/events", "/v1/live", "/metrics", "/v1/openapi.json"];
const LOCAL: [&str; 6] =
    ["/v1/reload", "/v1/stop", "/v1/drain", "/v1/flows/purge", "/v1/packets", "/v1/capture"];

/// A server with a socket, and its listener.
struct Remote {
    server: Server,
    handle: Handle,
    address: SocketAddr,
    directory: TempDir,
}

impl Remote {
    async fn start() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut config::Admin)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, TOKEN).unwrap();
        let mut admin = config::Admin {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            token_file: Some(token_file),
            allowed_hosts: vec!["lb1.example".to_owned()],
            ..config::Admin::default()
        };
        change(&mut admin);
        let server = Server::eventful();
        let handle = listener::start(&admin, &server.api).unwrap().unwrap();
        let address = loop {
            match handle.bound() {
                Some(address) => break address,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        Self { server, handle, address, directory }
    }

    /// A request with these headers besides the right Host.
    async fn ask(&self, operation: &Operation, headers: &str) -> (u16, Value) {
        let host = self.address;
        self.send(operation, &format!("host: {host}\r\n{headers}")).await
    }

    /// The same with none but these.
    async fn send(&self, operation: &Operation, headers: &str) -> (u16, Value) {
        let (method, target, body) = (&operation.method, operation.target(), operation.body());
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\n{headers}connection: close\r\n");
        let request = format!("{head}content-length: {length}\r\n\r\n{body}");
        parse(&self.exchange(request.as_bytes()).await)
    }

    async fn exchange(&self, request: &[u8]) -> Vec<u8> {
        exchange_by_tcp(self.address, request).await
    }

    fn refused(&self, why: &str) -> u64 {
        self.handle.view().refused[why]
    }

    /// What is counted when a connection has ended, which its client may see first.
    async fn wait_refused(&self, why: &str, counts: impl RangeBounds<u64>) {
        let counted = async {
            while !counts.contains(&self.refused(why)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let counted = timeout(Duration::from_secs(10), counted).await;
        assert!(counted.is_ok(), "{why}: {:?}", self.handle.view());
    }
}

/// Sends bytes and reads until the server closes.
async fn exchange_by_tcp(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(120), stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

fn with_token() -> String {
    format!("authorization: Bearer {TOKEN}\r\n")
}

fn is_readable(operation: &Operation) -> bool {
    READABLE.contains(&operation.path.as_str())
}

fn is_local(operation: &Operation) -> bool {
    LOCAL.contains(&operation.path.as_str())
}

#[tokio::test]
async fn without_a_token_there_is_only_reading() {
    let remote = Remote::start().await;
    for operation in operations() {
        let (status, body) = remote.ask(&operation, "").await;
        let expected = match () {
            () if is_local(&operation) => 403,
            () if is_readable(&operation) => 200,
            () => 401,
        };
        assert_eq!(status, expected, "{} {}: {body}", operation.method, operation.path);
        if expected == 200 {
            operation.check(status, &body);
        }
    }
    assert!(remote.server.seen().is_empty(), "{:?}", remote.server.seen());
    assert_eq!(remote.refused("local"), LOCAL.len() as u64);
    assert!(remote.refused("token") > 4);
}

#[tokio::test]
async fn with_a_wrong_token_there_is_no_more() {
    let remote = Remote::start().await;
    let short = &TOKEN[..TOKEN.len() - 1];
    let wrong = [
        "authorization: Bearer \r\n".to_owned(),
        format!("authorization: Bearer {short}\r\n"),
        format!("authorization: Bearer {TOKEN}{TOKEN}\r\n"),
        format!("authorization: Basic {TOKEN}\r\n"),
        format!("{}{}", with_token(), with_token()),
        format!("cookie: token={TOKEN}\r\n"),
    ];
    for operation in operations().iter().filter(|it| !is_readable(it) && !is_local(it)) {
        for header in &wrong {
            let (status, body) = remote.ask(operation, header).await;
            assert_eq!(status, 401, "{} {header}: {body}", operation.path);
            assert!(body["error"].is_string(), "{body}");
        }
    }
    assert!(remote.server.seen().is_empty());
}

#[tokio::test]
async fn with_the_token_backends_are_changed_and_the_node_is_not() {
    let remote = Remote::start().await;
    for operation in operations() {
        let (status, body) = remote.ask(&operation, &with_token()).await;
        let expected = if is_local(&operation) { 403 } else { operation.success() };
        assert_eq!(status, expected, "{} {}: {body}", operation.method, operation.path);
        if expected < 300 {
            operation.check(status, &body);
        }
    }
    let seen = remote.server.seen();
    let changes: Vec<_> = seen.iter().filter(|it| it.starts_with("set ")).collect();
    assert_eq!(changes, ["set api | cp1 | Some(Draining) | Some(50) | 127.0.0.1 with the token"]);
    assert!(!seen.iter().any(|it| it.starts_with("stop") || it.starts_with("drain")), "{seen:?}");
}

#[tokio::test]
async fn without_a_token_file_nobody_is_let_in() {
    let remote = Remote::with(|admin| admin.token_file = None).await;
    for operation in operations().iter().filter(|operation| !is_readable(operation)) {
        for header in [String::new(), with_token()] {
            let (status, body) = remote.ask(operation, &header).await;
            assert_eq!(status, 403, "{}: {body}", operation.path);
        }
    }
    assert!(remote.server.seen().is_empty());
}

#[tokio::test]
async fn a_token_that_is_replaced_counts_at_once() {
    let remote = Remote::start().await;
    let access = operations().into_iter().find(|it| it.path == "/v1/access").unwrap();
    assert_eq!(remote.ask(&access, &with_token()).await.0, 200);
    let file = remote.directory.path().join("token");
    std::fs::write(&file, TOKEN.replace('0', "f")).unwrap();
    assert_eq!(remote.ask(&access, &with_token()).await.0, 401);
    let header = with_token().replace('0', "f");
    assert_eq!(remote.ask(&access, &header).await.0, 200);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(remote.ask(&access, &header).await.0, 401);
}

/// Whatever else is right about them, the token included.
#[tokio::test]
async fn other_hosts_and_other_sites_are_refused_everywhere() {
    let remote = Remote::start().await;
    let (host, token) = (remote.address, with_token());
    let mut count = 0;
    for operation in operations() {
        count += 1;
        for (headers, expected) in [
            (String::new(), 421),
            ("host: evil.example\r\n".to_owned(), 421),
            (format!("host: {host}\r\nhost: {host}\r\n"), 421),
            (format!("host: {host}\r\norigin: http://evil.example\r\n"), 403),
            (format!("host: {host}\r\norigin: null\r\n"), 403),
            (format!("host: {host}\r\nsec-fetch-site: cross-site\r\n"), 403),
            (format!("host: {host}\r\nsec-fetch-site: same-site\r\n"), 403),
        ] {
            let (status, body) = remote.send(&operation, &(headers.clone() + &token)).await;
            assert_eq!(status, expected, "{} {headers}: {body}", operation.path);
        }
    }
    assert!(remote.server.seen().is_empty());
    assert_eq!((remote.refused("host"), remote.refused("origin")), (3 * count, 4 * count));
    let version = operations().into_iter().find(|it| it.path == "/v1/version").unwrap();
    for headers in ["host: LB1.example:1\r\n", "host: localhost\r\norigin: http://localhost\r\n"] {
        assert_eq!(remote.send(&version, headers).await.0, 200, "{headers}");
    }
}

#[tokio::test]
async fn every_answer_forbids_what_it_has_no_use_for() {
    let remote = Remote::start().await;
    for (path, host) in
        [("/v1/status", "localhost"), ("/nothing", "localhost"), ("/v1/stop", "evil.example")]
    {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = remote.exchange(request.as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(answer.contains(header), "{header}\n{answer}");
        }
        assert!(!answer.contains("access-control"), "{answer}");
        assert!(!answer.contains("unsafe"), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let remote = Remote::start().await;
    let one = format!("GET /v1/version HTTP/1.1\r\nhost: {}\r\n\r\n", remote.address);
    let last = one.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    let answers = remote.exchange(format!("{one}{one}{last}").as_bytes()).await;
    assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 200 ").count(), 3);
    assert_eq!(remote.handle.view().requests, 3);
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_and_tried_again() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let server = Server::start();
    let admin = config::Admin { listen: Some(address), ..config::Admin::default() };
    let handle = listener::start(&admin, &server.api).unwrap().unwrap();
    let until = async |is_bound: bool| {
        while handle.bound().is_some() != is_bound || handle.view().error.is_some() == is_bound {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), until(false)).await.unwrap();
    assert!(handle.view().error.unwrap().contains("in use"));
    drop(taken);
    timeout(Duration::from_secs(20), until(true)).await.unwrap();
    handle.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

/// The page and all of its files are there for everybody, by this name alone.
#[tokio::test]
async fn the_page_is_served_and_refused_to_other_hosts() {
    let remote = Remote::start().await;
    for (path, kind, content) in page::FILES {
        for (host, expected) in [("localhost", 200), ("evil.example", 421)] {
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            let answer = String::from_utf8(remote.exchange(request.as_bytes()).await).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{path}: {answer}");
            let has_content = answer.ends_with(content);
            assert_eq!((answer.contains(kind), has_content), (expected == 200, expected == 200));
        }
    }
    let socket = remote.server.request("GET", "/", "").await;
    assert_eq!(socket.0, 404, "it is for browsers");
}
