//! `GET /v1/flows`, `GET /v1/flows/count`, `GET /v1/flows/top`, `POST /v1/flows/purge`. I/O.
//!
//! The controller is asked for the maps once; they are read in slices by another thread, one query
//! after the other, so that however many clients ask, the main loop and the datapath are not held up.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as UrlQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use lb_common::backend::BackendId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::super::api::{Answer, Api, Refusal, parse};
use super::super::model::flows::{
    BackendCount, DEFAULT_LIMIT, DEFAULT_PURGE, FlowCount, FlowList, FlowQuery, FlowState,
    MAX_LIMIT, MAX_PURGE, MAX_PURGE_WITH_RESET, Purge, Purged,
};
use super::super::query::{FlowView, Query};
use crate::control::flows::{Facts, Selector};
use crate::control::idle_reset::RATE;
use crate::datapath::flows::Record;
use crate::datapath::stale::Flow;

mod top;

pub(in crate::admin) use top::top;

/// For the queries before this one.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two lots of clients that are reset.
const RESET_INTERVAL: Duration = Duration::from_millis(10);
/// Clients of a lot: all together no more than idle ones of lost backends.
const RESET_LOT: usize = RATE as usize / 100;

/// Lets one query at a time read flows.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    async fn next(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        match timeout(TURN_TIMEOUT, Arc::clone(&self.0).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "others are reading the flows; try again".to_owned(),
            )),
        }
    }
}

