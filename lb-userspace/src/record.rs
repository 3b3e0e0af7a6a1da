//! What this node changed outside of bpffs, so that whoever stops or cleans up undoes that and no more.
//!
//! Kept in `/run`, which a reboot empties as it does interfaces. Written before each change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use lb_common::link::LinkId;
use serde::{Deserialize, Serialize};

use crate::datapath::sys;

const DIRECTORY: &str = "/run/fairlead";

/// Changes of one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Addresses that were added, with the interface's name.
    pub vips: BTreeSet<(String, IpAddr)>,
    /// Interfaces whose GRO was switched off.
    pub gro_off: BTreeSet<String>,
    /// Interfaces that took VLAN tags out of received frames, and no longer do.
    pub rxvlan_off: BTreeSet<String>,
    /// Addresses that VRRP adds and removes, likewise: each may be there or not.
    pub elected: BTreeSet<(String, IpAddr)>,
    /// By instance, what a successor has to know of VRRP.
    pub terms: BTreeMap<String, Term>,
    /// The numbers that flows know interfaces by.
    pub links: BTreeMap<String, LinkId>,
    /// What DNS last said of the names in the configuration.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// What has been of backends, as far as their health in the maps does not say it.
    pub pasts: BTreeMap<String, Past>,
}

/// What a successor has to know of a backend to go on with it. Times are nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// How long it must be well before it returns.
    pub hold_ms: u64,
    /// Its last return.
    pub returned: Option<u64>,
    /// When it came back, if it does not have all of its weight yet.
    pub back: Option<u64>,
    /// It said that it was not ready before it went down.
    pub announced: bool,
}

/// An instance of VRRP as its last controller left it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Term {
    /// How many times it has become Active.
    pub term: u64,
}

/// The file of this network namespace.
fn path() -> anyhow::Result<PathBuf> {
    let cookie = sys::namespace_cookie().context("asking which network namespace this is")?;
    Ok(PathBuf::from(format!("{DIRECTORY}/changes-{cookie}.json")))
}

impl Record {
    /// What a predecessor left, or nothing.
    pub fn load() -> anyhow::Result<Self> {
        let path = path()?;
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged; remove it", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Replaces the file in one step; without changes there is none.
    pub fn save(&self) -> anyhow::Result<()> {
        let path = path()?;
        if *self == Self::default() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("removing {}", path.display()))
                }
                _ => Ok(()),
            };
        }
        fs::create_dir_all(DIRECTORY).with_context(|| format!("creating {DIRECTORY}"))?;
        let new = path.with_extension("new");
        let bytes = serde_json::to_vec(self).context("writing down what was changed")?;
        fs::write(&new, bytes).with_context(|| format!("writing {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("replacing {}", path.display()))
    }
}

/// Removes the directory, if nobody else uses it.
pub fn tidy() {
    // That it is in use or not there is as good.
    let _ = fs::remove_dir(DIRECTORY);
}
