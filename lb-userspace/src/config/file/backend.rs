//! The backends of one service. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_saphyr::Spanned;

use super::super::{Backend, NamedBackends};
use super::reader::Reader;
use super::service::PORT;
use super::{BackendFile, ServiceFile, Spot, scalar};

const WEIGHT: RangeInclusive<u16> = 0..=1000;
const DEFAULT_WEIGHT: u16 = 100;
const MAX_BACKENDS: usize = 1024;

/// What `backends` holds: those with an address, and those that are looked up.
pub(super) type Backends = (Vec<Backend>, Vec<NamedBackends>);

/// One element of `backends`.
enum Entry {
    At(Backend),
    Named(NamedBackends),
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::At(backend) => &backend.name,
            Self::Named(named) => &named.name,
        }
    }

    const fn weight(&self) -> u16 {
        match self {
            Self::At(backend) => backend.weight,
            Self::Named(named) => named.weight,
        }
    }
}

impl Reader<'_> {
    pub(super) fn backends(&mut self, scope: &Spot, file: &ServiceFile, port: u16) -> Backends {
        let example = "`backends:` with a name and an address for each apiserver";
        let Some(list) = &file.backends else {
            self.missing(scope, "backends", example);
            return Backends::default();
        };
        let scope = scope.of("backends", list);
        if list.value.is_empty() {
            self.wrong(&scope, format_args!("is empty; write {example}"));
        } else if list.value.len() > MAX_BACKENDS {
            let count = list.value.len();
            self.wrong(&scope, format_args!("{count} are too many; keep at most {MAX_BACKENDS}"));
            return Backends::default();
        }
        let entries = self.distinct_backends(&scope, &list.value, port);
        let is_complete = entries.len() == list.value.len();
        if is_complete && !entries.is_empty() && entries.iter().all(|it| it.weight() == 0) {
            self.wrong(
                &scope,
                "no weight is above 0, so none could be used; give one a weight from 1 to 1000",
            );
        }
        let (mut backends, mut names) = Backends::default();
        for entry in entries {
            match entry {
                Entry::At(backend) => backends.push(backend),
                Entry::Named(named) => names.push(named),
            }
        }
        (backends, names)
    }

    fn distinct_backends(
        &mut self,
        scope: &Spot,
        files: &[Spanned<BackendFile>],
        port: u16,
    ) -> Vec<Entry> {
        let mut names = BTreeMap::new();
        let mut endpoints = BTreeMap::new();
        let mut hosts = BTreeMap::new();
        let mut entries = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let scope = scope.element(index, file);
            let Some(entry) = self.backend(&scope, &file.value, port) else {
                continue;
            };
            if let Some(other) = names.insert(entry.name().to_owned(), index) {
                self.wrong(
                    &scope.field("name", &file.value.name),
                    format_args!(
                        "backends[{other}] is called {} too; give each its own name",
                        entry.name()
                    ),
                );
            }
            let (key, field, other, shown) = match &entry {
                Entry::At(backend) => {
                    let endpoint = backend.endpoint();
                    let other = endpoints.insert(endpoint, index);
                    ("address", &file.value.address, other, endpoint.to_string())
                }
                Entry::Named(NamedBackends { host, port, .. }) => {
                    let other = hosts.insert((host.clone(), *port), index);
                    ("host", &file.value.host, other, format!("{host}:{port}"))
                }
            };
            if let Some(other) = other {
                self.wrong(
                    &scope.field(key, field),
                    format_args!("backends[{other}] is at {shown} too; remove one of the two"),
                );
            }
            entries.push(entry);
        }
        entries
    }

    fn backend(&mut self, scope: &Spot, file: &BackendFile, port: u16) -> Option<Entry> {
        let BackendFile { name, address, host, port: own, weight } = file;
        if name.is_none() {
            self.missing(scope, "name", "a name that is the same on every node: `name: cp1`");
        }
        let port = self.number(&scope.field("port", own), own, &PORT, port);
        let weight = self.number(&scope.field("weight", weight), weight, &WEIGHT, DEFAULT_WEIGHT);
        let name = name
            .as_ref()
            .and_then(|it| self.accept(&scope.of("name", it), scalar::name(&it.value)));
        match (address, host) {
            (Some(_), Some(host)) => {
                self.wrong(
                    &scope.of("host", host),
                    "`address` is there too; remove one of the two",
                );
                None
            }
            (None, None) => {
                self.missing(scope, "address", "the apiserver's own address: `address: 10.0.0.11`");
                None
            }
            (Some(it), None) => {
                let address = scalar::backend_address(&it.value);
                let address = self.accept(&scope.of("address", it), address);
                Some(Entry::At(Backend { name: name?, address: address?, port, weight }))
            }
            (None, Some(it)) => {
                let host = self.accept(&scope.of("host", it), scalar::host(&it.value));
                Some(Entry::Named(NamedBackends { name: name?, host: host?, port, weight }))
            }
        }
    }
}
