//! The document says what the server does: every operation, every answer, and no other route.

use std::collections::BTreeSet;

use super::super::model::{Kind, Peer, State, SyncState, Trigger};
use super::super::routes::events::MAX_FOLLOWERS;
use super::super::routes::live::MAX_VIEWERS;
use super::document::{Operation, document, errors, operations};
use super::*;

/// Where routes are declared.
const ROUTER: &str = include_str!("../api.rs");

#[test]
fn the_document_has_every_route_and_no_other() {
    let documented: BTreeSet<_> = operations().iter().map(name).collect();
    let declared: BTreeSet<_> = ROUTER.split(".route(").skip(1).flat_map(routes).collect();
    assert!(declared.len() > 8, "{declared:?}");
    assert_eq!(declared, documented);
}

/// The operations of what follows `.route(`.
fn routes(text: &str) -> Vec<String> {
    let path = text.split('"').nth(1).unwrap();
    let end = text.find("\n        .").unwrap_or(text.len());
    let handlers = &text[..end];
    let methods = ["get", "post", "put", "delete", "patch"];
    let has = |method: &&&str| handlers.contains(&format!("{method}("));
    let methods = methods.iter().filter(has);
    methods.map(|method| format!("{} {path}", method.to_uppercase())).collect()
}

fn name(operation: &Operation) -> String {
    format!("{} {}", operation.method, operation.path)
}

#[test]
fn the_document_is_whole() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.1");
    let text = document.to_string();
    for (position, _) in text.match_indices("\"#/components/") {
        let at = text[position + 2..].split('"').next().unwrap();
        assert!(document.pointer(at).is_some(), "{at}");
    }
    let identifiers = document["paths"].as_object().unwrap().values().flat_map(|path| {
        path.as_object().unwrap().values().map(|it| it["operationId"].as_str().unwrap().to_owned())
    });
    assert_eq!(identifiers.collect::<BTreeSet<_>>().len(), operations().len());
    for operation in operations() {
        assert!(!operation.plain_path().contains('{'), "{}", name(&operation));
        if operation.has_body() {
            let body = serde_json::from_str(&operation.body()).unwrap();
            assert!(operation.accepts(&body), "{}: {body}", name(&operation));
            assert!(!operation.accepts(&json!({ "nonsense": 1 })), "{}", name(&operation));
        }
    }
}

