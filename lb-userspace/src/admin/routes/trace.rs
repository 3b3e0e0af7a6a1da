//! `GET /v1/trace`. I/O.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as UrlQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;

use super::super::api::{Answer, Api, Refusal};
use super::super::model::trace::TraceQuery;
use super::super::query::Query;

pub(in crate::admin) async fn trace(
    State(api): State<Api>,
    query: Result<UrlQuery<TraceQuery>, QueryRejection>,
) -> Answer {
    let bad = |error| Refusal(StatusCode::BAD_REQUEST, error);
    let UrlQuery(query) = query.map_err(|error| bad(error.body_text()))?;
    let question = query.question().map_err(bad)?;
    let traces = api.query(|reply| Query::Trace { question, reply }).await?;
    Ok(Json(traces).into_response())
}
