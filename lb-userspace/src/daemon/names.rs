//! What the main loop does when the addresses of a name change: the same as for a reload. I/O.

use super::events::{Loop, report};
use crate::admin::model;
use crate::config::diff;

impl Loop<'_> {
    pub(super) async fn follow_names(&mut self) {
        for what in self.names.news() {
            self.controller.events.push(what);
        }
        let new = self.names.current();
        let changes = diff::diff(&self.controller.config, &new);
        if new != self.controller.config {
            let old = std::mem::replace(&mut self.controller.config, new);
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            log::info!("names changed: {}", changes.join("; "));
            report("after a name changed", self.adopt(&old).await);
        }
        let recorded = self.controller.vips.record_names(self.names.to_record());
        report("writing down what names are", recorded);
        let answers = self.names.answers();
        let names = answers.iter().map(|(name, answer)| model::Name::new(name, answer));
        self.controller.names_found(names.collect());
        self.publish();
    }

    /// DNS servers are asked from no VIP.
    pub(super) fn bind_names(&self) {
        let (vips, snapshot) = (self.controller.config.vips(), &self.controller.snapshot);
        self.names.set_sources(|server| snapshot.source_for(server, &vips));
    }
}
