use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::config::{Pace, Request, Tls, Verify};
use crate::health::testing::{Authority, Behaviour, OK, Server};
use crate::health::{Class, Verdict};

mod identity;
mod tls;

/// Enough for anything that answers at all, on a busy machine.
const PATIENT: Duration = Duration::from_secs(20);

/// For what never answers.
const HASTY: Duration = Duration::from_millis(300);

#[tokio::test]
async fn tcp_succeeds_when_something_listens() {
    let server = Server::plain(Behaviour::Mute).await;
    assert_eq!(run(server.endpoint, Probe::Tcp).await, Reason::Connected);
}

#[tokio::test]
async fn every_probe_of_a_closed_port_is_refused() {
    let closed = closed_port().await;
    for probe in [Probe::Tcp, http(), https("kubernetes", Verify::Skip)] {
        assert_eq!(run(closed, probe).await, Reason::Refused);
    }
}

#[tokio::test]
async fn an_unanswered_syn_is_a_timeout_while_connecting() {
    let (_listener, _held, endpoint) = full_backlog().await;
    assert_eq!(run_for(endpoint, Probe::Tcp, HASTY).await, Reason::Timeout(Stage::Connect));
}

/// Answer of the server → what the probe makes of it.
#[tokio::test]
async fn the_answer_decides() {
    use Behaviour::{Answer, AnswerAndClose};
    let cases = [
        (Answer(OK), Reason::Status(200)),
        (AnswerAndClose(OK), Reason::Status(200)),
        (AnswerAndClose(b"HTTP/1.0 200 OK\r\n\r\nok"), Reason::Status(200)),
        (AnswerAndClose(b"HTTP/1.0 500 No\r\nConnection: keep-alive\r\n\r\n"), Reason::Status(500)),
        (
            Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            Reason::Status(200),
        ),
        (
            AnswerAndClose(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok"),
            Reason::Closed,
        ),
        (Answer(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), Reason::Status(200)),
        (Answer(b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n"), Reason::Status(799)),
        (Answer(b"HTTP/1.1 99 Odd\r\nContent-Length: 0\r\n\r\n"), Reason::BadResponse),
        (Answer(b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n"), Reason::BadResponse),
        (Answer(b"HTTP/1.1 204 No Content\r\n\r\n"), Reason::Status(204)),
        (
            Answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            Reason::Status(200),
        ),
        (Answer(b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad"), Reason::Status(500)),
        (Answer(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"), Reason::Status(401)),
        (Answer(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), Reason::Status(403)),
        (
            Answer(b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            Reason::Status(101),
        ),
        (AnswerAndClose(b""), Reason::Closed),
        (AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-"), Reason::Closed),
        (AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), Reason::Closed),
        (
            Answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            Reason::BadResponse,
        ),
        (Answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), Reason::BadResponse),
        (Answer(b"HTTP/1.1 999999 OK\r\n\r\n"), Reason::BadResponse),
        (Answer(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), Reason::BadResponse),
        (Answer(b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"), Reason::BadResponse),
        (Answer(&[0; 4096]), Reason::BadResponse),
    ];
    let ca = Authority::new("kubernetes-ca");
    let certified = ca.certify("kubernetes", 4000);
    for (behaviour, expected) in cases {
        let plain = Server::plain(behaviour).await;
        let tls = Server::tls(Arc::clone(&certified), behaviour).await;
        let secure = https("kubernetes", Verify::Ca(ca.file()));
        let case = format!("{behaviour:?}");
        let case = &case[..case.len().min(120)];
        assert_eq!(run(plain.endpoint, http()).await, expected, "{case}");
        assert_eq!(run(tls.endpoint, secure).await, expected, "{case}");
    }
}

#[tokio::test]
async fn a_server_that_never_stops_is_cut_off() {
    use Behaviour::Endless;
    let cases = [
        (Endless(b"HTTP/1.1 200 OK\r\n", b"X-Padding: aaaaaaaaaaaaaaaa\r\n"), Reason::BadResponse),
        (Endless(b"HTTP/1.1 200 OK\r\nX-Huge: ", &[b'a'; 4096]), Reason::BadResponse),
        (Endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'a'; 4096]), Reason::Status(200)),
    ];
    for (behaviour, expected) in cases {
        let server = Server::plain(behaviour).await;
        assert_eq!(run(server.endpoint, http()).await, expected);
    }
}

#[tokio::test]
async fn a_stage_that_hangs_is_named() {
    let mute = Server::plain(Behaviour::Mute).await.endpoint;
    let head = Server::plain(Behaviour::Answer(b"HTTP/1.1 200 OK\r\n")).await.endpoint;
    let body = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok";
    let body = Server::plain(Behaviour::Answer(body)).await.endpoint;
    let informational = Behaviour::Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n");
    let informational = Server::plain(informational).await.endpoint;
    let tls = https("kubernetes", Verify::Skip);
    let cases = [
        (mute, http(), Stage::Response),
        (head, http(), Stage::Response),
        (body, http(), Stage::Response),
        (informational, http(), Stage::Response),
        (mute, tls, Stage::Handshake),
    ];
    for (endpoint, probe, stage) in cases {
        assert_eq!(run_for(endpoint, probe, HASTY).await, Reason::Timeout(stage));
    }
}

#[tokio::test]
async fn a_request_says_who_asks_and_closes() {
    let mut server = Server::plain(Behaviour::Answer(OK)).await;
    run(server.endpoint, http()).await;
    let seen = server.seen.recv().await.unwrap();
    let agent = concat!("user-agent: fairlead/", env!("CARGO_PKG_VERSION"));
    let expected = format!(
        "GET /readyz HTTP/1.1\r\nhost: {}\r\n{agent}\r\nconnection: close\r\n\r\n",
        server.endpoint
    );
    assert_eq!(seen.request, expected);
    assert_eq!(seen.end.unwrap(), 0);
}

#[tokio::test]
async fn a_probe_comes_from_the_source_it_is_given() {
    let mut server = Server::plain(Behaviour::Answer(OK)).await;
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let check = check(http(), PATIENT);
    let found = probe(server.endpoint, &check, Some(source), &TlsCache::default()).await;
    assert_eq!(found.reason, Reason::Status(200));
    assert_eq!(server.seen.recv().await.unwrap().peer.ip(), source);
}

#[tokio::test]
async fn a_source_of_another_host_is_not_the_backends_fault() {
    let source = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let check = check(Probe::Tcp, PATIENT);
    let found = probe(closed_port().await, &check, source, &TlsCache::default()).await;
    assert_eq!(found.verdict, Verdict::Failed(Class::Local), "{found:?}");
}

#[test]
fn errors_of_a_broken_path_are_unreachable() {
    let kind = io::ErrorKind::HostUnreachable;
    assert_eq!(classify(&kind.into()), Reason::Unreachable(kind));
    assert_eq!(classify(&io::ErrorKind::ConnectionReset.into()), Reason::Closed);
}

fn check(probe: Probe, timeout: Duration) -> HealthCheck {
    HealthCheck { probe, connect_timeout: timeout, timeout, pace: Pace::default() }
}

fn http() -> Probe {
    Probe::Http { request: Request::new("/readyz") }
}

fn https(server_name: &str, verify: Verify) -> Probe {
    Probe::Https { request: Request::new("/readyz"), tls: Tls::new(server_name, verify) }
}

async fn run(endpoint: SocketAddr, probe: Probe) -> Reason {
    run_for(endpoint, probe, PATIENT).await
}

async fn run_for(endpoint: SocketAddr, what: Probe, timeout: Duration) -> Reason {
    probe(endpoint, &check(what, timeout), None, &TlsCache::default()).await.reason
}

/// Probes until one finds what is wanted.
async fn eventually(is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENT;
    while !is_so().await {
        assert!(Instant::now() < deadline, "it does not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn closed_port() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_host_of_its_own_replaces_the_endpoint() {
    let mut server = Server::plain(Behaviour::Answer(OK)).await;
    let host = Some("api.example.com:6443".to_owned());
    let request = Request { host, ..Request::new("/readyz") };
    run(server.endpoint, Probe::Http { request }).await;
    let request = server.seen.recv().await.unwrap().request;
    assert!(request.contains("\r\nhost: api.example.com:6443\r\n"), "{request}");
}

/// A tcp probe ends with RST: the server's read fails, and nobody has to wait.
#[tokio::test]
async fn a_tcp_probe_leaves_no_connection_behind() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let found = run(listener.local_addr().unwrap(), Probe::Tcp).await;
    assert_eq!(found, Reason::Connected);
    let (mut stream, _) = listener.accept().await.unwrap();
    let end = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 8]).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn connecting_has_a_timeout_of_its_own() {
    let (_listener, _held, endpoint) = full_backlog().await;
    let check = HealthCheck { connect_timeout: HASTY, ..check(Probe::Tcp, PATIENT) };
    let found = probe(endpoint, &check, None, &TlsCache::default()).await;
    assert_eq!(found.reason, Reason::Timeout(Stage::Connect));
}

/// What a server says to each path, over connections of their own.
#[tokio::test]
async fn a_server_that_is_not_ready_is_asked_again() {
    let red: &[u8] = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    let request = Request {
        degraded_path: Some("/readyz?exclude=etcd".to_owned()),
        live_path: Some("/livez".to_owned()),
        ..Request::new("/readyz")
    };
    for (green, verdict) in [
        ("/readyz ", Verdict::Ready),
        ("/readyz?exclude=etcd ", Verdict::Degraded),
        ("/livez ", Verdict::NotReady),
        ("/other ", Verdict::Failed(Class::Status)),
    ] {
        let server = Server::plain(Behaviour::ByPath(green, OK, red)).await;
        let check = check(Probe::Http { request: request.clone() }, PATIENT);
        let found = probe(server.endpoint, &check, None, &TlsCache::default()).await;
        assert_eq!(found.verdict, verdict, "{green}: {found:?}");
    }
}

/// A listener that has no room for another connection: the kernel drops SYNs to it.
async fn full_backlog() -> (tokio::net::TcpListener, Vec<tokio::net::TcpStream>, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let endpoint = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(HASTY, tokio::net::TcpStream::connect(endpoint)).await
    {
        held.push(stream.unwrap());
    }
    (listener, held, endpoint)
}
