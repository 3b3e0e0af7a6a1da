//! Who looks on: the page, and whoever reads what it reads.

use super::*;

/// What a viewer of the socket has read.
struct Viewer {
    stream: UnixStream,
    text: String,
}

impl Viewer {
    async fn of(server: &Server) -> Self {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        stream.write_all(b"GET /v1/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        Self { stream, text: String::new() }
    }

    async fn read(&mut self) {
        let mut bytes = [0; 65_536];
        let reading = timeout(Duration::from_secs(20), self.stream.read(&mut bytes));
        let count = reading.await.unwrap().unwrap();
        assert!(count > 0, "the end: {}", self.text);
        self.text += &String::from_utf8_lossy(&bytes[..count]);
    }

    /// Reads until it has read that; what comes before it, and it, are not read again.
    async fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            self.read().await;
        }
        let end = self.text.find(wanted).unwrap() + wanted.len();
        self.text.drain(..end);
    }
}

#[tokio::test]
async fn a_viewer_is_shown_what_there_is_and_what_comes() {
    let server = Server::eventful();
    let mut viewer = Viewer::of(&server).await;
    viewer.until("event: hello\ndata: {\"changes\":\"allowed\"}\n\n").await;
    viewer.until("event: status\ndata: {\"version\":\"0.1.0\",\"pid\":4711,").await;
    viewer.until("event: events\ndata: [{").await;
    viewer.until("VIP 10.0.0.100 is here").await;
    server.status.send_replace(Arc::new(Status { pid: 7, ..fixture() }));
    viewer.until("event: status\ndata: {\"version\":\"0.1.0\",\"pid\":7,").await;
    server.events.push(What::Vip { address: "10.0.0.7".to_owned(), gained: false });
    viewer.until("10.0.0.7").await;
    assert!(!viewer.text.contains("event: events"), "{}", viewer.text);
}

/// A hundred statuses a second are not a hundred messages, and the last one arrives.
#[tokio::test]
async fn what_changes_often_is_shown_now_and_then() {
    let server = Server::start();
    let mut viewer = Viewer::of(&server).await;
    viewer.until("event: events").await;
    for pid in 0..100 {
        server.status.send_replace(Arc::new(Status { pid: 1000 + pid, ..fixture() }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.status.send_replace(Arc::new(Status { pid: 77, ..fixture() }));
    while !viewer.text.contains("\"pid\":77,") {
        viewer.read().await;
    }
    let count = viewer.text.matches("event: status").count();
    assert!((1..10).contains(&count), "{count} messages");
}

/// One that reads nothing holds up nobody, and what was sent meanwhile is not kept for it.
#[tokio::test]
async fn a_viewer_that_does_not_read_misses_what_was() {
    let server = Server::start();
    let mut slow = Viewer::of(&server).await;
    let long = "x".repeat(300_000);
    for pid in 0..20 {
        let path = long.clone();
        let configuration = model::Configuration { path, ..Default::default() };
        server.status.send_replace(Arc::new(Status { pid: 100 + pid, configuration, ..fixture() }));
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    server.status.send_replace(Arc::new(Status { pid: 77, ..fixture() }));
    let other = server.client().status().await.unwrap();
    assert_eq!(other["pid"], 77);
    slow.until("\"pid\":77,").await;
}
