//! Clients that err, and worse ones.

use super::*;

#[tokio::test]
async fn what_is_not_a_route_is_refused_in_json() {
    let server = Server::start();
    for (method, path, expected) in [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/status/", 404),
        ("POST", "/v1/services/a/backends", 404),
        ("POST", "/v1/status", 405),
        ("DELETE", "/v1/version", 405),
        ("GET", "/v1/reload", 405),
        ("POST", "/v1/events", 405),
        ("GET", "/v1/events?since=x", 400),
        ("PUT", "/v1/stop", 405),
        ("GET", "/v1/services/a/backends/b", 405),
        ("POST", "/v1/services/%ff/backends/b", 400),
    ] {
        let (status, body) = server.request(method, path, "").await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(body["error"].is_string(), "{method} {path}: {body}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn wrong_bodies_are_refused() {
    let server = Server::start();
    let backend = "/v1/services/a/backends/b";
    let deep = "[".repeat(60_000);
    for (path, body) in [
        ("/v1/stop", "{"),
        ("/v1/stop", r#"{"handover":"yes"}"#),
        ("/v1/stop", r#"{"hangover":true}"#),
        (backend, ""),
        (backend, "{}"),
        (backend, "null"),
        (backend, r#"{"admin":"off"}"#),
        (backend, r#"{"weight":-1}"#),
        (backend, r#"{"reset_weight":false}"#),
        (backend, r#"{"reset_weight":true,"weight":7}"#),
        ("/v1/reload", r#"{"dry":true}"#),
        ("/v1/reload", "["),
        (backend, r#"{"weight":1001}"#),
        (backend, r#"{"weight":1e99}"#),
        (backend, "\0\u{7f}"),
        (backend, &deep),
    ] {
        let (status, answer) = server.request("POST", path, body).await;
        assert_eq!(status, 400, "{path} {body:.40}");
        assert!(answer["error"].is_string(), "{path} {body:.40}: {answer}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn oversized_bodies_are_refused() {
    let server = Server::start();
    let (status, _) = server.request("POST", "/v1/stop", &" ".repeat(MAX_BODY + 1)).await;
    assert_eq!(status, 413);
    let mut chunked =
        b"POST /v1/stop HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n20000\r\n"
            .to_vec();
    chunked.resize(chunked.len() + 0x20000, b' ');
    assert_eq!(parse(&exchange(&server.path, &chunked).await).0, 413);
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
async fn slow_clients_are_cut() {
    let server = Server::start();
    let head = exchange(&server.path, b"GET /v1/sta");
    let body = exchange(&server.path, b"POST /v1/stop HTTP/1.1\r\ncontent-length: 9\r\n\r\n{");
    let other = async {
        timeout(Duration::from_secs(2), server.client().status()).await.unwrap().unwrap();
    };
    let (_, body, ()) = tokio::join!(head, body, other);
    assert_eq!(parse(&body).0, 408);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn two_hundred_clients_at_once_are_all_served() {
    let server = Server::start();
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let client = server.client();
            tokio::spawn(async move { client.status().await.unwrap()["pid"].clone() })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), 4711);
    }
}
