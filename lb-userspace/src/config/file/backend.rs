//! The backends of one service. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_saphyr::Spanned;

use super::super::Backend;
use super::reader::Reader;
use super::service::PORT;
use super::{BackendFile, ServiceFile, Spot, scalar};

const WEIGHT: RangeInclusive<u16> = 0..=1000;
const DEFAULT_WEIGHT: u16 = 100;
const MAX_BACKENDS: usize = 1024;

impl Reader<'_> {
    pub(super) fn backends(&mut self, scope: &Spot, file: &ServiceFile, port: u16) -> Vec<Backend> {
        let example = "`backends:` with a name and an address for each apiserver";
        let Some(list) = &file.backends else {
            self.missing(scope, "backends", example);
            return Vec::new();
        };
        let scope = scope.of("backends", list);
        if list.value.is_empty() {
            self.wrong(&scope, format_args!("is empty; write {example}"));
        } else if list.value.len() > MAX_BACKENDS {
            let count = list.value.len();
            self.wrong(&scope, format_args!("{count} are too many; keep at most {MAX_BACKENDS}"));
            return Vec::new();
        }
        let backends = self.distinct_backends(&scope, &list.value, port);
        let is_complete = backends.len() == list.value.len();
        if is_complete && !backends.is_empty() && backends.iter().all(|it| it.weight == 0) {
            self.wrong(
                &scope,
                "no weight is above 0, so none could be used; give one a weight from 1 to 1000",
            );
        }
        backends
    }

    fn distinct_backends(
        &mut self,
        scope: &Spot,
        files: &[Spanned<BackendFile>],
        port: u16,
    ) -> Vec<Backend> {
        let mut names = BTreeMap::new();
        let mut endpoints = BTreeMap::new();
        let mut backends = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let scope = scope.element(index, file);
            let Some(backend) = self.backend(&scope, &file.value, port) else {
                continue;
            };
            if let Some(other) = names.insert(backend.name.clone(), index) {
                self.wrong(
                    &scope.field("name", &file.value.name),
                    format_args!(
                        "backends[{other}] is called {} too; give each its own name",
                        backend.name
                    ),
                );
            }
            if let Some(other) = endpoints.insert(backend.endpoint(), index) {
                self.wrong(
                    &scope.field("address", &file.value.address),
                    format_args!(
                        "backends[{other}] is at {} too; remove one of the two",
                        backend.endpoint()
                    ),
                );
            }
            backends.push(backend);
        }
        backends
    }

    fn backend(&mut self, scope: &Spot, file: &BackendFile, port: u16) -> Option<Backend> {
        let BackendFile { name, address, port: own, weight } = file;
        if name.is_none() {
            self.missing(scope, "name", "a name that is the same on every node: `name: cp1`");
        }
        if address.is_none() {
            self.missing(scope, "address", "the apiserver's own address: `address: 10.0.0.11`");
        }
        let port = self.number(&scope.field("port", own), own, &PORT, port);
        let weight = self.number(&scope.field("weight", weight), weight, &WEIGHT, DEFAULT_WEIGHT);
        let name = name
            .as_ref()
            .and_then(|it| self.accept(&scope.of("name", it), scalar::name(&it.value)));
        let address = address.as_ref().and_then(|it| {
            self.accept(&scope.of("address", it), scalar::backend_address(&it.value))
        });
        Some(Backend { name: name?, address: address?, port, weight })
    }
}
