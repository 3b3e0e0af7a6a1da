//! Finds what the XDP program is built with: a rustc that has, or can build, `core` for BPF, and
//! `bpf-linker`. The build script uses it, and `cargo xtask setup`, which installs what is missing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// What the XDP program is compiled for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// Variable with the path of a rustc that has `core` for [`TARGET`]; it wins over everything that would be found.
pub(crate) const OVERRIDE: &str = "FAIRLEAD_BPF_RUSTC";
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// Where `core` for BPF comes from.
pub(crate) struct Toolchain {
    pub(crate) rustc: PathBuf,
    /// Nightly builds `core` from `rust-src`; Debian's rustc has it built in.
    pub(crate) nightly: bool,
}

impl Toolchain {
    pub(crate) fn find() -> Result<Self> {
        if let Some(rustc) = env::var_os(OVERRIDE).filter(|value| !value.is_empty()) {
            let rustc = PathBuf::from(rustc);
            if !has_core(&rustc) {
                bail!("{OVERRIDE}: {} has no `core` for {TARGET}", rustc.display());
            }
            return Ok(Self { rustc, nightly: false });
        }
        if has_core(Path::new(SYSTEM_RUSTC)) {
            return Ok(Self { rustc: SYSTEM_RUSTC.into(), nightly: false });
        }
        let rustc = nightly_with_source().with_context(|| {
            format!(
                "no Rust toolchain for BPF: neither {SYSTEM_RUSTC} with `core` for {TARGET} \
                 nor rustup's nightly with `rust-src`\nrun `cargo xtask setup`"
            )
        })?;
        Ok(Self { rustc, nightly: true })
    }
}

fn has_core(rustc: &Path) -> bool {
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", TARGET]);
    let Some(directory) = line_of(command) else {
        return false;
    };
    let Ok(files) = fs::read_dir(directory) else {
        return false;
    };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

fn nightly_with_source() -> Option<PathBuf> {
    let mut command = rustup_nightly("rustc");
    command.args(["--print", "sysroot"]);
    let sysroot = PathBuf::from(line_of(command)?);
    let has_source = sysroot.join("lib/rustlib/src/rust/library/core").is_dir();
    has_source.then(|| sysroot.join("bin/rustc"))
}

pub(crate) fn rustup_nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]);
    command
}

pub(crate) fn find_linker() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(home.map(|home| home.join("bin")))
        .map(|directory| directory.join("bpf-linker"))
        .find(|file| file.is_file())
        .context("no `bpf-linker` on PATH or in cargo's bin directory\nrun `cargo xtask setup`")
}

fn line_of(mut command: Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
