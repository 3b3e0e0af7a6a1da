//! What an instance tracks. Pure.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::super::vrrp::{Effect, Track, TrackedBackends, TrackedFile, TrackedInterface};
use super::super::reader::Reader;
use super::super::scalar::quoted;
use super::super::{Field, Spot, scalar};
use super::VrrpFile;

const WEIGHT: RangeInclusive<i16> = -253..=253;
const BACKENDS_WEIGHT: RangeInclusive<i16> = -253..=0;
const MINIMUM: RangeInclusive<u32> = 1..=1024;
const LONGEST_HOLD: Duration = Duration::from_secs(3600);
/// Enough that another node with the usual priorities takes over.
const DATAPATH: Effect = Effect { weight: -50, reverse: false };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrackFile {
    interfaces: Option<Spanned<Vec<Spanned<InterfaceFile>>>>,
    files: Option<Spanned<Vec<Spanned<FileFile>>>>,
    backends: Option<Spanned<BackendsFile>>,
    datapath: Option<Spanned<DatapathFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceFile {
    name: Field,
    weight: Field,
    reverse: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFile {
    path: Field,
    weight: Field,
    reverse: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendsFile {
    weight: Field,
    minimum: Field,
    hold: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatapathFile {
    weight: Field,
}

impl Reader<'_> {
    /// With `preempt: false` nothing is tracked by default: a lower priority would move nothing.
    pub(super) fn track(&mut self, scope: &Spot, file: &VrrpFile, preempt: bool) -> Track {
        let default = Track {
            backends: preempt.then(TrackedBackends::default),
            datapath: preempt.then_some(DATAPATH),
            ..Track::default()
        };
        let Some(file) = &file.track else { return default };
        let scope = scope.of("track", file);
        let TrackFile { interfaces, files, backends, datapath } = &file.value;
        Track {
            interfaces: interfaces
                .as_ref()
                .map(|list| self.tracked_interfaces(&scope.of("interfaces", list), list, preempt))
                .unwrap_or_default(),
            files: files
                .as_ref()
                .map(|list| self.tracked_files(&scope.of("files", list), list, preempt))
                .unwrap_or_default(),
            backends: backends.as_ref().map_or(default.backends, |file| {
                self.tracked_backends(&scope.of("backends", file), &file.value, preempt)
            }),
            datapath: datapath.as_ref().map_or(default.datapath, |file| {
                let scope = scope.of("datapath", file);
                let weight = self.weight(&scope, &file.value.weight, DATAPATH.weight, preempt);
                Some(Effect { weight, reverse: false })
            }),
        }
    }

    fn tracked_interfaces(
        &mut self,
        scope: &Spot,
        list: &Spanned<Vec<Spanned<InterfaceFile>>>,
        preempt: bool,
    ) -> Vec<TrackedInterface> {
        let mut tracked = Vec::new();
        for (index, file) in list.value.iter().enumerate() {
            let spot = scope.element(index, file);
            let InterfaceFile { name, weight, reverse } = &file.value;
            let Some(name) = name else {
                self.missing(&spot, "name", "`name: eth1`");
                continue;
            };
            let effect = Effect {
                weight: self.weight(&spot, weight, 0, preempt),
                reverse: self.boolean(&spot.field("reverse", reverse), reverse),
            };
            if let Some(name) = self.accept(&spot.of("name", name), scalar::interface(&name.value))
            {
                tracked.push(TrackedInterface { name, effect });
            }
        }
        tracked
    }

    fn tracked_files(
        &mut self,
        scope: &Spot,
        list: &Spanned<Vec<Spanned<FileFile>>>,
        preempt: bool,
    ) -> Vec<TrackedFile> {
        let mut tracked = Vec::new();
        for (index, file) in list.value.iter().enumerate() {
            let spot = scope.element(index, file);
            let FileFile { path, weight, reverse } = &file.value;
            let Some(path) = path else {
                self.missing(&spot, "path", "`path: /run/fairlead/maintenance`");
                continue;
            };
            let effect = Effect {
                weight: self.weight(&spot, weight, i16::from(preempt), preempt),
                reverse: self.boolean(&spot.field("reverse", reverse), reverse),
            };
            let text = &path.value;
            if !text.starts_with('/') {
                let shown = quoted(text);
                self.wrong(
                    &spot.of("path", path),
                    format_args!(
                        "{shown} is not an absolute path; write one such as \
                         /run/fairlead/maintenance"
                    ),
                );
            }
            tracked.push(TrackedFile { path: PathBuf::from(text), effect });
        }
        tracked
    }

    /// Weight 0 tracks nothing, it is no fault: all nodes may lose the backends together.
    fn tracked_backends(
        &mut self,
        scope: &Spot,
        file: &BackendsFile,
        preempt: bool,
    ) -> Option<TrackedBackends> {
        let BackendsFile { weight, minimum, hold } = file;
        let default = TrackedBackends::default();
        let spot = scope.field("weight", weight);
        let usual = if preempt { default.weight } else { 0 };
        let weight = self.number(&spot, weight, &BACKENDS_WEIGHT, usual);
        self.no_weight_without_preempt(&spot, weight, preempt);
        let tracked = TrackedBackends {
            weight,
            minimum: self.number(
                &scope.field("minimum", minimum),
                minimum,
                &MINIMUM,
                default.minimum,
            ),
            hold: self.duration(
                &scope.field("hold", hold),
                hold,
                &(Duration::ZERO..=LONGEST_HOLD),
                default.hold,
            ),
        };
        (weight != 0).then_some(tracked)
    }

    fn weight(&mut self, scope: &Spot, field: &Field, default: i16, preempt: bool) -> i16 {
        let spot = scope.field("weight", field);
        let default = if preempt { default } else { 0 };
        let weight = self.number(&spot, field, &WEIGHT, default);
        self.no_weight_without_preempt(&spot, weight, preempt);
        weight
    }

    fn no_weight_without_preempt(&mut self, spot: &Spot, weight: i16, preempt: bool) {
        if !preempt && weight != 0 {
            self.wrong(
                spot,
                "with `preempt: false` a lower priority moves nothing; write `preempt: true`, or \
                 remove the weight",
            );
        }
    }
}