/// Brings about each answer that the document promises. The clock is paused: some take half a minute.
#[tokio::test(start_paused = true)]
async fn every_answer_is_as_documented() {
    for operation in operations() {
        for status in operation.statuses() {
            let (got, body) = provoke(&operation, status).await;
            assert_eq!(got, status, "{}: {body}", name(&operation));
            operation.check(got, &body);
        }
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let server = Server::start();
    let (status, body) = server.request("GET", "/v1/openapi.json", "").await;
    assert_eq!((status, body), (200, document()));
}

async fn provoke(operation: &Operation, status: u16) -> (u16, Value) {
    let Operation { method, .. } = operation;
    let (target, body) = (operation.target(), operation.body());
    let mut server = Server::eventful();
    match status {
        200 | 202 => {}
        400 if operation.has_query() => {
            let target = operation.plain_path() + "?nonsense=1";
            return server.request(method, &target, &body).await;
        }
        400 if operation.has_body() => {
            return server.request(method, &target, r#"{"nonsense":1}"#).await;
        }
        400 => return send_raw(&server, operation, "transfer-encoding: chunked", "nonsense").await,
        408 => return send_raw(&server, operation, "content-length: 9", "{").await,
        413 => return server.request(method, &target, &" ".repeat(MAX_BODY + 1)).await,
        422 => server.refuse("it cannot be"),
        500 => server.flows.fail(),
        503 if operation.path == "/v1/events" => {
            let _followers = follow(&server).await;
            return server.request(method, &(operation.plain_path() + "?follow=true"), "").await;
        }
        503 if operation.path == "/v1/live" => {
            let _viewers = look_on(&server).await;
            return server.request(method, &operation.target(), "").await;
        }
        503 => server = Server::start_with(|receiver, _| drop(receiver)),
        504 => server = Server::start_with(|receiver, _| drop(tokio::spawn(never(receiver)))),
        other => panic!("{} {other}: nobody knows how to bring it about", name(operation)),
    }
    server.request(method, &target, &body).await
}

/// A request with this header, and so much of a body.
async fn send_raw(
    server: &Server,
    operation: &Operation,
    header: &str,
    body: &str,
) -> (u16, Value) {
    let Operation { method, .. } = operation;
    let target = operation.target();
    let request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n{body}\r\n");
    parse(&exchange(&server.path, request.as_bytes()).await)
}

/// As many as there may be.
async fn follow(server: &Server) -> Vec<UnixStream> {
    let mut followers = Vec::new();
    for _ in 0..MAX_FOLLOWERS {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        stream.write_all(text("GET", "/v1/events?follow=true", "").as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        followers.push(stream);
    }
    followers
}

/// As many as there may be.
async fn look_on(server: &Server) -> Vec<UnixStream> {
    let mut viewers = Vec::new();
    for _ in 0..MAX_VIEWERS {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        stream.write_all(text("GET", "/v1/live", "").as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        viewers.push(stream);
    }
    viewers
}

/// Every kind, with everything that it may say.
#[test]
fn events_are_as_documented() {
    let by = Some(Peer::local(0, Some(1000)));
    let (service, backend) = ("api".to_owned(), "cp1".to_owned());
    let some = || Some("x".to_owned());
    let from = "init".to_owned();
    let all = [
        What::Start { version: "1".to_owned(), pid: 1, successor: true },
        What::Stop { handover: true },
        What::Backend {
            service: service.clone(),
            backend: backend.clone(),
            from: State::Up,
            to: State::Down,
            reason: "refused".to_owned(),
        },
        What::Admin {
            service: service.clone(),
            backend,
            admin: Some(Admin::Disabled),
            weight: Some(7),
            reset_weight: false,
            by,
        },
        What::Reload { applied: true, trigger: Trigger::File, changes: vec![], error: some(), by },
        What::Panic { service, family: "IPv4".to_owned(), entered: true },
        What::Vip { address: "10.0.0.1".to_owned(), gained: false },
        What::Datapath {
            interface: "eth0".to_owned(),
            attached: true,
            mode: Some("native".to_owned()),
        },
        What::Vrrp {
            instance: from.clone(),
            to: from.clone(),
            term: 1,
            reaffirmed: true,
            reason: from.clone(),
            from,
        },
        What::Sync {
            peer: "10.0.0.3".to_owned(),
            state: SyncState::Refused,
            reason: "c".to_owned(),
        },
        What::Name {
            host: "a".to_owned(),
            family: "IPv6".to_owned(),
            added: vec!["fd00::1".parse().unwrap()],
            removed: vec![],
            failure: some(),
        },
        What::Alarm { subject: "a".to_owned(), reason: "b".to_owned(), resolved: true },
        What::Gap { from: 1, to: 2 },
    ];
    let mut kinds = BTreeSet::new();
    for what in all {
        kinds.insert(what.kind());
        let event = Event { sequence: 1, time: String::new(), message: what.to_string(), what };
        let event = serde_json::to_value(event).unwrap();
        let errors = errors(&json!({ "$ref": "#/components/schemas/Event" }), &event);
        assert!(errors.is_empty(), "{event}: {errors:?}");
    }
    assert_eq!(kinds.len(), Kind::CHOICES.len() + 1);
}

/// Takes commands and answers none.
async fn never(mut receiver: mpsc::Receiver<Command>) {
    let mut kept = Vec::new();
    while let Some(command) = receiver.recv().await {
        kept.push(command);
    }
}
