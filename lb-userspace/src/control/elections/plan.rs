//! From the configuration to what VRRP's thread works by. Pure.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::vrrp::event::Previous;
use crate::vrrp::settings::Settings;
use crate::vrrp::thread::{Plan, Planned};

/// Every instance, with what a predecessor left of it.
pub(super) fn plan(config: &Config, previous: &BTreeMap<String, Previous>) -> Plan {
    Plan {
        instances: config
            .vrrp
            .iter()
            .map(|instance| Planned {
                name: instance.name.as_str().into(),
                interface: instance.interface.as_str().into(),
                settings: Settings {
                    yields_when_stalled: config.sync.is_some(),
                    ..Settings::from(instance)
                },
                vips: instance.vips.as_slice().into(),
                announce: instance.announce,
                group: instance.sync_group.as_deref().map(Into::into),
                source: instance.unicast_source,
                previous: previous.get(&instance.name).copied(),
            })
            .collect(),
        vips: config.vips().into_iter().collect(),
    }
}
