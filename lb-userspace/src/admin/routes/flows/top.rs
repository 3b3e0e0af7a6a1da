//! `GET /v1/flows/top`. I/O.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as UrlQuery, State};
use axum::response::IntoResponse as _;
use lb_common::backend::BackendId;
use lb_common::conntrack::TcpState;

use super::super::super::api::{Answer, Api};
use super::super::super::model::flows::top::{By, DEFAULT_TOP, FlowTop, Group, MAX_TOP, TopQuery};
use super::super::super::query::FlowView;
use super::{bad, limit, look, walk};
use crate::control::flows::{Facts, duration};

/// Groups that are counted, 150 bytes each: of more clients the rest is only summed up.
const MOST_GROUPS: usize = 262_144;

pub(in crate::admin) async fn top(
    State(api): State<Api>,
    query: Result<UrlQuery<TopQuery>, QueryRejection>,
) -> Answer {
    let UrlQuery(query) = query.map_err(|error| bad(error.body_text()))?;
    let by = query.by().map_err(bad)?;
    let limit = limit(query.limit, DEFAULT_TOP, MAX_TOP)?;
    let (top, _turn) = look(&api, &query.query(), move |view, selector| {
        let mut tally = Tally::new(by);
        walk(view, |_, record| {
            if selector.matches(&record.facts) {
                tally.add(&record.facts);
            }
            Ok(true)
        })?;
        Ok(tally.first(limit, view))
    })
    .await?;
    Ok(Json(top).into_response())
}

/// What a group has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Client(IpAddr),
    Backend(BackendId),
}

struct Sum {
    endpoint: SocketAddr,
    flows: u64,
    established: u64,
    half_open: u64,
    /// In ticks.
    idle: u32,
    longest_idle: u32,
}

struct Tally {
    by: By,
    flows: u64,
    uncounted: u64,
    groups: BTreeMap<Key, Sum>,
}

impl Tally {
    const fn new(by: By) -> Self {
        Self { by, flows: 0, uncounted: 0, groups: BTreeMap::new() }
    }

    fn add(&mut self, facts: &Facts) {
        self.flows += 1;
        let key = match self.by {
            By::Client => Key::Client(facts.client.ip()),
            By::Backend => Key::Backend(facts.backend),
        };
        if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&key) {
            self.uncounted += 1;
            return;
        }
        let sum = self.groups.entry(key).or_insert(Sum {
            endpoint: facts.endpoint,
            flows: 0,
            established: 0,
            half_open: 0,
            idle: u32::MAX,
            longest_idle: 0,
        });
        sum.flows += 1;
        sum.established += u64::from(facts.state == TcpState::Established && !facts.half_open);
        sum.half_open += u64::from(facts.half_open);
        sum.idle = sum.idle.min(facts.idle);
        sum.longest_idle = sum.longest_idle.max(facts.idle);
    }

    fn first(self, limit: usize, view: &FlowView) -> FlowTop {
        let Self { by, flows, uncounted, groups } = self;
        let mut groups: Vec<(Key, Sum)> = groups.into_iter().collect();
        // Those with as many stay in the order of their keys.
        groups.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.flows));
        let truncated = groups.len() > limit;
        groups.truncate(limit);
        let groups = groups.into_iter().map(|(key, sum)| group(key, &sum, view)).collect();
        FlowTop { by, flows, groups, truncated, uncounted }
    }
}

fn group(key: Key, sum: &Sum, view: &FlowView) -> Group {
    let millis = |ticks| u64::try_from(duration(ticks).as_millis()).unwrap_or(u64::MAX);
    let group = Group {
        flows: sum.flows,
        established: sum.established,
        half_open: sum.half_open,
        idle_ms: millis(sum.idle),
        longest_idle_ms: millis(sum.longest_idle),
        ..Group::default()
    };
    match key {
        Key::Client(client) => Group { client: Some(client), ..group },
        Key::Backend(id) => {
            let names = view.directory.backends.get(&id);
            let installed = view.directory.installed.get(&id);
            Group {
                service: names.map(|names| names.service.clone()),
                backend: names.map(|names| names.name.clone()),
                // In `dsr` packets keep the VIP as their destination.
                address: Some(installed.map_or(sum.endpoint, |it| it.address)),
                ..group
            }
        }
    }
}
