//! What operators say of backends: done at once, and written down for the next start.

use tokio::sync::oneshot;

use super::events::{Loop, now};
use crate::admin::model::{BackendChange, Peer, StateFile, What};
use crate::control::desired::BackendName;
use crate::overrides::store;

/// The answer to a change: `Some` says why it will be forgotten.
pub(super) type Reply = oneshot::Sender<Result<Option<String>, String>>;

impl Loop<'_> {
    /// Does what an operator says; answers when it is on the disk.
    pub(super) fn set_backend(
        &mut self,
        name: BackendName,
        change: BackendChange,
        by: Option<Peer>,
        reply: Reply,
    ) {
        if let Err(error) = self.say(name, change, by) {
            // Who asked may have gone.
            let _ = reply.send(Err(format!("{error:#}")));
            return;
        }
        let written = self.writer.write(self.controller.overrides.clone());
        tokio::spawn(async move {
            let written = written.await;
            let gone = || Err("the controller is ending".to_owned());
            let not_kept = written.unwrap_or_else(|_| gone()).err();
            let _ = reply.send(Ok(not_kept));
        });
    }

    fn say(
        &mut self,
        name: BackendName,
        change: BackendChange,
        by: Option<Peer>,
    ) -> anyhow::Result<()> {
        let known = self.controller.config.services.iter().any(|service| {
            service.name == name.0 && service.backends.iter().any(|b| b.name == name.1)
        });
        // What was said of a backend that is no longer configured can be undone.
        let known = known || self.controller.overrides.contains(&name);
        anyhow::ensure!(known, "there is no backend {}/{}", name.0, name.1);
        self.controller.overrides.change(name.clone(), &change, &now(), by)?;
        let BackendChange { admin, weight, reset_weight } = change;
        let (service, backend) = name;
        let what = What::Admin { service, backend, admin, weight, reset_weight, by };
        log::info!("{what}");
        self.controller.events.push(what);
        self.controller.reconcile()
    }

    /// For `status`.
    pub(super) fn state_file(&self) -> StateFile {
        let path = store::path(&self.controller.config.admin).display().to_string();
        StateFile { path, error: self.writer.trouble() }
    }
}
