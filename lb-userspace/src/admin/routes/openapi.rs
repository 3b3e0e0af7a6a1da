//! `GET /v1/openapi.json`: the API's own description. I/O.
//!
//! Written by hand: the program has no use for it but to send it, and `admin::tests::openapi` holds it
//! against the running server, operation by operation and answer by answer.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

pub(in crate::admin) const DOCUMENT: &str = include_str!("../openapi.json");

pub(in crate::admin) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}
