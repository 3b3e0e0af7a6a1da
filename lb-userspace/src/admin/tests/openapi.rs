//! The document says what the server does: every operation, every answer, and no other route.

use std::collections::BTreeSet;

use super::document::{Operation, document, operations};
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
    let mut server = Server::start();
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

/// Takes commands and answers none.
async fn never(mut receiver: mpsc::Receiver<Command>) {
    let mut kept = Vec::new();
    while let Some(command) = receiver.recv().await {
        kept.push(command);
    }
}
