use std::net::SocketAddr;
use std::str::FromStr;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::*;

/// The question → what is found.
#[tokio::test]
async fn answers_are_what_they_are() {
    let bench = Bench::new("search example.com\nnameserver 127.0.0.1\n", "").await;
    let cases = [
        ("two.example.com", Family::V4, Ok((vec![ip("10.0.0.1"), ip("10.0.0.2")], 30))),
        ("two.example.com.", Family::V4, Ok((vec![ip("10.0.0.1"), ip("10.0.0.2")], 30))),
        ("two", Family::V4, Ok((vec![ip("10.0.0.1"), ip("10.0.0.2")], 30))),
        ("six.example.com", Family::V6, Ok((vec![ip("fd00::1")], 7))),
        ("alias.example.com", Family::V4, Ok((vec![ip("10.0.0.1"), ip("10.0.0.2")], 5))),
        ("two.example.com.", Family::V6, Err(Failure::NoAddress)),
        ("none.example.com.", Family::V4, Err(Failure::NoSuchName)),
        ("broken.example.com.", Family::V4, Err(Failure::Server("Server Failure".to_owned()))),
    ];
    for (host, family, expected) in cases {
        let expected = expected.map(|(found, ttl)| (found, Duration::from_secs(ttl)));
        assert_eq!(bench.lookup(host, family).await, expected, "{host}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_a_timeout() {
    let bench = Bench::new("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", "").await;
    assert_eq!(bench.lookup("mute.example.com.", Family::V4).await, Err(Failure::Timeout));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_and_not_an_empty_answer() {
    let bench = Bench::new("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", "").await;
    drop(bench.server);
    let found = bench.system.lookup(&question("two.example.com.", Family::V4)).await;
    assert!(!matches!(found, Ok(_) | Err(Failure::NoSuchName | Failure::NoAddress)), "{found:?}");
}

#[tokio::test]
async fn hosts_come_first() {
    let bench = Bench::new("nameserver 127.0.0.1\n", "10.9.9.9 two.example.com TWO\n").await;
    for host in ["two.example.com", "two"] {
        let (addresses, _) = bench.lookup(host, Family::V4).await.unwrap();
        assert_eq!(addresses, [ip("10.9.9.9")], "{host}");
    }
}

#[tokio::test]
async fn changed_files_apply() {
    let bench = Bench::new("nameserver 127.0.0.1\n", "").await;
    assert_eq!(bench.lookup("local.example.com", Family::V4).await, Err(Failure::NoSuchName));
    bench.write("hosts", "10.9.9.9 local.example.com\n");
    assert!(bench.lookup("local.example.com", Family::V4).await.is_ok());
    assert_eq!(bench.system.servers(), [ip("127.0.0.1")]);
    bench.write("resolv.conf", "nameserver 127.0.0.9\nnameserver 127.0.0.1\n");
    let _ = bench.lookup("local.example.com", Family::V4).await;
    assert_eq!(bench.system.servers(), [ip("127.0.0.9"), ip("127.0.0.1")]);
}

#[tokio::test]
async fn a_server_is_asked_from_the_source_it_was_given() {
    let mut bench = Bench::new("nameserver 127.0.0.1\n", "").await;
    bench.system.set_sources(Sources::from([(ip("127.0.0.1"), ip("127.0.0.77"))]));
    bench.lookup("two.example.com.", Family::V4).await.unwrap();
    assert_eq!(bench.asked.recv().await.unwrap().ip(), ip("127.0.0.77"));
}

#[tokio::test]
async fn answers_are_not_cached() {
    let mut bench = Bench::new("nameserver 127.0.0.1\n", "").await;
    for _ in 0..2 {
        bench.lookup("two.example.com.", Family::V4).await.unwrap();
        bench.asked.recv().await.unwrap();
    }
}

#[tokio::test]
async fn without_a_server_it_is_this_machine() {
    let bench = Bench::new("# nothing\n", "").await;
    assert!(bench.system.servers().contains(&ip("127.0.0.1")));
    assert!(bench.lookup("two.example.com.", Family::V4).await.is_ok());
}

/// A DNS server on loopback, and a system that asks it.
struct Bench {
    folder: TempDir,
    system: System,
    server: tokio::task::JoinSet<()>,
    /// Who asked.
    asked: mpsc::UnboundedReceiver<SocketAddr>,
}

impl Bench {
    async fn new(resolv_conf: &str, hosts: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (report, asked) = mpsc::unbounded_channel();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(serve(socket, report));
        let folder = tempfile::tempdir().unwrap();
        let file = |name| folder.path().join(name);
        let system = System::new(file("resolv.conf"), file("hosts"), port);
        let bench = Self { system, server, asked, folder };
        bench.write("resolv.conf", resolv_conf);
        bench.write("hosts", hosts);
        bench
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    async fn lookup(&self, host: &str, family: Family) -> Found {
        self.system.lookup(&question(host, family)).await
    }
}

fn question(host: &str, family: Family) -> Question {
    Question { host: host.to_owned(), family }
}

async fn serve(socket: UdpSocket, report: mpsc::UnboundedSender<SocketAddr>) {
    let mut bytes = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
        report.send(from).ok();
        let request = Message::from_vec(&bytes[..length]).unwrap();
        if let Some(response) = answer(&request) {
            socket.send_to(&response.to_vec().unwrap(), from).await.unwrap();
        }
    }
}

/// The zone of the tests; nothing for the name that is not answered.
fn answer(request: &Message) -> Option<Message> {
    let query = request.queries[0].clone();
    let mut response = Message::response(request.id, request.op_code);
    response.add_query(query.clone());
    let name = |text| Name::from_str(text).unwrap();
    let mut add = |owner, ttl, data| {
        response.add_answer(Record::from_rdata(name(owner), ttl, data));
    };
    let two = "two.example.com.";
    match (query.name().to_string().to_lowercase().as_str(), query.query_type()) {
        ("mute.example.com.", _) => return None,
        ("alias.example.com.", RecordType::A) => {
            add("alias.example.com.", 5, RData::CNAME(CNAME(name(two))));
            add(two, 30, RData::A(A::new(10, 0, 0, 1)));
            add(two, 60, RData::A(A::new(10, 0, 0, 2)));
        }
        ("two.example.com.", RecordType::A) => {
            add(two, 30, RData::A(A::new(10, 0, 0, 1)));
            add(two, 60, RData::A(A::new(10, 0, 0, 2)));
        }
        ("two.example.com.", _) => {}
        ("six.example.com.", RecordType::AAAA) => {
            add("six.example.com.", 7, RData::AAAA(AAAA("fd00::1".parse().unwrap())));
        }
        ("broken.example.com.", _) => response.metadata.response_code = ResponseCode::ServFail,
        _ => response.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(response)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