pub(in crate::admin) async fn list(
    State(api): State<Api>,
    query: Result<UrlQuery<FlowQuery>, QueryRejection>,
) -> Answer {
    let query = read(query)?;
    let limit = limit(query.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let (list, _turn) = look(&api, &query, move |view, selector| {
        let mut list = FlowList::default();
        walk(view, |view, record| {
            if !selector.matches(&record.facts) {
                return Ok(true);
            }
            list.truncated = list.flows.len() == limit;
            if !list.truncated {
                list.flows.push(view.directory.describe(&record.facts));
            }
            Ok(!list.truncated)
        })?;
        list.flows.sort_by_key(|flow| (flow.client, flow.vip));
        Ok(list)
    })
    .await?;
    Ok(Json(list).into_response())
}

pub(in crate::admin) async fn count(
    State(api): State<Api>,
    query: Result<UrlQuery<FlowQuery>, QueryRejection>,
) -> Answer {
    let query = read(query)?;
    if query.limit.is_some() {
        return Err(bad("a count has no limit: it counts all"));
    }
    let (count, _turn) = look(&api, &query, |view, selector| {
        let mut tally = Tally::default();
        walk(view, |_, record| {
            if selector.matches(&record.facts) {
                tally.add(&record.facts);
            }
            Ok(true)
        })?;
        Ok(tally.named(view))
    })
    .await?;
    Ok(Json(count).into_response())
}

pub(in crate::admin) async fn purge(State(api): State<Api>, body: Bytes) -> Answer {
    let purge: Purge = if body.is_empty() { Purge::default() } else { parse(&body)? };
    let query = purge.query();
    if query.filter().map_err(bad)?.is_empty() && !purge.all {
        return Err(bad("which flows? give a filter, or `all` for every flow"));
    }
    let most = if purge.reset { MAX_PURGE_WITH_RESET } else { MAX_PURGE };
    let limit = limit(purge.limit, DEFAULT_PURGE, most)?;
    let reset = purge.reset;
    let ((mut purged, flows, unused), turn) = look(&api, &query, move |view, selector| {
        let mut purged = Purged::default();
        let mut to_reset = Vec::new();
        walk(view, |view, record| {
            if !selector.matches(&record.facts) {
                return Ok(true);
            }
            purged.truncated = purged.removed + to_reset.len() as u64 >= limit as u64;
            if purged.truncated {
                return Ok(false);
            }
            if reset && !record.facts.half_open {
                to_reset.push(record.flow);
            } else {
                let removed = view.source.remove(&record.flow, selector.is_about_idle())?;
                purged.removed += u64::from(removed);
            }
            Ok(true)
        })?;
        Ok((purged, to_reset, selector.is_about_idle()))
    })
    .await?;
    tell(&api, &flows, unused, &mut purged).await?;
    drop(turn);
    let Purged { removed, reset, .. } = purged;
    log::info!("removed {removed} flows by command, {reset} of their clients were reset");
    Ok(Json(purged).into_response())
}

/// Has the clients of flows reset, at a pace.
async fn tell(api: &Api, flows: &[Flow], unused: bool, purged: &mut Purged) -> Result<(), Refusal> {
    let mut ticks = interval(RESET_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for lot in flows.chunks(RESET_LOT) {
        ticks.tick().await;
        let flows = lot.to_vec();
        let told = api.query(|reply| Query::ResetFlows { flows, unused, reply }).await?;
        purged.removed += told.removed;
        purged.reset += told.reset;
    }
    Ok(())
}

/// Waits for its turn, then lets `job` look at the flows on a thread of its own. The turn ends with the
/// second part of the answer.
async fn look<T: Send + 'static>(
    api: &Api,
    query: &FlowQuery,
    job: impl FnOnce(&mut FlowView, &Selector) -> io::Result<T> + Send + 'static,
) -> Result<(T, OwnedSemaphorePermit), Refusal> {
    let filter = query.filter().map_err(bad)?;
    let turn = api.turns.next().await?;
    let mut view = api.query(|reply| Query::Flows { reply }).await?;
    let selector = filter
        .resolve(&view.directory)
        .map_err(|error| Refusal(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    // A client that goes away does not end the thread: the turn is its own.
    let done = spawn_blocking(move || (job(&mut view, &selector), turn)).await;
    let failed = |error: String| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error);
    let (found, turn) = done.map_err(|error| failed(error.to_string()))?;
    let found = found.map_err(|error| failed(format!("reading the flows: {error}")))?;
    Ok((found, turn))
}

/// Hands every flow to `each`, until that says `false`.
fn walk(
    view: &mut FlowView,
    mut each: impl FnMut(&FlowView, &Record) -> io::Result<bool>,
) -> io::Result<()> {
    let mut records = Vec::new();
    loop {
        records.clear();
        let complete = view.source.slice(&mut records)?;
        for record in &records {
            if !each(view, record)? {
                return Ok(());
            }
        }
        if complete {
            return Ok(());
        }
        std::thread::yield_now();
    }
}

/// Flows by what they have in common.
#[derive(Default)]
struct Tally {
    count: FlowCount,
    backends: BTreeMap<BackendId, (SocketAddr, u64)>,
}

impl Tally {
    fn add(&mut self, facts: &Facts) {
        self.count.flows += 1;
        self.count.half_open += u64::from(facts.half_open);
        let state = FlowState::from(facts.state).as_str().to_owned();
        *self.count.states.entry(state).or_default() += 1;
        self.backends.entry(facts.backend).or_insert((facts.endpoint, 0)).1 += 1;
    }

    fn named(self, view: &FlowView) -> FlowCount {
        let backends = self.backends.iter().map(|(id, (address, flows))| {
            let names = view.directory.backends.get(id);
            BackendCount {
                service: names.map(|names| names.service.clone()),
                backend: names.map(|names| names.name.clone()),
                address: *address,
                flows: *flows,
            }
        });
        let mut backends: Vec<_> = backends.collect();
        backends.sort_by(|a, b| (&a.service, &a.backend).cmp(&(&b.service, &b.backend)));
        FlowCount { backends, ..self.count }
    }
}

fn read(query: Result<UrlQuery<FlowQuery>, QueryRejection>) -> Result<FlowQuery, Refusal> {
    query.map(|UrlQuery(query)| query).map_err(|error| bad(error.body_text()))
}

fn limit(asked: Option<usize>, default: usize, most: usize) -> Result<usize, Refusal> {
    match asked {
        None => Ok(default),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(bad(format!("the limit must be from 1 to {most}"))),
    }
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, why.into())
}
