//! Builds the XDP program of `lb-ebpf` and leaves it in `OUT_DIR/fairlead-xdp.o`, to be embedded.
//!
//! The program needs a rustc that has, or can build, `core` for BPF, and `bpf-linker`; the host's
//! pinned toolchain is not such a one. Whatever is installed is used; nothing is installed here.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is how cargo is spoken to"
)]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

const TARGET: &str = "bpfel-unknown-none";
const BINARY: &str = "fairlead-xdp";
/// Path of a rustc that has `core` for [`TARGET`]; it wins over everything that would be found.
const OVERRIDE: &str = "FAIRLEAD_BPF_RUSTC";
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// What the object is made of, below the workspace's root.
const SOURCES: [&str; 4] = ["Cargo.lock", "Cargo.toml", "lb-common", "lb-ebpf"];

/// Prefixes of variables that are about the outer build and would mislead the inner one.
const OUTER: [&str; 6] = [
    "CARGO_BUILD_",
    "CARGO_FEATURE_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "RUSTC",
    "RUSTUP_TOOL",
];

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
    let linker = find_linker()?;

    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let tools = [toolchain.rustc.clone(), linker.clone()];
    for file in SOURCES.map(|source| root.join(source)).iter().chain(&tools) {
        println!("cargo::rerun-if-changed={}", file.display());
    }

    let object = out.join(format!("{BINARY}.o"));
    let target_dir = out.join("bpf");
    if is_newer(&linker, &object) {
        // The inner cargo does not notice that its linker has changed.
        let _ = fs::remove_dir_all(&target_dir);
    }
    build(&toolchain, &linker, &root, &target_dir)?;

    let built = target_dir.join(TARGET).join("release").join(BINARY);
    fs::copy(&built, &object).with_context(|| format!("copy {}", built.display()))?;
    Ok(())
}

struct Toolchain {
    rustc: PathBuf,
    /// Nightly builds `core` from `rust-src`; Debian's rustc has it built in.
    nightly: bool,
}

impl Toolchain {
    fn find() -> Result<Self> {
        if let Some(rustc) = env::var_os(OVERRIDE).filter(|value| !value.is_empty()) {
            let rustc = PathBuf::from(rustc);
            if !has_core(&rustc) {
                bail!("{OVERRIDE}: {} has no `core` for {TARGET}", rustc.display());
            }
            return Ok(Self {
                rustc,
                nightly: false,
            });
        }
        if has_core(Path::new(SYSTEM_RUSTC)) {
            return Ok(Self {
                rustc: SYSTEM_RUSTC.into(),
                nightly: false,
            });
        }
        let rustc = nightly_with_source().with_context(|| {
            format!(
                "no Rust toolchain for BPF: neither {SYSTEM_RUSTC} with `core` for {TARGET} \
                 nor rustup's nightly with `rust-src`\nrun `cargo xtask setup`"
            )
        })?;
        Ok(Self {
            rustc,
            nightly: true,
        })
    }

    /// A `cargo build` that uses this toolchain and knows nothing of the build that runs it.
    fn cargo_build(&self) -> Result<Command> {
        let mut cargo = if self.nightly {
            rustup_nightly("cargo")
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
        if self.nightly {
            cargo.args(["-Z", "build-std=core"]);
        } else {
            // aya-ebpf uses unstable features.
            cargo.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        }
        Ok(cargo)
    }
}

/// Says nothing when all is well, and all that the compiler said when it is not.
fn build(toolchain: &Toolchain, linker: &Path, root: &Path, target_dir: &Path) -> Result<()> {
    let arch = format!(
        "--cfg=bpf_target_arch=\"{}\"",
        variable("CARGO_CFG_TARGET_ARCH")?
    );
    let flags = [&arch, "-Cdebuginfo=2", "-Clink-arg=--btf"];
    let mut cargo = toolchain.cargo_build()?;
    cargo
        .args([
            "--quiet",
            "--release",
            "--locked",
            "--package",
            "lb-ebpf",
            "--bin",
            BINARY,
        ])
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
        bail!(
            "the XDP program does not build with {}:\n{said}",
            toolchain.rustc.display()
        );
    }
    Ok(())
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
    files
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

fn nightly_with_source() -> Option<PathBuf> {
    let mut command = rustup_nightly("rustc");
    command.args(["--print", "sysroot"]);
    let sysroot = PathBuf::from(line_of(command)?);
    let has_source = sysroot.join("lib/rustlib/src/rust/library/core").is_dir();
    has_source.then(|| sysroot.join("bin/rustc"))
}

fn rustup_nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]);
    command
}

fn find_linker() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(home.map(|home| home.join("bin")))
        .map(|directory| directory.join("bpf-linker"))
        .find(|file| file.is_file())
        .context("no `bpf-linker` on PATH or in cargo's bin directory\nrun `cargo xtask setup`")
}

fn path_starting_with(linker: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let first = linker.parent().map(Path::to_path_buf);
    env::join_paths(first.into_iter().chain(env::split_paths(&path))).context("extend PATH")
}

fn line_of(mut command: Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    modified(file) > modified(than)
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("read {name}, which cargo sets"))
}
