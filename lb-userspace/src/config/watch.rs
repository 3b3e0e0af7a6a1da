//! Notices when the configuration's file changes: by inotify on the directories that lead to it, since
//! editors rename a new file over the old one, and a ConfigMap swaps a link to a directory. I/O; the
//! daemon's loop waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// Several writes are one change. An editor may write, rename and change the mode.
const SETTLE: Duration = Duration::from_millis(300);
/// From the first of a series of writes that does not end.
const LONGEST: Duration = Duration::from_secs(3);
/// Directories may be made again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// As the kernel follows at most.
const MAX_LINKS: usize = 40;

/// Watches one file.
pub struct Watch {
    file: PathBuf,
    inotify: AsyncFd<Owned>,
    directories: BTreeMap<WatchDescriptor, PathBuf>,
    /// When the first change was seen that nobody was told of, and the last one.
    pending: Option<(Instant, Instant)>,
    look_again: Instant,
}

/// For the runtime, which wants a number.
struct Owned(Inotify);

impl AsRawFd for Owned {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    /// Must be called within a tokio runtime.
    pub fn start(file: &Path) -> anyhow::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .context("watching the configuration's file")?;
        // SAFETY: `Owned` owns its descriptor, which stays open for as long as it lives.
        let registered = unsafe { AsyncFd::register(Owned(inotify)) };
        let mut watch = Self {
            file: file.to_owned(),
            inotify: registered.context("watching the configuration's file")?,
            directories: BTreeMap::new(),
            pending: None,
            look_again: Instant::now() + LOOK_AGAIN,
        };
        watch.look();
        Ok(watch)
    }

    /// Waits until something has changed about the file, and a little longer, until it is quiet. May be
    /// cancelled.
    pub async fn changed(&mut self) {
        loop {
            let settled = self.pending.map(|(first, last)| (first + LONGEST).min(last + SETTLE));
            tokio::select! {
                readable = self.inotify.readable() => match readable {
                    Ok(mut guard) => {
                        let read = guard.get_inner().0.read_events();
                        match read {
                            // What happened matters little: the file is read again.
                            Ok(_) | Err(Errno::EINTR) => self.note(),
                            Err(Errno::EAGAIN) => guard.clear_ready(),
                            Err(error) => {
                                log::warn!("watching the configuration's file: {error}");
                                guard.clear_ready();
                            }
                        }
                    }
                    Err(error) => {
                        log::error!("watching the configuration's file: {error}");
                        std::future::pending().await
                    }
                },
                () = sleep_until(settled.unwrap_or(self.look_again)) => {
                    let is_new = self.look();
                    if settled.is_some() {
                        self.pending = None;
                        return;
                    }
                    if is_new {
                        self.note();
                    }
                }
            }
        }
    }

    fn note(&mut self) {
        let now = Instant::now();
        let first = self.pending.map_or(now, |(first, _)| first);
        self.pending = Some((first, now));
    }

    /// Watches the directories that lead to the file; whether there is one that was not watched.
    fn look(&mut self) -> bool {
        self.look_again = Instant::now() + LOOK_AGAIN;
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let inotify = &self.inotify.get_ref().0;
        let mut found = BTreeMap::new();
        for directory in directories(&self.file) {
            // A directory that is watched already has the descriptor that it had.
            if let Ok(descriptor) = inotify.add_watch(&directory, flags) {
                found.insert(descriptor, directory);
            }
        }
        let is_new = found.keys().any(|it| !self.directories.contains_key(it));
        for descriptor in self.directories.keys().filter(|it| !found.contains_key(it)) {
            // The kernel has removed it with its directory, maybe.
            let _ = inotify.rm_watch(*descriptor);
        }
        self.directories = found;
        is_new
    }
}

/// Those that hold the file and each link on the way to it.
fn directories(file: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut at = file.to_owned();
    for _ in 0..MAX_LINKS {
        let directory = match at.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        // A link to a directory, as in a ConfigMap, is swapped in the directory that it is in.
        if let Some(parent) = directory.parent() {
            directories.insert(parent.to_owned());
        }
        directories.insert(directory.clone());
        match std::fs::read_link(&at) {
            Ok(target) => at = directory.join(target),
            Err(_) => break,
        }
    }
    directories.retain(|directory| !directory.as_os_str().is_empty());
    directories
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_file_that_is_written_or_replaced_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("etc/f.yaml");
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::write(&file, "a").unwrap();
        let mut watch = Watch::start(&file).unwrap();
        fs::write(&file, "b").unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
        let new = directory.path().join("etc/.f.yaml.swp");
        fs::write(&new, "c").unwrap();
        fs::rename(&new, &file).unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
        fs::remove_file(&file).unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
        // Nothing more happens: there is nothing to be told.
        let quiet = timeout(SETTLE * 3, watch.changed()).await;
        assert!(quiet.is_err());
    }

    /// As kubelet does it: `..data` is a link to a directory, and is replaced by rename.
    #[tokio::test]
    async fn a_config_map_that_is_swapped_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (name, text) in [("..1", "a"), ("..2", "b"), ("..3", "c")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("f.yaml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/f.yaml", at("f.yaml")).unwrap();
        let mut watch = Watch::start(&at("f.yaml")).unwrap();
        for (old, new) in [("..1", "..2"), ("..2", "..3")] {
            symlink(new, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            fs::remove_dir_all(at(old)).unwrap();
            timeout(SOON, watch.changed()).await.unwrap();
        }
        // The directory that the file is in by now is watched too.
        fs::write(at("..3/f.yaml"), "d").unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
    }

    #[test]
    fn every_directory_on_the_way_is_watched() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("etc")).unwrap();
        fs::create_dir(at("opt")).unwrap();
        fs::write(at("opt/real.yaml"), "").unwrap();
        symlink("../opt/real.yaml", at("etc/f.yaml")).unwrap();
        let found = directories(&at("etc/f.yaml"));
        assert!(found.contains(&at("etc")) && found.contains(&at("etc/../opt")), "{found:?}");
    }
}
