//! Other XDP programs that balance the same service, loaded and filled by others, to compare with.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, ProgramInfo};

/// Equal programs, each with maps of its own.
pub(crate) struct Beside(Vec<ProgramFd>);

impl Beside {
    /// Those pinned in a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let mut programs = vec![];
        for entry in fs::read_dir(directory).context("listing pinned programs")? {
            let path = entry?.path();
            let program = ProgramInfo::from_pin(&path)
                .and_then(|program| program.fd())
                .with_context(|| format!("opening {}", path.display()))?;
            programs.push(program);
        }
        ensure!(!programs.is_empty(), "no program in {}", directory.display());
        Ok(Self(programs))
    }

    /// For flows that it gets to know.
    pub(crate) fn steady(&self) -> Result<BorrowedFd<'_>> {
        let first = self.0.first().context("no program")?;
        Ok(first.as_fd())
    }

    /// For flows that none of these has seen: one for each round.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().skip(1).map(ProgramFd::as_fd)
    }
}
