//! Reading the configuration again: by signal, by command, or because its file changed.

use tokio::time::Instant;

use super::events::{Loop, report};
use crate::admin::model::{Peer, Reloaded, Trigger, What};
use crate::config::watch::Watch;
use crate::config::{Config, diff};

/// Of more the first are said: they are kept in memory, and sent to others.
const MAX_TOLD: usize = 20;
const MAX_ANSWERED: usize = 10_000;

/// Who wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) trigger: Trigger,
    pub(super) by: Option<Peer>,
}

impl Loop<'_> {
    /// Reads the configuration again, and tells everyone what came of it.
    pub(super) async fn reload(&mut self, asked: Asked) -> anyhow::Result<Reloaded> {
        let start = Instant::now();
        let outcome = self.try_reload().await;
        self.live.reloaded(outcome.is_ok(), start.elapsed());
        let (changes, error) = match &outcome {
            Ok(reloaded) => (told(&reloaded.changes), None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let Asked { trigger, by } = asked;
        self.refused.clone_from(&error);
        let what = What::Reload { applied: error.is_none(), trigger, changes, error, by };
        if outcome.is_ok() {
            log::info!("{what}");
            self.publish();
        } else {
            log::error!("{what}");
        }
        self.controller.events.push(what);
        outcome
    }

    /// What a reload would do; does nothing.
    pub(super) async fn dry_run(&self) -> anyhow::Result<Reloaded> {
        let new = self.names.effective(&self.options.load()?);
        let refused = self.controller.check_reload(&new).await.err();
        let refused = refused.map(|error| format!("{error:#}"));
        Ok(Reloaded { refused, ..answer(&self.controller.config, &new) })
    }

    /// The file may have changed. What has been said of it is not said again.
    pub(super) async fn reload_if_changed(&mut self) {
        let is_news = match self.options.load() {
            Ok(file) => self.names.effective(&file) != self.controller.config,
            Err(error) => self.refused.as_ref() != Some(&format!("{error:#}")),
        };
        if is_news {
            // Said by then.
            let _ = self.reload(Asked { trigger: Trigger::File, by: None }).await;
        }
    }

    /// What is wrong with the file leaves everything as it was.
    async fn try_reload(&mut self) -> anyhow::Result<Reloaded> {
        let file = self.options.load()?;
        let new = self.names.effective(&file);
        self.controller.check_reload(&new).await?;
        let answer = answer(&self.controller.config, &new);
        let old = std::mem::replace(&mut self.controller.config, new);
        if let Err(error) = self.adopt(&old).await {
            self.controller.config = old;
            report("going back to the old configuration", self.controller.refresh().await);
            return Err(error);
        }
        self.controller.share_with();
        self.names.reconcile(file);
        self.notifier.apply(&self.controller.config.notify);
        self.watch_config();
        self.controller.configuration_loaded(super::events::now());
        Ok(Reloaded { applied: true, ..answer })
    }

    pub(super) async fn adopt(&mut self, old: &Config) -> anyhow::Result<()> {
        self.controller.probe();
        self.elect().await?;
        self.controller.reconcile()?;
        self.controller.drop_interfaces(&old.interfaces)?;
        self.controller.refresh().await
    }

    /// Watches the file, or no longer, as the configuration says.
    pub(super) fn watch_config(&mut self) {
        if !self.controller.config.admin.watch_config {
            self.watch = None;
        } else if self.watch.is_none() {
            match Watch::start(&self.options.config) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => log::error!("{error:#}; use `fairlead reload`"),
            }
        }
    }
}

/// Waits until the file may have changed, for ever if nobody watches it.
pub(super) async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

fn answer(old: &Config, new: &Config) -> Reloaded {
    let mut diff = diff::diff(old, new);
    let more = diff.len().saturating_sub(MAX_ANSWERED);
    diff.truncate(MAX_ANSWERED);
    let mut changes: Vec<String> = diff.iter().map(ToString::to_string).collect();
    if more > 0 {
        changes.push(format!("and {more} more"));
    }
    Reloaded { changes, diff, ..Reloaded::default() }
}

fn told(changes: &[String]) -> Vec<String> {
    let mut told: Vec<String> = changes.iter().take(MAX_TOLD).cloned().collect();
    if changes.len() > MAX_TOLD {
        told.push(format!("and {} more", changes.len() - MAX_TOLD));
    }
    told
}
