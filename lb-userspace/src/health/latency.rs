//! How long probes take, by backend. Fed by `driver`, read by who renders metrics. Pure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::BackendKey;

/// Backends that are measured; those that come later are not.
const MAX_MEASURED: usize = 1024;

/// A histogram for each backend.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Arc<Mutex<BTreeMap<BackendKey, Histogram>>>);

impl Latencies {
    /// Measures those of `keys`, as many as there is room for, and forgets all others.
    pub(super) fn retain<'a>(&self, keys: impl Iterator<Item = &'a BackendKey> + Clone) {
        let mut kept = self.lock();
        let mut before = std::mem::take(&mut *kept);
        // Who is measured already stays so.
        for key in keys.clone() {
            if let Some((key, histogram)) = before.remove_entry(key) {
                kept.insert(key, histogram);
            }
        }
        for key in keys {
            if kept.len() == MAX_MEASURED {
                break;
            }
            // 0.5 ms to 2 s.
            let new = || Histogram::new(exponential_buckets(5e-4, 2.0, 13));
            kept.entry(key.clone()).or_insert_with(new);
        }
    }

    /// A probe of a backend ended. Of one that is not measured nothing is kept.
    pub fn observe(&self, key: &BackendKey, took: Duration) {
        if let Some(histogram) = self.lock().get(key) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// As they are now.
    pub fn all(&self) -> BTreeMap<BackendKey, Histogram> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BackendKey, Histogram>> {
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
        latencies.retain(keys[..5].iter());
        assert_eq!(latencies.all().len(), 5);
    }

    fn key(number: u32) -> BackendKey {
        let endpoint = (std::net::Ipv4Addr::from_bits(number), 6443).into();
        BackendKey { service: "api".to_owned(), backend: format!("cp{number}"), endpoint }
    }
}
