//! How long probes take, by backend. Fed by `driver`, read by who renders metrics and by `status`. Pure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::BackendKey;

/// Backends that are measured; those that come later are not.
const MAX_MEASURED: usize = 1024;

/// What is measured of each backend.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Arc<Mutex<BTreeMap<BackendKey, Measured>>>);

#[derive(Debug)]
struct Measured {
    all: Histogram,
    last: Option<Duration>,
}

impl Latencies {
    /// Measures those of `keys`, as many as there is room for, and forgets all others.
    pub(super) fn retain<'a>(&self, keys: impl Iterator<Item = &'a BackendKey> + Clone) {
        let mut kept = self.lock();
        let mut before = std::mem::take(&mut *kept);
        // Who is measured already stays so.
        for key in keys.clone() {
            if let Some((key, measured)) = before.remove_entry(key) {
                kept.insert(key, measured);
            }
        }
        for key in keys {
            if kept.len() == MAX_MEASURED {
                break;
            }
            // 0.5 ms to 2 s.
            let all = || Histogram::new(exponential_buckets(5e-4, 2.0, 13));
            let new = || Measured { all: all(), last: None };
            kept.entry(key.clone()).or_insert_with(new);
        }
    }

    /// A probe of a backend ended. Of one that is not measured nothing is kept.
    pub fn observe(&self, key: &BackendKey, took: Duration) {
        if let Some(measured) = self.lock().get_mut(key) {
            measured.all.observe(took.as_secs_f64());
            measured.last = Some(took);
        }
    }

    /// As they are now.
    pub fn all(&self) -> BTreeMap<BackendKey, Histogram> {
        let measured = self.lock();
        measured.iter().map(|(key, measured)| (key.clone(), measured.all.clone())).collect()
    }

    /// The last probe of each backend that has had one.
    pub fn last(&self) -> BTreeMap<BackendKey, Duration> {
        let measured = self.lock();
        let last = measured.iter().filter_map(|(key, it)| Some((key.clone(), it.last?)));
        last.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BackendKey, Measured>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_measured_stays_so_and_there_is_a_bound() {
        let keys: Vec<_> = (0..2000).map(key).collect();
        let latencies = Latencies::default();
        latencies.retain(keys[1000..1010].iter());
        latencies.observe(&keys[1005], Duration::from_millis(3));
        latencies.observe(&keys[0], Duration::from_millis(3));
        latencies.retain(keys.iter());
        let all = latencies.all();
        assert_eq!(all.len(), MAX_MEASURED);
        assert_eq!((all[&keys[1005]].count(), all[&keys[0]].count()), (1, 0));
        assert_eq!(latencies.last(), [(keys[1005].clone(), Duration::from_millis(3))].into());
        latencies.retain(keys[..5].iter());
        assert_eq!(latencies.all().len(), 5);
    }

    fn key(number: u32) -> BackendKey {
        let endpoint = (std::net::Ipv4Addr::from_bits(number), 6443).into();
        BackendKey { service: "api".to_owned(), backend: format!("cp{number}"), endpoint }
    }
}
