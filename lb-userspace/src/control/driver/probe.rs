//! What is probed, and what the probes say.

use std::sync::Arc;

use super::Controller;
use crate::control::standing::{self, Standing};
use crate::health::{BackendKey, Target};

impl Controller {
    /// Probes what is configured; a backend that was there before keeps its state.
    pub fn probe(&mut self) {
        let (vips, ids) = (self.config.vips(), self.backend_ids());
        let mut targets = Vec::new();
        for service in &self.config.services {
            let check = Arc::new(service.health.clone());
            for backend in &service.backends {
                let endpoint = backend.endpoint();
                let key = BackendKey {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                    endpoint,
                };
                targets.push(Target {
                    check: Arc::clone(&check),
                    source: self.snapshot.source_for(backend.address, &vips),
                    initial: self.adopted_health(ids.get(&service.name, endpoint)),
                    past: self.adopted_past(&key),
                    key,
                });
            }
        }
        self.health.reconcile(targets);
    }

    /// What the probes say together.
    pub(super) fn stand(&self) -> Standing {
        let table = self.health_table.borrow();
        standing::standing(&self.config, &table, self.overrides.effective())
    }
}
