//! Clients that err, and worse ones: at every operation of the document.

use futures_util::future::join_all;

use super::document::operations;
use super::*;

/// As many as the server serves at once.
const MAX_CONNECTIONS: usize = 64;

#[tokio::test]
async fn what_is_not_a_route_is_refused_in_json() {
    let server = Server::start();
    for (method, path, expected) in [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/status/", 404),
        ("POST", "/v1/services/a/backends", 404),
        ("GET", "/v1/events?since=x", 400),
        ("POST", "/v1/services/%ff/backends/b", 400),
    ] {
        let (status, body) = server.request(method, path, "").await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(body["error"].is_string(), "{method} {path}: {body}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn wrong_methods_are_refused_everywhere() {
    let server = Server::start();
    let all = operations();
    for operation in &all {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            if all.iter().any(|it| it.method == method && it.path == operation.path) {
                continue;
            }
            let (status, body) = server.request(method, &operation.target(), "").await;
            assert_eq!(status, 405, "{method} {}", operation.path);
            assert!(body["error"].is_string(), "{method} {}: {body}", operation.path);
        }
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn wrong_bodies_are_refused_everywhere() {
    let server = Server::start();
    let deep = "[".repeat(60_000);
    for operation in operations().iter().filter(|operation| operation.has_body()) {
        for body in ["{", "null", "[]", "7", "\"\"", "\0\u{7f}", r#"{"hangover":true}"#, &deep] {
            if body == "null" && operation.path == "/v1/reload" {
                continue;
            }
            let (status, answer) =
                server.request(&operation.method, &operation.target(), body).await;
            assert_eq!(status, 400, "{} {body:.40}", operation.path);
            operation.check(status, &answer);
        }
    }
    let backend = "/v1/services/a/backends/b";
    let purge = "/v1/flows/purge";
    for (path, body) in [
        ("/v1/stop", r#"{"handover":"yes"}"#),
        (backend, ""),
        (backend, "{}"),
        (backend, r#"{"admin":"off"}"#),
        (backend, r#"{"weight":-1}"#),
        (backend, r#"{"weight":1001}"#),
        (backend, r#"{"weight":1e99}"#),
        (backend, r#"{"reset_weight":false}"#),
        (backend, r#"{"reset_weight":true,"weight":7}"#),
        (purge, ""),
        (purge, "{}"),
        (purge, r#"{"all":false}"#),
        (purge, r#"{"service":""}"#),
        (purge, r#"{"all":true,"limit":0}"#),
        (purge, r#"{"all":true,"limit":100001}"#),
        (purge, r#"{"all":true,"reset":true,"limit":20001}"#),
        (purge, r#"{"client":"10.0.0.0/99"}"#),
    ] {
        let (status, answer) = server.request("POST", path, body).await;
        assert_eq!(status, 400, "{path} {body}");
        assert!(answer["error"].is_string(), "{path} {body}: {answer}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn oversized_bodies_are_refused_everywhere() {
    let server = Server::start();
    for operation in operations() {
        let (method, target) = (&operation.method, operation.target());
        let large = " ".repeat(MAX_BODY + 1);
        let (status, answer) = server.request(method, &target, &large).await;
        assert_eq!(status, 413, "{target}");
        operation.check(status, &answer);
        let head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\n");
        let mut chunked = (head + "transfer-encoding: chunked\r\n\r\n20000\r\n").into_bytes();
        chunked.resize(chunked.len() + 0x20000, b' ');
        assert_eq!(parse(&exchange(&server.path, &chunked).await).0, 413, "{target}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn what_is_not_http_harms_nobody() {
    let server = Server::start();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1_000_000));
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        long.as_bytes(),
    ] {
        exchange(&server.path, bytes).await;
    }
    assert!(server.seen().is_empty());
    server.client().status().await.unwrap();
}

/// Half a head, and half a body: both are cut after five seconds, and others are served meanwhile.
#[tokio::test]
async fn slow_clients_are_cut_everywhere() {
    let server = Server::start();
    let all = operations();
    let slow = all.iter().map(|operation| {
        let head = format!("{} {} HTTP/1.1\r\nhost: x\r\n", operation.method, operation.target());
        let half = head[..head.len() / 2].to_owned();
        let path = server.path.clone();
        async move {
            let body = head + "content-length: 9\r\n\r\n{";
            let (_, answer) =
                tokio::join!(exchange(&path, half.as_bytes()), exchange(&path, body.as_bytes()));
            parse(&answer).0
        }
    });
    let other = async {
        timeout(Duration::from_secs(2), server.client().status()).await.unwrap().unwrap();
    };
    let (statuses, ()) = tokio::join!(join_all(slow), other);
    assert!(statuses.iter().all(|status| *status == 408), "{statuses:?}");
    assert!(server.seen().is_empty());
}

/// Stopping ends the server; of those clients only the first can be sure of an answer.
#[tokio::test]
async fn a_thousand_clients_at_once_are_served_everywhere() {
    for operation in operations() {
        let server = Server::eventful();
        let request = text(&operation.method, &operation.target(), &operation.body());
        if operation.path == "/v1/stop" {
            assert_eq!(parse(&exchange(&server.path, request.as_bytes()).await).0, 202);
            continue;
        }
        let exchanges = (0..1000).map(|_| exchange(&server.path, request.as_bytes()));
        let answers = join_all(exchanges).await;
        let success = format!("HTTP/1.1 {} ", operation.success());
        let served = answers.iter().filter(|answer| answer.starts_with(success.as_bytes())).count();
        let (status, body) = parse(&answers[999]);
        assert_eq!(served, 1000, "{}: {body}", operation.path);
        operation.check(status, &body);
    }
}

/// As many as there are places: they are cut in the end, and who came after them is served.
#[tokio::test(start_paused = true)]
async fn clients_that_never_read_are_cut_and_only_so_many_are_served_at_once() {
    let server = Server::start();
    // Some times what a socket buffers.
    server.flows.grow(4000);
    let mut stubborn = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        stream.write_all(b"GET /v1/flows?limit=20000 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stubborn.push(stream);
    }
    let start = tokio::time::Instant::now();
    server.request("GET", "/v1/version", "").await;
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(25) && waited < Duration::from_secs(60), "{waited:?}");
    let mut answer = Vec::new();
    let read = stubborn[0].read_to_end(&mut answer).await;
    assert!(read.is_err() || answer.len() < 1_500_000, "{}", answer.len());
}

/// Connected, and not a word.
#[tokio::test(start_paused = true)]
async fn silent_clients_are_cut() {
    let server = Server::start();
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(UnixStream::connect(&server.path).await.unwrap());
    }
    let start = tokio::time::Instant::now();
    assert_eq!(server.request("GET", "/v1/version", "").await.0, 200);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(4) && waited < Duration::from_secs(10), "{waited:?}");
}
