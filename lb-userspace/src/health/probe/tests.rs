use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::*;
use crate::config::{Pace, Verify};
use crate::health::testing::{Authority, Behaviour, OK, Server, self_signed};
use crate::health::{Class, Verdict};

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
    for (behaviour, expected) in cases {
        let server = Server::plain(behaviour).await;
        let case = format!("{behaviour:?}");
        assert_eq!(
            run(server.endpoint, http()).await,
            expected,
            "{}",
            &case[..case.len().min(120)]
        );
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

/// Certificate, name asked for → what the probe makes of it.
#[tokio::test]
async fn certificates_are_verified() {
    let ca = Authority::new("kubernetes-ca");
    let namesake = Authority::new("kubernetes-ca");
    let stranger = Authority::new("other-ca");
    let certificate = |what: &str| Reason::Certificate(what.to_owned());
    let unknown = certificate("signed by an unknown authority");
    let cases = [
        (ca.certify("kubernetes", 4000), "kubernetes", Reason::Status(200)),
        (ca.certify("127.0.0.1", 4000), "127.0.0.1", Reason::Status(200)),
        (ca.certify("kubernetes", 2020), "kubernetes", certificate("expired")),
        (stranger.certify("kubernetes", 4000), "kubernetes", unknown.clone()),
        (namesake.certify("kubernetes", 4000), "kubernetes", unknown.clone()),
        (self_signed("kubernetes"), "kubernetes", unknown),
        (
            ca.certify("other", 4000),
            "kubernetes",
            certificate("not valid for kubernetes, but for DnsName(\"other\")"),
        ),
    ];
    for (config, name, expected) in cases {
        let server = Server::tls(config, Behaviour::Answer(OK)).await;
        let probe = https(name, Verify::Ca(ca.file()));
        assert_eq!(run(server.endpoint, probe).await, expected);
    }
}

#[tokio::test]
async fn insecure_accepts_any_certificate() {
    let expired = Authority::new("kubernetes-ca").certify("other", 2020);
    for config in [expired, self_signed("other")] {
        let server = Server::tls(config, Behaviour::Answer(OK)).await;
        let probe = https("kubernetes", Verify::Skip);
        assert_eq!(run(server.endpoint, probe).await, Reason::Status(200));
    }
}

#[tokio::test]
async fn tls_ends_with_close_notify_and_names_the_server() {
    let ca = Authority::new("kubernetes-ca");
    for behaviour in [Behaviour::Answer(OK), Behaviour::AnswerAndClose(OK)] {
        let mut server = Server::tls(ca.certify("kubernetes", 4000), behaviour).await;
        run(server.endpoint, https("kubernetes", Verify::Ca(ca.file()))).await;
        let seen = server.seen.recv().await.unwrap();
        assert!(seen.request.contains("\r\nhost: kubernetes\r\n"), "{}", seen.request);
        assert_eq!(seen.end.unwrap(), 0, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_a_tls_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.0 400 No\r\n\r\n").await.unwrap();
        stream
    };
    let (_stream, reason) = tokio::join!(serve, run(endpoint, https("kubernetes", Verify::Skip)));
    assert!(matches!(reason, Reason::Tls(_)), "{reason}");
}

#[tokio::test]
async fn a_close_in_the_handshake_is_a_close() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap();
    let serve = async { drop(listener.accept().await.unwrap()) };
    let ((), reason) = tokio::join!(serve, run(endpoint, https("kubernetes", Verify::Skip)));
    assert_eq!(reason, Reason::Closed);
}

/// The CA file gains the new CA, then vanishes.
#[tokio::test]
async fn a_changed_ca_file_applies_and_a_missing_one_does_not() {
    let old = Authority::new("kubernetes-ca");
    let new = Authority::new("kubernetes-ca");
    let server = Server::tls(new.certify("kubernetes", 4000), Behaviour::Answer(OK)).await;
    let check = check(https("kubernetes", Verify::Ca(old.file())), PATIENT);
    let tls = TlsCache::default();

    let unknown = Reason::Certificate("signed by an unknown authority".to_owned());
    assert_eq!(probe(server.endpoint, &check, None, &tls).await.reason, unknown);
    old.write(&format!("{}{}", old.pem, new.pem));
    assert_eq!(probe(server.endpoint, &check, None, &tls).await.reason, Reason::Status(200));
    std::fs::remove_file(old.file()).unwrap();
    assert_eq!(probe(server.endpoint, &check, None, &tls).await.reason, Reason::Status(200));
}

#[tokio::test]
async fn an_unusable_ca_file_is_not_the_backends_fault() {
    let ca = Authority::new("kubernetes-ca");
    let server = Server::tls(ca.certify("kubernetes", 4000), Behaviour::Answer(OK)).await;
    ca.write("nothing of the kind");
    for file in [ca.file(), PathBuf::from("/nonexistent"), PathBuf::from("/")] {
        let reason = run(server.endpoint, https("kubernetes", Verify::Ca(file))).await;
        assert!(matches!(reason, Reason::Local(_)), "{reason}");
    }
}

#[tokio::test]
async fn an_impossible_request_is_not_the_backends_fault() {
    let endpoint = closed_port().await;
    let path = Probe::Http { path: "/ready z\r\n".to_owned() };
    for probe in [path, https("not a name", Verify::Skip)] {
        let reason = run(endpoint, probe).await;
        assert!(matches!(reason, Reason::Local(_)), "{reason}");
    }
}

#[test]
fn errors_of_a_broken_path_are_unreachable() {
    let kind = io::ErrorKind::HostUnreachable;
    assert_eq!(classify(&kind.into()), Reason::Unreachable(kind));
    assert_eq!(classify(&io::ErrorKind::ConnectionReset.into()), Reason::Closed);
}

fn check(probe: Probe, timeout: Duration) -> HealthCheck {
    HealthCheck { probe, timeout, pace: Pace::default() }
}

fn http() -> Probe {
    Probe::Http { path: "/readyz".to_owned() }
}

fn https(server_name: &str, verify: Verify) -> Probe {
    Probe::Https { path: "/readyz".to_owned(), server_name: server_name.to_owned(), verify }
}

async fn run(endpoint: SocketAddr, probe: Probe) -> Reason {
    run_for(endpoint, probe, PATIENT).await
}

async fn run_for(endpoint: SocketAddr, what: Probe, timeout: Duration) -> Reason {
    probe(endpoint, &check(what, timeout), None, &TlsCache::default()).await.reason
}

async fn closed_port() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
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
