//! Builds the programs of `lb-ebpf` and leaves them in `OUT_DIR`, `fairlead-xdp.o` and
//! `fairlead-trace.o`, to be embedded.
//!
//! They need a rustc that has, or can build, `core` for BPF, and `bpf-linker`; the host's
//! pinned toolchain is not such a one. Whatever is installed is used; nothing is installed here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use object::Programs;
use toolchain::{OVERRIDE, Toolchain};

#[path = "build/object.rs"]
mod object;
#[path = "build/toolchain.rs"]
mod toolchain;

/// The datapath, and what looks at its packets while somebody asks.
const BINARIES: [&str; 2] = ["fairlead-xdp", "fairlead-trace"];

/// What the object is made of, below the workspace's root.
const SOURCES: [&str; 4] = ["Cargo.lock", "Cargo.toml", "lb-common", "lb-ebpf"];

#[expect(clippy::print_stderr, reason = "cargo shows it when the build fails")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let toolchain = Toolchain::find()?;
    let linker = toolchain::find_linker()?;

    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let tools = [toolchain.rustc.clone(), linker.clone()];
    for file in SOURCES.map(|source| root.join(source)).iter().chain(&tools) {
        println!("cargo::rerun-if-changed={}", file.display());
    }

    let objects = BINARIES.map(|binary| out.join(format!("{binary}.o")));
    let target_dir = out.join("bpf");
    if objects.iter().any(|object| is_newer(&linker, object)) {
        // The inner cargo does not notice that its linker has changed.
        let _ = fs::remove_dir_all(&target_dir);
    }
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let is_second = env::var_os("CARGO_FEATURE_SECOND_LAYOUT").is_some();
    let programs = Programs {
        toolchain: &toolchain,
        linker: &linker,
        root: &root,
        target_dir: &target_dir,
        arch: &arch,
        feature: is_second.then_some("second-layout"),
    };
    programs.build()?;

    for (binary, object) in BINARIES.iter().zip(&objects) {
        let built = programs.built(binary);
        fs::copy(&built, object).with_context(|| format!("copy {}", built.display()))?;
    }
    Ok(())
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    modified(file) > modified(than)
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("read {name}, which cargo sets"))
}
