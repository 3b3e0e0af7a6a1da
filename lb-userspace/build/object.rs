//! Builds the programs of `lb-ebpf` with a cargo of their own. The build script uses it, and `cargo xtask
//! bench`, which builds one that counts nothing to compare with.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::toolchain::{self, TARGET, Toolchain};

/// Prefixes of variables that are about the outer build and would mislead the inner one.
const OUTER: [&str; 6] =
    ["CARGO_BUILD_", "CARGO_FEATURE_", "CARGO_PROFILE_", "CARGO_TARGET_", "RUSTC", "RUSTUP_TOOL"];

/// How they are built.
pub(crate) struct Programs<'a> {
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) linker: &'a Path,
    /// The workspace's.
    pub(crate) root: &'a Path,
    pub(crate) target_dir: &'a Path,
    /// The machine's that they are to run on, as Rust calls it.
    pub(crate) arch: &'a str,
    /// Of `lb-ebpf`.
    pub(crate) feature: Option<&'a str>,
}

impl Programs<'_> {
    /// Says nothing when all is well, and all that the compiler said when it is not.
    pub(crate) fn build(&self) -> Result<()> {
        let arch = format!("--cfg=bpf_target_arch=\"{}\"", self.arch);
        // 32-bit arithmetic and jumps, in every kernel since 5.1.
        let flags = [&arch, "-Cdebuginfo=2", "-Ctarget-cpu=v3", "-Clink-arg=--btf"];
        let mut cargo = cargo_build(self.toolchain);
        cargo
            .args(["--quiet", "--release", "--locked", "--package", "lb-ebpf", "--bins"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(self.target_dir)
            .current_dir(self.root)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("PATH", path_starting_with(self.linker)?);
        if let Some(feature) = self.feature {
            cargo.args(["--features", feature]);
        }
        let output = cargo.output().with_context(|| format!("run {cargo:?}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let rustc = self.toolchain.rustc.display();
            bail!("the BPF programs do not build with {rustc}:\n{said}");
        }
        Ok(())
    }

    /// Where one of them is then.
    pub(crate) fn built(&self, binary: &str) -> PathBuf {
        self.target_dir.join(TARGET).join("release").join(binary)
    }
}

/// A `cargo build` that uses this toolchain and knows nothing of the build that runs it.
fn cargo_build(toolchain: &Toolchain) -> Command {
    let mut cargo = if toolchain.nightly {
        toolchain::rustup_nightly("cargo")
    } else {
        Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    };
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if OUTER.iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    cargo.arg("build");
    if toolchain.nightly {
        cargo.args(["-Z", "build-std=core"]);
    } else {
        // aya-ebpf uses unstable features.
        cargo.env("RUSTC", &toolchain.rustc).env("RUSTC_BOOTSTRAP", "1");
    }
    cargo
}

fn path_starting_with(linker: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let first = linker.parent().map(Path::to_path_buf);
    env::join_paths(first.into_iter().chain(env::split_paths(&path))).context("extend PATH")
}
