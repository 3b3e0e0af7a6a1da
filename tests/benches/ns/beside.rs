//! Other XDP programs that balance the same service, loaded and filled by others, to compare with.

use std::cell::Cell;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, ProgramInfo};

/// Equal programs, each with maps of its own.
pub(crate) struct Beside {
    programs: Vec<ProgramFd>,
    used: Cell<usize>,
}

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
        Ok(Self { programs, used: Cell::new(1) })
    }

    /// For flows that it gets to know.
    pub(crate) fn steady(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.programs.first().context("no program")?.as_fd())
    }

    /// One that has seen no flow, as long as there are any.
    pub(crate) fn fresh(&self) -> Option<BorrowedFd<'_>> {
        let next = self.programs.get(self.used.get())?;
        self.used.update(|used| used + 1);
        Some(next.as_fd())
    }
}
