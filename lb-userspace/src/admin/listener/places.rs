//! How many connections there may be, of all and of one address. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Some pages and scrapers, each with a few.
pub(super) const MOST: usize = 192;
/// So that one host, whatever goes on there, leaves room for others.
pub(super) const MOST_OF_ONE: usize = 128;

/// Cheap to clone; clones share.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// Free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: IpAddr,
    places: Places,
}

impl Places {
    /// A place, if there is one.
    pub(super) fn take(&self, of: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        if taken.values().sum::<usize>() >= MOST {
            return None;
        }
        let own = taken.entry(of).or_default();
        if *own >= MOST_OF_ONE {
            return None;
        }
        *own += 1;
        Some(Place { of, places: self.clone() })
    }

    pub(super) fn taken(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        // Whoever panicked while holding it left a whole state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(own) = taken.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_leaves_room_for_others_and_places_come_back() {
        let places = Places::default();
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let first: Vec<_> = std::iter::from_fn(|| places.take(address(1))).collect();
        assert_eq!(first.len(), MOST_OF_ONE);
        let second: Vec<_> = std::iter::from_fn(|| places.take(address(2))).collect();
        assert_eq!(second.len(), MOST - MOST_OF_ONE);
        assert!(places.take(address(3)).is_none());
        drop(first);
        assert_eq!(places.taken(), second.len());
        drop(second);
        assert!(places.lock().is_empty());
    }
}
