//! `GET /metrics`: for Prometheus. I/O.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};

use super::super::api::Api;
use crate::metrics::Form;

pub(in crate::admin) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = Form::accepted(accept);
    let text = api.metrics.text(form).await;
    ([(CONTENT_TYPE, form.content_type())], text).into_response()
}
