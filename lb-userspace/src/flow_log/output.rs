//! The file that lines go to, opened again when somebody has renamed or removed it. I/O.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::config::flow_log::Output as Where;

/// How often the file's name is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a trouble is said.
const COMPLAIN: Duration = Duration::from_secs(60);
/// It names clients.
const MODE: u32 = 0o640;

pub(super) struct Output {
    place: Where,
    /// `None`: standard output, or a file that cannot be opened now.
    file: Option<File>,
    looked: Instant,
    complained: Option<Instant>,
}

impl Output {
    pub(super) fn open(place: &Where) -> Result<Self> {
        let file = match place {
            Where::Stdout => None,
            Where::File(path) => Some(
                open(path).with_context(|| format!("opening the flow log {}", path.display()))?,
            ),
        };
        Ok(Self { place: place.clone(), file, looked: now(), complained: None })
    }

    /// Whole lines. What cannot be written is lost, and said in the controller's log.
    pub(super) fn write(&mut self, text: &str) {
        let written = match self.place.clone() {
            Where::Stdout => io::stdout().lock().write_all(text.as_bytes()),
            Where::File(path) => self.append(&path, text),
        };
        if let Err(error) = written {
            let is_due = self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN);
            if is_due {
                self.complained = Some(now());
                log::warn!("flow log: {error}; lines are lost");
            }
        }
    }

    fn append(&mut self, path: &Path, text: &str) -> io::Result<()> {
        if self.file.is_none() || self.looked.elapsed() >= LOOK {
            self.looked = now();
            let is_same = self.file.as_ref().is_some_and(|file| is_at(file, path));
            if !is_same {
                self.file = Some(open(path)?);
            }
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(text.as_bytes()))
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(MODE).open(path)
}

/// Whether the name is still this file's.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(theirs)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
}

#[expect(clippy::disallowed_methods, reason = "how long ago something was is by the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_renamed_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let [path, old] = ["flows", "flows.1"].map(|name| directory.path().join(name));
        let mut output = Output::open(&Where::File(path.clone())).unwrap();
        output.write("one\n");
        fs::rename(&path, &old).unwrap();
        // Until the next look lines go where they went.
        output.write("two\n");
        output.looked -= LOOK;
        output.write("three\n");
        assert_eq!(fs::read_to_string(&old).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert!(Output::open(&Where::File(directory.path().to_owned())).is_err());
    }
}
