//! Another configuration for a controller that runs.

use anyhow::{Context as _, bail};

use super::Controller;
use crate::config::Config;
use crate::control::reload;

impl Controller {
    /// What a running controller cannot change.
    pub async fn check_reload(&self, new: &Config) -> anyhow::Result<()> {
        let frozen = reload::frozen(&self.config, new, self.datapath.sizes());
        if !frozen.is_empty() {
            bail!("{}", frozen.join("\n"));
        }
        let snapshot = self.netlink.snapshot().await.context("asking the kernel")?;
        for name in new.interfaces.iter().filter(|name| !self.config.interfaces.contains(name)) {
            let Some(link) = snapshot.link_by_name(name) else {
                bail!("there is no interface {name}");
            };
            if let Some(master) = snapshot.aggregate_of(link) {
                bail!("{name} is a port of {0}; name {0} instead", master.name);
            }
        }
        Ok(())
    }

    /// Detaches from those of `old` that the configuration no longer has.
    pub fn drop_interfaces(&mut self, old: &[String]) -> anyhow::Result<()> {
        for name in old.iter().filter(|name| !self.config.interfaces.contains(name)) {
            self.datapath.detach(name)?;
            log::info!("{name}: detached");
            self.tell_detached(name);
        }
        Ok(())
    }
}
