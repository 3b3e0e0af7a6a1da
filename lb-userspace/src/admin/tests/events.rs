//! Who asks what happened, and who follows.

use super::*;
use crate::admin::routes::events::MAX_FOLLOWERS;

fn vip(address: &str) -> What {
    What::Vip { address: address.to_owned(), gained: true }
}

/// Those that the client is told of, until so many are there.
async fn told(server: &Server, question: &str, count: usize) -> Vec<Event> {
    let mut told = Vec::new();
    let see = |_: &str, event: Event| {
        told.push(event);
        anyhow::ensure!(told.len() < count, "enough");
        Ok(())
    };
    let client = server.client();
    let asked = client.events(question, see);
    let asked = timeout(Duration::from_secs(20), asked).await.unwrap();
    assert_eq!(asked.is_err(), told.len() == count, "{asked:?} {told:?}");
    told
}

fn addresses(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.what.to_string()).collect()
}

#[tokio::test]
async fn what_is_kept_is_told_in_order() {
    let server = Server::start();
    assert_eq!(told(&server, "", 99).await, []);
    for address in ["a", "b", "c"] {
        server.events.push(vip(address));
    }
    let all = told(&server, "", 99).await;
    assert_eq!(addresses(&all), ["VIP a is here", "VIP b is here", "VIP c is here"]);
    assert_eq!(told(&server, &format!("since={}", all[1].sequence), 99).await, all[2..]);
    assert_eq!(told(&server, "last=2", 99).await, all[1..]);
    // Older than the first: a predecessor's.
    let gap = told(&server, &format!("since={}", all[0].sequence - 5), 99).await;
    assert_eq!(gap[0].what, What::Gap { from: all[0].sequence - 4, to: all[0].sequence - 1 });
    assert_eq!(gap[1..], all);
}

#[tokio::test]
async fn who_follows_is_told_of_what_comes_until_the_end() {
    let server = Server::start();
    server.events.push(vip("a"));
    let events = server.events.clone();
    let pushing = tokio::spawn(async move {
        for address in ["b", "c"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
            events.push(vip(address));
        }
        events.close();
    });
    let all = told(&server, "follow=true", 99).await;
    assert_eq!(addresses(&all), ["VIP a is here", "VIP b is here", "VIP c is here"]);
    pushing.await.unwrap();
}

#[tokio::test]
async fn followers_are_bounded_and_leave_room_for_others() {
    let server = Server::start();
    server.events.push(vip("a"));
    let mut followers = Vec::new();
    for _ in 0..MAX_FOLLOWERS {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        stream.write_all(b"GET /v1/events?follow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        followers.push(stream);
    }
    let (status, body) = server.request("GET", "/v1/events?follow=true", "").await;
    assert_eq!(status, 503, "{body}");
    server.client().version().await.unwrap();
    // One that leaves makes room.
    followers.pop();
    let again = async {
        while server
            .client()
            .events("follow=true", |_, _| anyhow::bail!("told"))
            .await
            .is_err_and(|error| error.to_string() != "told")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), again).await.unwrap();
}

/// A follower that reads nothing holds up neither who pushes nor others, and is told what it missed.
#[tokio::test]
async fn a_follower_that_does_not_read_misses_events() {
    let server = Server::start();
    let mut slow = UnixStream::connect(&server.path).await.unwrap();
    slow.write_all(b"GET /v1/events?follow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let long = "x".repeat(200);
    for number in 0..20_000 {
        server.events.push(vip(&format!("{number}{long}")));
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let last = told(&server, "last=1", 99).await;
    assert!(last[0].what.to_string().starts_with("VIP 19999"));
    server.events.close();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(20), slow.read_to_end(&mut answer)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("\"kind\":\"gap\""));
    assert!(text.contains("19999x"));
}
