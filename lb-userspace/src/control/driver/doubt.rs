//! Probes backends that the datapath speaks against.

use std::collections::BTreeMap;
use std::time::Instant;

use lb_common::backend::{BackendId, SignalKind};

use super::Controller;
use crate::health::BackendKey;

impl Controller {
    /// Has the backends of these signals probed, and does nothing else.
    pub fn doubt(&mut self, signals: &BTreeMap<BackendId, SignalKind>, now: Instant) {
        for (id, kind) in signals {
            let Some(key) = self.backend_key(*id) else { continue };
            let what = match kind {
                SignalKind::Unanswered => "left a SYN unanswered",
                SignalKind::Refused => "refused a SYN",
            };
            let is_probed = self.doubts.admit(*id, now) && self.health.probe_now(&key);
            log::debug!("{key}: {what}{}", if is_probed { "; probing it" } else { "" });
        }
    }

    /// `None`: it is no longer configured.
    fn backend_key(&self, id: BackendId) -> Option<BackendKey> {
        let backend = self.installed.backends.get(&id)?;
        let mut services = self.installed.services.iter();
        let (at, _) = services.find(|(_, service)| service.id == backend.service)?;
        let (vip, port) = (at.address.get(), at.port.get());
        let mut configured = self.config.services.iter();
        let service = configured.find(|it| it.port == port && it.vips.contains(&vip))?;
        let endpoint = (backend.endpoint.address.get(), backend.endpoint.port.get()).into();
        let backend = service.backends.iter().find(|backend| backend.endpoint() == endpoint)?;
        let (service, backend) = (service.name.clone(), backend.name.clone());
        Some(BackendKey { service, backend, endpoint })
    }
}
