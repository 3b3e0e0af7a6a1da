//! The file that overrides are kept in. I/O: read by the daemon at its start and by `check`; written by a
//! task of its own, so that a slow disk does not keep the controller waiting.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Overrides;
use crate::config::{self, DEFAULT_SOCKET};

/// Where the file is, unless systemd or the configuration say otherwise.
const DIRECTORY: &str = "/var/lib/fairlead";
/// Ten thousand entries are a fifth of it.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// After a failure.
const RETRY: Duration = Duration::from_secs(10);
/// For the last write, at the end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the overrides of a controller are kept. Controllers have sockets of their own, so they have files
/// of their own: several may run on one machine.
pub fn path(admin: &config::Admin) -> PathBuf {
    if let Some(path) = &admin.state_file {
        return path.clone();
    }
    // Set by systemd for StateDirectory=; of several, the first.
    let directory = std::env::var_os("STATE_DIRECTORY").and_then(|list| first(&list));
    let directory = directory.unwrap_or_else(|| PathBuf::from(DIRECTORY));
    if admin.socket == Path::new(DEFAULT_SOCKET) {
        return directory.join("overrides.json");
    }
    let socket = admin.socket.to_string_lossy().trim_start_matches('/').replace('/', "-");
    directory.join(format!("overrides-{socket}.json"))
}

fn first(list: &OsString) -> Option<PathBuf> {
    let list = list.to_str()?;
    let first = list.split(':').next().filter(|path| path.starts_with('/'))?;
    Some(PathBuf::from(first))
}

/// What a predecessor left; changes nothing.
///
/// # Errors
/// There is a file, and it cannot be used.
pub fn read(path: &Path) -> anyhow::Result<Overrides> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Overrides::default()),
        file => file.with_context(|| format!("opening {}", path.display()))?,
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES).read_to_end(&mut bytes);
    read.with_context(|| format!("reading {}", path.display()))?;
    Overrides::from_json(&bytes).with_context(|| format!("{} is damaged", path.display()))
}

/// The same for a controller that starts: what cannot be used is put aside, and said, but keeps nothing
/// from starting.
pub fn load(path: &Path) -> (Overrides, Option<String>) {
    let error = match read(path) {
        Ok(overrides) => return (overrides, None),
        Err(error) => error,
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let aside = PathBuf::from(aside);
    let moved = match fs::rename(path, &aside) {
        Ok(()) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it cannot be put aside: {error}"),
    };
    let trouble = format!(
        "{error:#}; {moved}; backends that were drained, disabled or weighed by command no longer are"
    );
    (Overrides::default(), Some(trouble))
}

/// Replaces the file in one step; it is on the disk when this returns. Without overrides there is none.
pub fn save(path: &Path, overrides: &Overrides) -> anyhow::Result<()> {
    let shown = path.display();
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    if overrides.is_empty() {
        return match fs::remove_file(path) {
            Ok(()) => sync(directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("removing {shown}")),
        };
    }
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let bytes = overrides.to_json().context("writing down overrides")?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let written = options.and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.with_context(|| format!("writing {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("replacing {shown}"))?;
    sync(directory)
}

/// A name is on the disk when its directory is.
fn sync(directory: &Path) -> anyhow::Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("syncing {}", directory.display()))
}

/// Something to write, and whom to tell.
struct Job {
    overrides: Overrides,
    done: oneshot::Sender<Result<(), String>>,
}

/// Writes in the background, in order; what it cannot write it tries again.
pub struct Writer {
    jobs: Option<mpsc::UnboundedSender<Job>>,
    trouble: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Must be called within a tokio runtime.
    pub fn start(path: PathBuf) -> Self {
        let (jobs, receiver) = mpsc::unbounded_channel();
        let (sender, trouble) = watch::channel(None);
        let task = tokio::spawn(write(path, receiver, sender));
        Self { jobs: Some(jobs), trouble, task }
    }

    /// Has this written. The answer comes when it is on the disk, or cannot be put there for the moment.
    pub fn write(&self, overrides: Overrides) -> oneshot::Receiver<Result<(), String>> {
        let (done, answer) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // Whoever waits for an answer sees that the task is gone.
            let _ = jobs.send(Job { overrides, done });
        }
        answer
    }

    /// Why what was said last is not on the disk.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Waits for what is still to be written, but not for ever.
    pub async fn finish(mut self) {
        drop(self.jobs.take());
        if timeout(END_TIMEOUT, &mut self.task).await.is_err() {
            log::error!("writing down overrides takes too long; the last ones may be lost");
        }
    }
}

async fn write(
    path: PathBuf,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    trouble: watch::Sender<Option<String>>,
) {
    let mut unwritten: Option<Overrides> = None;
    loop {
        let job = tokio::select! {
            job = jobs.recv() => job,
            () = sleep(RETRY), if unwritten.is_some() => None,
        };
        let is_end = job.is_none() && jobs.is_closed();
        let mut waiting: Vec<Job> = job.into_iter().collect();
        while let Ok(job) = jobs.try_recv() {
            waiting.push(job);
        }
        let before = unwritten.take();
        let latest = waiting.last().map(|job| job.overrides.clone()).or(before);
        let Some(overrides) = latest else { return };
        let outcome = save_apart(path.clone(), overrides.clone()).await;
        if let Err(error) = &outcome {
            log::error!("overrides will be forgotten at the next start: {error}; trying again");
            unwritten = Some(overrides);
        }
        trouble.send_replace(outcome.clone().err());
        for job in waiting {
            // Who asked may have gone.
            let _ = job.done.send(outcome.clone());
        }
        if is_end {
            return;
        }
    }
}

async fn save_apart(path: PathBuf, overrides: Overrides) -> Result<(), String> {
    let saved = tokio::task::spawn_blocking(move || save(&path, &overrides)).await;
    match saved {
        Ok(saved) => saved.map_err(|error| format!("{error:#}")),
        Err(error) => Err(format!("writing down overrides: {error}")),
    }
}

#[cfg(test)]
mod tests;
