//! A value that is made of files, and made again when they change. Used by probes, and by the TCP listener of the
//! API. I/O.

use std::fs::{self, File};
use std::io::{self, Read};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// How often the files are looked at; a use in between costs no system call for them.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A bundle of CAs is a few kilobytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Makes the value of the files' contents; an error says what is wrong, and quotes no secret.
type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// The value, once there is one: a file that cannot be used any more leaves it as it is.
pub(crate) struct Watched<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    state: Mutex<State<T>>,
    /// Held while the value is made first: if a disk hangs, one thread hangs with it, and the others
    /// wait here, where their timeout reaches them.
    first: Arc<tokio::sync::Mutex<()>>,
}

struct State<T> {
    known: Option<Known<T>>,
    looked: Instant,
    /// Somebody looks just now.
    is_looking: bool,
}

struct Known<T> {
    value: T,
    versions: Vec<Version>,
    /// The files cannot be used as they are now; said once.
    is_stale: bool,
}

/// Tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    len: u64,
}

impl<T: Clone + Send + 'static> Watched<T> {
    pub(crate) fn new(
        files: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        let state = State { known: None, looked: Instant::now(), is_looking: false };
        Self { files, make: Box::new(make), state: Mutex::new(state), first: Arc::default() }
    }

    /// The value. Whoever finds that it is time to look at the files again has that done in the
    /// background: only the first value is waited for.
    ///
    /// # Errors
    /// There is none yet, and why.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<T, String> {
        if let Some((value, is_due)) = self.known() {
            if is_due {
                let this = Arc::clone(self);
                spawn_blocking(move || this.look());
            }
            return Ok(value);
        }
        let first = Arc::clone(&self.first).lock_owned().await;
        let this = Arc::clone(self);
        spawn_blocking(move || {
            let _first = first;
            this.first_value()
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Also says whether the caller is to look at the files.
    fn known(&self) -> Option<(T, bool)> {
        let mut state = self.lock();
        let value = state.known.as_ref()?.value.clone();
        let is_due =
            !self.files.is_empty() && !state.is_looking && state.looked.elapsed() >= LOOK_INTERVAL;
        state.is_looking |= is_due;
        Some((value, is_due))
    }

    fn first_value(&self) -> Result<T, String> {
        if let Some(known) = &self.lock().known {
            return Ok(known.value.clone());
        }
        let versions = self.versions()?;
        let value = self.read()?;
        let mut state = self.lock();
        state.looked = Instant::now();
        state.known = Some(Known { value: value.clone(), versions, is_stale: false });
        Ok(value)
    }

    fn look(&self) {
        let newer = self.newer();
        let mut state = self.lock();
        state.is_looking = false;
        state.looked = Instant::now();
        let Some(known) = &mut state.known else { return };
        match newer {
            Ok(None) => known.is_stale = false,
            Ok(Some((value, versions))) => {
                log::info!("{}: read again", self.names());
                *known = Known { value, versions, is_stale: false };
            }
            // Half-way through a rotation; the last is better than none.
            Err(error) => {
                if !mem::replace(&mut known.is_stale, true) {
                    log::warn!("{error}; going on with what was read before");
                }
            }
        }
    }

    /// Nothing: the files are those that were read.
    fn newer(&self) -> Result<Option<(T, Vec<Version>)>, String> {
        // Before the content: what is written in between is found at the next look.
        let versions = self.versions()?;
        if self.lock().known.as_ref().is_some_and(|known| known.versions == versions) {
            return Ok(None);
        }
        Ok(Some((self.read()?, versions)))
    }

    fn versions(&self) -> Result<Vec<Version>, String> {
        let versions = self.files.iter();
        versions.map(|path| version(path).map_err(|error| named(path, error))).collect()
    }

    fn read(&self) -> Result<T, String> {
        let contents = self.files.iter();
        let contents: Vec<_> = contents
            .map(|path| content(path).map_err(|error| named(path, error)))
            .collect::<Result<_, _>>()?;
        (self.make)(&contents).map_err(|error| format!("{}: {error}", self.names()))
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|path| path.display().to_string()).collect();
        names.join(", ")
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn version(path: &Path) -> io::Result<Version> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    Ok(Version {
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        inode: metadata.ino(),
        len: metadata.len(),
    })
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
