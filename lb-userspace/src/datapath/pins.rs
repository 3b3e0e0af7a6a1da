//! Where maps and links are pinned, and what is found there.
//!
//! ```text
//! <bpffs>/fairlead/<network namespace>/layout-<version>-<generation>/<MAP>
//!                                                                   /program-<identifier>
//!                                                                   /table-<service>
//!                                     /links/<interface>
//!                                     /sockets/<hook>
//!                                             /<MAP>
//!                                     /egress/<interface>
//! ```
//!
//! Programs and selection tables could be found by their identifiers too, but only with CAP_SYS_ADMIN.
//!
//! The namespace's cookie is part of the path: what is pinned belongs to interfaces of one namespace,
//! and several may share one bpffs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use aya::maps::MapData;
use aya::programs::Xdp;
use lb_common::LAYOUT_VERSION;
use nix::sys::statvfs::FsFlags;

use super::{migrate, sys};

/// Where a bpffs is expected.
pub const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// What a pinned program's name starts with.
const PROGRAM: &str = "program-";

/// The directory of this network namespace.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// A set of maps that belong together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapDir {
    pub layout: u32,
    pub generation: u32,
    pub path: PathBuf,
}

impl Pins {
    /// # Errors
    /// There is no bpffs, or it cannot be written.
    pub fn open() -> anyhow::Result<Self> {
        let statfs = nix::sys::statfs::statfs(BPFFS)
            .with_context(|| format!("looking for a BPF filesystem at {BPFFS}"))?;
        if statfs.filesystem_type().0 != BPF_FS_MAGIC {
            bail!(
                "no BPF filesystem at {BPFFS}, and without one the datapath could not outlive the \
                 controller; mount it: mount -t bpf bpf {BPFFS}"
            );
        }
        if statfs.flags().contains(FsFlags::ST_RDONLY) {
            bail!(
                "the BPF filesystem at {BPFFS} is mounted read-only, so nothing can be pinned, and the \
                 datapath could not outlive the controller; mount it writable: mount -o remount,rw \
                 {BPFFS}, or in a container without `readOnly` and `:ro`. Nothing was changed"
            );
        }
        let namespace =
            || sys::namespace_cookie().context("asking which network namespace this is");
        let root = Path::new(BPFFS).join("fairlead").join(namespace()?.to_string());
        Ok(Self { root })
    }

    pub fn exists(&self) -> bool {
        self.root.exists()
    }

    pub fn create(&self) -> anyhow::Result<()> {
        let links = self.links();
        fs::create_dir_all(&links).with_context(|| format!("creating {}", links.display()))
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(pin_name(interface))
    }

    /// What concerns local clients.
    pub fn sockets(&self) -> PathBuf {
        self.root.join("sockets")
    }

    /// The link of a program for local clients, or one of their maps.
    pub fn socket_hook(&self, name: &str) -> PathBuf {
        self.sockets().join(name)
    }

    /// Interfaces that have a pinned link.
    pub fn linked(&self) -> Vec<String> {
        interfaces(&self.links())
    }

    fn egress(&self) -> PathBuf {
        self.root.join("egress")
    }

