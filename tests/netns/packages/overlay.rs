//! A root to change: this machine's below, and what is written above it in memory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use lb_tests::command::run;

/// Unmounted on drop, with all that was mounted below it.
pub(super) struct Overlay {
    directory: tempfile::TempDir,
}

impl Overlay {
    /// `lab`: a directory that is there under its own path.
    pub(super) fn mount(lab: &Path) -> Result<Self> {
        let overlay = Self { directory: tempfile::tempdir()? };
        let below = overlay.directory.path();
        let show = |path: &Path| path.display().to_string();
        run(Command::new("mount").args(["-t", "tmpfs", "fairlead-root"]).arg(below))?;
        for name in ["upper", "work", "root"] {
            fs::create_dir(below.join(name))?;
        }
        let (upper, work) = (show(&below.join("upper")), show(&below.join("work")));
        let layers = format!("lowerdir=/,upperdir={upper},workdir={work}");
        let at = show(&below.join("root"));
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers, &at]))?;
        let inside = overlay.path(&show(lab));
        fs::create_dir_all(&inside)?;
        run(Command::new("mount").arg("--bind").arg(lab).arg(inside))?;
        // Images of machines forbid maintainer scripts to start anything.
        match fs::remove_file(overlay.path("/usr/sbin/policy-rc.d")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error)?,
            Ok(()) | Err(_) => Ok(overlay),
        }
    }

    /// Where a path of the new root is.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.directory.path().join("root").join(inside.trim_start_matches('/'))
    }

    /// Whether a path is not, or not only, this machine's.
    pub(super) fn is_written(&self, inside: &str) -> bool {
        self.directory.path().join(format!("upper{inside}")).exists()
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // Nothing better can be done about a failure here.
        let _ =
            run(Command::new("umount").args(["--recursive", "--lazy"]).arg(self.directory.path()));
    }
}
