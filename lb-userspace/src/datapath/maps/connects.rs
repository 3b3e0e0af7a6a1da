//! How long backends take to answer a SYN, as the program counts it. Shared with whoever renders metrics.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};
use lb_common::backend::BackendId;
use lb_common::connect::ConnectTimes;

type Map = PerCpuArray<MapData, ConnectTimes>;

/// The map. Held for as long as an element is read.
#[derive(Clone)]
pub struct Connects(Arc<Mutex<Map>>);

impl Connects {
    pub(super) fn new(map: Map) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    /// Sum over all CPUs; `None`: this one is not measured.
    pub fn of(&self, id: BackendId) -> anyhow::Result<Option<ConnectTimes>> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = match map.get(&id, 0) {
            Ok(values) => values,
            Err(MapError::OutOfBounds { .. }) => return Ok(None),
            Err(error) => return Err(error).context("reading times to connect"),
        };
        let mut sum = ConnectTimes::default();
        for value in values.iter() {
            sum += value;
        }
        Ok(Some(sum))
    }

    /// The identifier gets another meaning.
    pub(super) fn clear(&self, id: BackendId) -> anyhow::Result<()> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if id >= map.len() {
            return Ok(());
        }
        let cpus = map.get(&id, 0).context("reading times to connect")?.len();
        let zeros = PerCpuValues::try_from(vec![ConnectTimes::default(); cpus])?;
        map.set(id, zeros, 0).context("clearing times to connect")
    }
}
