//! Builds the programs of `lb-ebpf` and leaves them in `OUT_DIR`, `fairlead-xdp.o` and
//! `fairlead-trace.o`, to be embedded.
//!
//! They need a rustc that has, or can build, `core` for BPF, and `bpf-linker`; the host's
//! pinned toolchain is not such a one. Whatever is installed is used; nothing is installed here.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use toolchain::{OVERRIDE, TARGET, Toolchain};

#[path = "build/toolchain.rs"]
mod toolchain;

/// The datapath, and what looks at its packets while somebody asks.
const BINARIES: [&str; 2] = ["fairlead-xdp", "fairlead-trace"];

/// What the object is made of, below the workspace's root.
const SOURCES: [&str; 4] = ["Cargo.lock", "Cargo.toml", "lb-common", "lb-ebpf"];

/// Prefixes of variables that are about the outer build and would mislead the inner one.
const OUTER: [&str; 6] =
    ["CARGO_BUILD_", "CARGO_FEATURE_", "CARGO_PROFILE_", "CARGO_TARGET_", "RUSTC", "RUSTUP_TOOL"];

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
    build(&toolchain, &linker, &root, &target_dir)?;

    for (binary, object) in BINARIES.iter().zip(&objects) {
        let built = target_dir.join(TARGET).join("release").join(binary);
        fs::copy(&built, object).with_context(|| format!("copy {}", built.display()))?;
    }
    Ok(())
}

/// Says nothing when all is well, and all that the compiler said when it is not.
fn build(toolchain: &Toolchain, linker: &Path, root: &Path, target_dir: &Path) -> Result<()> {
    let arch = format!("--cfg=bpf_target_arch=\"{}\"", variable("CARGO_CFG_TARGET_ARCH")?);
    // 32-bit arithmetic and jumps, in every kernel since 5.1.
    let flags = [&arch, "-Cdebuginfo=2", "-Ctarget-cpu=v3", "-Clink-arg=--btf"];
    let mut cargo = cargo_build(toolchain)?;
    cargo
        .args(["--quiet", "--release", "--locked", "--package", "lb-ebpf", "--bins"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .current_dir(root)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("PATH", path_starting_with(linker)?);
    if env::var_os("CARGO_FEATURE_SECOND_LAYOUT").is_some() {
        cargo.args(["--features", "second-layout"]);
    }
    let output = cargo.output().with_context(|| format!("run {cargo:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the BPF programs do not build with {}:\n{said}", toolchain.rustc.display());
    }
    Ok(())
}

/// A `cargo build` that uses this toolchain and knows nothing of the build that runs it.
fn cargo_build(toolchain: &Toolchain) -> Result<Command> {
    let mut cargo = if toolchain.nightly {
        toolchain::rustup_nightly("cargo")
    } else {
        Command::new(variable("CARGO")?)
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
    Ok(cargo)
}

fn path_starting_with(linker: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let first = linker.parent().map(Path::to_path_buf);
    env::join_paths(first.into_iter().chain(env::split_paths(&path))).context("extend PATH")
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    modified(file) > modified(than)
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("read {name}, which cargo sets"))
}