    /// Where the link of an interface's egress is, whose directory is there then.
    pub fn create_egress(&self, interface: &str) -> anyhow::Result<PathBuf> {
        let directory = self.egress();
        fs::create_dir_all(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        Ok(self.egress_link(interface))
    }

    pub fn egress_link(&self, interface: &str) -> PathBuf {
        self.egress().join(pin_name(interface))
    }

    /// Interfaces whose egress has a pinned link.
    pub fn egress_linked(&self) -> Vec<String> {
        interfaces(&self.egress())
    }

    /// All sets of maps, oldest first.
    pub fn map_dirs(&self) -> Vec<MapDir> {
        let mut dirs: Vec<MapDir> =
            names(&self.root).iter().filter_map(|name| self.parse(name)).collect();
        dirs.sort_by_key(|dir| dir.generation);
        dirs
    }

    fn parse(&self, name: &str) -> Option<MapDir> {
        let (layout, generation) = name.strip_prefix("layout-")?.split_once('-')?;
        Some(MapDir {
            layout: layout.parse().ok()?,
            generation: generation.parse().ok()?,
            path: self.root.join(name),
        })
    }

    /// A directory for a new set of maps of this version's layout.
    pub fn create_map_dir(&self) -> anyhow::Result<MapDir> {
        let generation = self.map_dirs().last().map_or(1, |dir| dir.generation + 1);
        let path = self.root.join(format!("layout-{LAYOUT_VERSION}-{generation}"));
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(MapDir { layout: LAYOUT_VERSION, generation, path })
    }

    /// The set of maps that the attached program uses; without a program the newest complete one.
    pub fn current(&self) -> Option<MapDir> {
        let linked = self.linked();
        let attached: BTreeSet<u32> =
            linked.iter().filter_map(|interface| program_of_link(&self.link(interface))).collect();
        let dirs = self.map_dirs();
        let in_use = dirs.iter().find(|dir| !dir.programs().is_disjoint(&attached));
        in_use.or_else(|| dirs.iter().rev().find(|dir| dir.is_complete())).cloned()
    }

    /// Removes every pin of this namespace, and the directory above if it is empty then.
    pub fn remove_all(&self) -> anyhow::Result<()> {
        if self.exists() {
            fs::remove_dir_all(&self.root)
                .with_context(|| format!("removing {}", self.root.display()))?;
        }
        if let Some(parent) = self.root.parent()
            && let Err(error) = fs::remove_dir(parent)
            && !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty)
        {
            log::debug!("leaving {}: {error}", parent.display());
        }
        Ok(())
    }
}

impl MapDir {
    /// Pins the program that uses these maps, for [`Pins::current`] of a successor.
    pub fn pin_program(&self, program: &mut Xdp) -> anyhow::Result<()> {
        let id = program.info().context("asking which program was loaded")?.id();
        let path = self.path.join(format!("{PROGRAM}{id}"));
        program.pin(&path).with_context(|| format!("pinning {}", path.display()))
    }

    /// Identifiers of the programs that are pinned here; in use is the last one, or its predecessor.
    fn programs(&self) -> BTreeSet<u32> {
        let parse = |name: &String| name.strip_prefix(PROGRAM)?.parse().ok();
        names(&self.path).iter().filter_map(parse).collect()
    }

    /// Lets go of every program but this one.
    pub fn forget_programs_but(&self, program: &Xdp) -> anyhow::Result<()> {
        let id = program.info().context("asking which program was loaded")?.id();
        for old in self.programs().into_iter().filter(|old| *old != id) {
            let path = self.path.join(format!("{PROGRAM}{old}"));
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }

    /// Pins a service's table, in place of the one before it.
    pub fn pin_table(&self, service: u32, table: &MapData) -> anyhow::Result<()> {
        let (path, new) = (self.table_path(service), self.path.join("new-table"));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", new.display()));
            }
            _ => {}
        }
        table.pin(&new).with_context(|| format!("pinning {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("replacing {}", path.display()))
    }

    /// The table that was last pinned for a service.
    pub fn table(&self, service: u32) -> Option<MapData> {
        MapData::from_pin(self.table_path(service)).ok()
    }

    /// Lets go of a service's table, if it has one.
    pub fn forget_table(&self, service: u32) -> anyhow::Result<()> {
        let path = self.table_path(service);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn table_path(&self, service: u32) -> PathBuf {
        self.path.join(format!("table-{service}"))
    }

    /// It has every map that a successor copies from; others may be of one version alone.
    pub fn is_complete(&self) -> bool {
        migrate::read().all(|name| self.path.join(name).exists())
    }

    pub fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!("leaving {}: {error}", self.path.display());
        }
    }
}

fn program_of_link(path: &Path) -> Option<u32> {
    let link = sys::pinned_object(path).ok()?;
    Some(sys::link_info(link.as_fd()).ok()?.program)
}

/// bpffs refuses names with a dot, which an interface may have.
fn pin_name(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

/// What [`pin_name`] was made of, of every pin in a directory.
fn interfaces(directory: &Path) -> Vec<String> {
    let decode = |name: String| name.replace("%2e", ".").replace("%25", "%");
    names(directory).into_iter().map(decode).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
