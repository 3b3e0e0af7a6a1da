//! Clients by TCP that are too large, too slow or too many: at every operation.

use super::*;

#[tokio::test]
async fn oversized_requests_are_refused_everywhere() {
    let remote = Remote::start().await;
    let common = format!("host: {}\r\nconnection: close\r\n{}", remote.address, with_token());
    for operation in operations() {
        let (method, target) = (&operation.method, operation.target());
        let head = format!("{method} {target} HTTP/1.1\r\n{common}");
        let length = MAX_BODY + 1;
        let large = format!("{head}content-length: {length}\r\n\r\n{}", " ".repeat(length));
        assert_eq!(parse(&remote.exchange(large.as_bytes()).await).0, 413, "{target}");
        let mut chunked =
            (head.clone() + "transfer-encoding: chunked\r\n\r\n20000\r\n").into_bytes();
        chunked.resize(chunked.len() + 0x20000, b' ');
        assert_eq!(parse(&remote.exchange(&chunked).await).0, 413, "{target}");
        for large in ["x: ".to_owned() + &"y".repeat(20_000) + "\r\n", "x: y\r\n".repeat(70)] {
            let answer = remote.exchange(format!("{head}{large}\r\n").as_bytes()).await;
            assert_eq!(parse(&answer).0, 431, "{target}");
        }
    }
    let count = operations().len() as u64;
    remote.wait_refused("large", 4 * count..=4 * count).await;
    assert!(remote.server.seen().is_empty());
}

#[tokio::test]
async fn slow_clients_are_cut_everywhere() {
    let remote = Remote::start().await;
    let all = operations();
    let slow = all.iter().map(|operation| {
        let (method, target) = (&operation.method, operation.target());
        let head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{}", with_token());
        let half = head[..head.len() / 2].to_owned();
        let address = remote.address;
        async move {
            let body = head + "content-length: 9\r\n\r\n{";
            let answers = tokio::join!(
                exchange_by_tcp(address, half.as_bytes()),
                exchange_by_tcp(address, body.as_bytes()),
            );
            parse(&answers.1).0
        }
    });
    let other = async {
        let version = all.iter().find(|it| it.path == "/v1/version").unwrap();
        timeout(Duration::from_secs(2), remote.ask(version, "")).await.unwrap();
    };
    let start = tokio::time::Instant::now();
    let (statuses, ()) = tokio::join!(join_all(slow), other);
    assert!(statuses.iter().all(|status| *status == 408), "{statuses:?}");
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(4) && waited < Duration::from_secs(15), "{waited:?}");
    let count = 2 * all.len() as u64;
    remote.wait_refused("slow", count..=count).await;
    assert!(remote.server.seen().is_empty());
}

/// One host takes all that it may have: what comes from it then is closed at once, others are served.
#[tokio::test]
async fn only_so_many_are_served_at_once_and_one_host_leaves_room() {
    let remote = Remote::start().await;
    let mut silent = Vec::new();
    for _ in 0..128 {
        silent.push(TcpStream::connect(remote.address).await.unwrap());
    }
    let request = format!("GET /v1/version HTTP/1.1\r\nhost: {}\r\n\r\n", remote.address);
    assert_eq!(remote.exchange(request.as_bytes()).await, b"");
    assert_eq!(remote.refused("connections"), 1);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(remote.address).await.unwrap();
    other.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(Duration::from_secs(2), other.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // Who says nothing for five seconds is cut, and there is room again.
    let gone = async {
        for stream in &mut silent {
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
    };
    timeout(Duration::from_secs(15), gone).await.unwrap();
    let request = request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    assert_eq!(parse(&remote.exchange(request.as_bytes()).await).0, 200);
}

#[tokio::test]
async fn what_is_not_http_harms_nobody() {
    let remote = Remote::start().await;
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        remote.exchange(bytes).await;
    }
    assert!(remote.server.seen().is_empty());
    remote.wait_refused("malformed", 4..).await;
    let version = operations().into_iter().find(|it| it.path == "/v1/version").unwrap();
    assert_eq!(remote.ask(&version, "").await.0, 200);
}
