//! The log of connections. Pure.

use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::flow_log::{FlowLog, Output};
use super::reader::Reader;
use super::{Field, Spot};

const SAMPLE: std::ops::RangeInclusive<u32> = 1..=1_000_000;
/// What stands for standard output.
const STDOUT: &str = "stdout";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowLogFile {
    file: Field,
    sample: Field,
}

impl Reader<'_> {
    pub(super) fn flow_log(
        &mut self,
        root: &Spot,
        file: Option<&Spanned<FlowLogFile>>,
    ) -> Option<FlowLog> {
        let file = file?;
        let scope = root.of("flow_log", file);
        let FlowLogFile { file, sample } = &file.value;
        let sample = self.number(&scope.field("sample", sample), sample, &SAMPLE, 1);
        let Some(path) = file else {
            self.missing(
                &scope,
                "file",
                "where its lines go: /var/log/fairlead/flows.json, or stdout",
            );
            return None;
        };
        if path.value == STDOUT {
            return Some(FlowLog { file: Output::Stdout, sample });
        }
        let spot = scope.of("file", path);
        self.file_path(&spot, &path.value, "/var/log/fairlead/flows.json, or stdout");
        Some(FlowLog { file: Output::File(PathBuf::from(&path.value)), sample })
    }
}
