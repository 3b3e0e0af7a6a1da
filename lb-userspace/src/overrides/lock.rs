//! Keeps a second controller from a file of overrides: each would overwrite what the other was told. I/O:
//! called by the daemon at its start.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// A file that was removed by its owner just then is made again, but not for ever.
const ATTEMPTS: usize = 10;

/// Held while a controller uses the file; the kernel lets go when the process ends. The file of overrides
/// itself is replaced with each change, so one beside it is locked.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked, so that nobody else's is removed. One that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks the file of overrides at `path`. `None`: it cannot be locked, as it cannot be written either;
/// said.
///
/// # Errors
/// Another controller uses it.
pub fn lock(path: &Path) -> anyhow::Result<Option<Lock>> {
    for _ in 0..ATTEMPTS {
        let locked = match beside(path) {
            Ok(locked) => locked,
            Err(error) => {
                log::warn!(
                    "{error:#}; nothing keeps another controller from using {} as well",
                    path.display()
                );
                return Ok(None);
            }
        };
        match locked {
            Locked::Yes(lock) => return Ok(Some(lock)),
            Locked::Gone => {}
            Locked::By(owner) => bail!(
                "another controller{owner} keeps its overrides in {}; give each a file of its own: \
                 admin.state_file (or admin.socket, which the default file is named after)",
                path.display()
            ),
        }
    }
    bail!("{} is locked and removed all the time", path.display())
}

enum Locked {
    Yes(Lock),
    By(String),
    /// Its owner has just ended.
    Gone,
}

fn beside(path: &Path) -> anyhow::Result<Locked> {
    if let Some(directory) = path.parent() {
        let creating = || format!("creating {}", directory.display());
        fs::create_dir_all(directory).with_context(creating)?;
    }
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let opened = options.custom_flags(libc::O_NOFOLLOW).open(&path);
    let mut file = opened.with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Locked::By(owner(&mut file))),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("locking {}", path.display()));
        }
    }
    if !is_at(&file, &path) {
        return Ok(Locked::Gone);
    }
    // For whoever is refused.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(Locked::Yes(Lock { path, _file: file }))
}

fn owner(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(20).read_to_string(&mut text);
    let pid = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |found: io::Result<fs::Metadata>| found.ok().map(|it| (it.dev(), it.ino()));
    let ours = inode(file.metadata());
    ours.is_some() && ours == inode(fs::metadata(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_controller_is_refused_until_the_first_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/overrides.json");
        let first = lock(&path).unwrap().unwrap();
        let error = lock(&path).unwrap_err().to_string();
        let pid = std::process::id();
        let expected =
            format!("another controller (process {pid}) keeps its overrides in {}", path.display());
        assert!(error.starts_with(&expected), "{error}");
        let other = lock(&directory.path().join("new/other.json")).unwrap().unwrap();
        drop(first);
        let again = lock(&path).unwrap().unwrap();
        drop((again, other));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    /// Such as what a killed controller left.
    #[test]
    fn a_file_that_nobody_holds_is_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("overrides.json");
        fs::write(directory.path().join("overrides.json.lock"), "4294967295 or so").unwrap();
        assert!(lock(&path).unwrap().is_some());
    }

    #[test]
    fn where_nothing_can_be_written_nothing_is_locked() {
        assert!(lock(Path::new("/proc/fairlead/overrides.json")).unwrap().is_none());
    }

    /// The one that was opened was removed by its owner before it could be locked.
    #[test]
    fn a_removed_file_is_not_taken_for_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let removed = File::create(&path).unwrap();
        assert!(is_at(&removed, &path));
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&removed, &path));
        let _new = File::create(&path).unwrap();
        assert!(!is_at(&removed, &path));
    }
}
