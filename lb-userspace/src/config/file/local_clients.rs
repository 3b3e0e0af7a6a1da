//! Whether clients on this node itself are led to backends. Pure.

use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::local_clients::{Enabled, LocalClients};
use super::reader::Reader;
use super::{Field, Spot};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalClientsFile {
    enabled: Field,
    cgroup: Field,
    end_in_pods: Field,
}

/// The words of `enabled`; the first is the default.
const CHOICES: [(&str, Enabled); 3] =
    [("auto", Enabled::Auto), ("true", Enabled::Always), ("false", Enabled::Never)];

impl Reader<'_> {
    pub(super) fn local_clients(
        &mut self,
        root: &Spot,
        file: Option<&Spanned<LocalClientsFile>>,
    ) -> LocalClients {
        let Some(file) = file else { return LocalClients::default() };
        let scope = root.of("local_clients", file);
        let LocalClientsFile { enabled, cgroup, end_in_pods } = &file.value;
        let enabled = self.choice(&scope.field("enabled", enabled), enabled, &CHOICES);
        let cgroup = cgroup.as_ref().map(|path| {
            self.file_path(&scope.of("cgroup", path), &path.value, "/sys/fs/cgroup/kubepods.slice");
            PathBuf::from(&path.value)
        });
        let end_in_pods = self.boolean(&scope.field("end_in_pods", end_in_pods), end_in_pods);
        LocalClients { enabled: enabled.unwrap_or_default(), cgroup, end_in_pods }
    }
}
