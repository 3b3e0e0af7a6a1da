//! Certificates of servers, and what servers do to TLS.

use std::path::PathBuf;

use super::super::session::RESUME_FOR;
use super::*;
use crate::health::testing::self_signed;
use crate::watched::LOOK_INTERVAL;

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
    let is_used =
        async || probe(server.endpoint, &check, None, &tls).await.reason == Reason::Status(200);
    eventually(is_used).await;
    std::fs::remove_file(old.file()).unwrap();
    for _ in 0..3 {
        tokio::time::sleep(LOOK_INTERVAL).await;
        assert!(is_used().await);
    }
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
    let path = Probe::Http { request: Request::new("/ready z\r\n") };
    for probe in [path, https("not a name", Verify::Skip)] {
        let reason = run(endpoint, probe).await;
        assert!(matches!(reason, Reason::Local(_)), "{reason}");
    }
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_a_timeout() {
    let ca = Authority::new("kubernetes-ca");
    let slow = Behaviour::SlowHandshake(HASTY * 3, OK);
    let server = Server::tls(ca.certify("kubernetes", 4000), slow).await;
    let probe = https("kubernetes", Verify::Ca(ca.file()));
    assert_eq!(
        run_for(server.endpoint, probe.clone(), HASTY).await,
        Reason::Timeout(Stage::Handshake)
    );
    assert_eq!(run(server.endpoint, probe).await, Reason::Status(200));
}

#[tokio::test]
async fn a_server_of_either_version_will_do() {
    let ca = Authority::new("kubernetes-ca");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ca.server("kubernetes", 4000).version(version).build();
        let server = Server::tls(config, Behaviour::Answer(OK)).await;
        let probe = https("kubernetes", Verify::Ca(ca.file()));
        assert_eq!(run(server.endpoint, probe).await, Reason::Status(200), "{version:?}");
    }
}

/// The clock is paused between the probes: full, resumed, and full again once the certificate was last
/// seen too long ago.
#[tokio::test]
async fn sessions_are_resumed_for_a_short_while() {
    let ca = Authority::new("kubernetes-ca");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ca.server("kubernetes", 4000).version(version).build();
        let mut server = Server::tls(config, Behaviour::Answer(OK)).await;
        let check = check(https("kubernetes", Verify::Ca(ca.file())), PATIENT);
        let tls = TlsCache::default();
        let mut resumed = Vec::new();
        for pause in [false, false, false, true] {
            if pause {
                tokio::time::pause();
                tokio::time::advance(RESUME_FOR).await;
                tokio::time::resume();
            }
            let found = probe(server.endpoint, &check, None, &tls).await;
            assert_eq!(found.reason, Reason::Status(200));
            resumed.push(server.seen.recv().await.unwrap().resumed);
        }
        assert_eq!(resumed, [false, true, true, false], "{version:?}");
    }
}

/// A name's tickets of one backend are of no use to another.
#[tokio::test]
async fn backends_do_not_share_sessions() {
    let ca = Authority::new("kubernetes-ca");
    let check = check(https("kubernetes", Verify::Ca(ca.file())), PATIENT);
    let tls = TlsCache::default();
    let answer = Behaviour::Answer(OK);
    let mut one = Server::tls(ca.certify("kubernetes", 4000), answer).await;
    let mut other = Server::tls(ca.certify("kubernetes", 4000), answer).await;
    for expected in [false, true, true] {
        for server in [&mut one, &mut other] {
            probe(server.endpoint, &check, None, &tls).await;
            assert_eq!(server.seen.recv().await.unwrap().resumed, expected);
        }
    }
}
