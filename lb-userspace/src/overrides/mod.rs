//! What operators have said of backends at run time, which holds until they undo it: over reloads,
//! restarts and upgrades. `store` keeps it in a file, `lock` keeps that to one controller. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::admin::model::{self, Admin, BackendChange, Peer, Said};
use crate::control::desired::{self, BackendName, Override};

pub mod lock;
pub mod store;

/// More are refused: the whole file is written at each change.
pub const MAX_ENTRIES: usize = 10_000;

/// As in the configuration.
const MAX_WEIGHT: u16 = 1000;

const VERSION: u32 = 1;

/// What is said of every backend that something is said of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    said: BTreeMap<BackendName, Entry>,
    /// The same, as `desired` wants it.
    effective: BTreeMap<BackendName, Override>,
}

/// What is said of one backend; at least one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    admin: Option<Said<Admin>>,
    weight: Option<Said<u16>>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    overrides: Vec<Line>,
}

/// The file's version: read before anything else.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    service: String,
    backend: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin: Option<Said<Admin>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<Said<u16>>,
}

/// What cannot be taken from a file.
#[derive(Debug, Error)]
pub enum Damage {
    #[error("it is not what a controller writes: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("it is of version {0}; this program knows version {VERSION}")]
    Version(u32),
    #[error("a weight of {0} is more than {MAX_WEIGHT}")]
    Weight(u16),
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// There are [`MAX_ENTRIES`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "{MAX_ENTRIES} backends are overridden already; undo some (fairlead backend reset), or change \
     the configuration instead"
)]
pub struct Full;

impl Overrides {
    /// For `desired`.
    pub const fn effective(&self) -> &BTreeMap<BackendName, Override> {
        &self.effective
    }

    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    pub fn contains(&self, name: &BackendName) -> bool {
        self.said.contains_key(name)
    }

    /// Takes what an operator says. What is said again keeps its time and author.
    pub fn change(
        &mut self,
        name: BackendName,
        change: &BackendChange,
        now: &str,
        by: Option<Peer>,
    ) -> Result<(), Full> {
        let mut entry = self.said.get(&name).cloned().unwrap_or_default();
        if let Some(admin) = change.admin {
            let wanted = (admin != Admin::Enabled).then_some(admin);
            replace(&mut entry.admin, wanted, now, by);
        }
        if change.reset_weight {
            entry.weight = None;
        }
        if change.weight.is_some() {
            replace(&mut entry.weight, change.weight, now, by);
        }
        if entry == Entry::default() {
            self.said.remove(&name);
            self.effective.remove(&name);
            return Ok(());
        }
        if self.said.len() >= MAX_ENTRIES && !self.said.contains_key(&name) {
            return Err(Full);
        }
        self.effective.insert(name.clone(), effective(&entry));
        self.said.insert(name, entry);
        Ok(())
    }

    /// For `status`; `is_configured` says whether there is such a backend.
    pub fn list(&self, is_configured: impl Fn(&BackendName) -> bool) -> Vec<model::Override> {
        let entry = |(name, entry): (&BackendName, &Entry)| model::Override {
            service: name.0.clone(),
            backend: name.1.clone(),
            configured: is_configured(name),
            admin: entry.admin.clone(),
            weight: entry.weight.clone(),
        };
        self.said.iter().map(entry).collect()
    }

    /// What is written to the file.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let line = |(name, entry): (&BackendName, &Entry)| Line {
            service: name.0.clone(),
            backend: name.1.clone(),
            admin: entry.admin.clone(),
            weight: entry.weight.clone(),
        };
        let overrides = self.said.iter().map(line).collect();
        serde_json::to_vec_pretty(&Document { version: VERSION, overrides })
    }

    /// What is read from it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Damage> {
        let Version { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let document: Document = serde_json::from_slice(bytes)?;
        if document.overrides.len() > MAX_ENTRIES {
            return Err(Damage::TooMany);
        }
        let mut overrides = Self::default();
        for Line { service, backend, admin, weight } in document.overrides {
            if let Some(weight) = weight.as_ref().filter(|weight| weight.value > MAX_WEIGHT) {
                return Err(Damage::Weight(weight.value));
            }
            let admin = admin.filter(|admin| admin.value != Admin::Enabled);
            let entry = Entry { admin, weight };
            if entry != Entry::default() {
                let name = (service, backend);
                overrides.effective.insert(name.clone(), effective(&entry));
                overrides.said.insert(name, entry);
            }
        }
        Ok(overrides)
    }
}

fn replace<T: PartialEq>(
    said: &mut Option<Said<T>>,
    wanted: Option<T>,
    now: &str,
    by: Option<Peer>,
) {
    if said.as_ref().map(|said| &said.value) != wanted.as_ref() {
        *said = wanted.map(|value| Said { value, since: now.to_owned(), by });
    }
}

fn effective(entry: &Entry) -> Override {
    let admin = match entry.admin.as_ref().map_or(Admin::Enabled, |said| said.value) {
        Admin::Enabled => desired::Admin::Enabled,
        Admin::Draining => desired::Admin::Draining,
        Admin::Disabled => desired::Admin::Disabled,
    };
    Override { admin, weight: entry.weight.as_ref().map(|said| said.value) }
}

#[cfg(test)]
mod tests;
