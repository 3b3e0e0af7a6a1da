//! `GET /v1/config`. I/O.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse as _;

use super::super::api::{Answer, Api};
use super::super::query::Query;

pub(in crate::admin) async fn config(State(api): State<Api>) -> Answer {
    let shown = api.query(|reply| Query::Config { reply }).await?;
    Ok(Json(shown).into_response())
}
