//! Builds the XDP program of `lb-ebpf` and leaves it in `OUT_DIR/fairlead-xdp.o`, to be embedded.
//!
//! The program needs a rustc that has, or can build, `core` for BPF, and `bpf-linker`; the host's
//! pinned toolchain is not such a one. Whatever is installed is used; nothing is installed here.

#![expect(
    clippy::print_stdout,
    reason = "a build script talks to cargo on its standard output"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

const TARGET: &str = "bpfel-unknown-none";
const BINARY: &str = "fairlead-xdp";
/// Path of a rustc that has `core` for [`TARGET`]; it wins over everything that would be found.
const OVERRIDE: &str = "FAIRLEAD_BPF_RUSTC";
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
const ADVICE: &str = "run `cargo xtask setup`";

/// Beside the workspace's root: what the object depends on, besides its tools.
const SOURCES: [&str; 6] = [
    "Cargo.lock",
    "Cargo.toml",
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/src",
];

/// What cargo is told by its environment on purpose. The rest is about the outer build: its
/// target, profile, wrappers and flags would confuse the inner one.
const KEPT: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

fn main() -> Result<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let toolchain = Toolchain::find()?;
    let linker = find_linker()?;

    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    for source in SOURCES {
        rerun_if_changed(&root.join(source));
    }
    rerun_if_changed(toolchain.rustc());
    rerun_if_changed(&linker);

    let object = out.join(format!("{BINARY}.o"));
    let target_dir = out.join("bpf");
    if is_newer(&linker, &object) {
        // The inner cargo does not know that its linker has changed.
        let _ = fs::remove_dir_all(&target_dir);
    }
    build(&toolchain, &linker, &root, &target_dir)?;

    let built = target_dir.join(TARGET).join("release").join(BINARY);
    fs::copy(&built, &object).with_context(|| format!("copy {}", built.display()))?;
    Ok(())
}

/// Where `core` for BPF comes from.
enum Toolchain {
    /// This rustc has it built in, as Debian's packages do; the outer cargo drives it.
    Prebuilt { rustc: PathBuf },
    /// rustup's nightly builds it from `rust-src`.
    Nightly { rustc: PathBuf },
}

impl Toolchain {
    fn find() -> Result<Self> {
        if let Some(rustc) = env::var_os(OVERRIDE).filter(|value| !value.is_empty()) {
            let rustc = PathBuf::from(rustc);
            if !has_core(&rustc) {
                bail!("{OVERRIDE}: {} has no `core` for {TARGET}", rustc.display());
            }
            return Ok(Self::Prebuilt { rustc });
        }
        if has_core(Path::new(SYSTEM_RUSTC)) {
            return Ok(Self::Prebuilt {
                rustc: SYSTEM_RUSTC.into(),
            });
        }
        nightly_with_source()
            .map(|rustc| Self::Nightly { rustc })
            .ok_or_else(|| {
                anyhow!(
                    "no Rust toolchain for BPF: neither {SYSTEM_RUSTC} with `core` for {TARGET}, \
                 nor rustup's nightly with `rust-src`\n{ADVICE}"
                )
            })
    }

    fn rustc(&self) -> &Path {
        match self {
            Self::Prebuilt { rustc } | Self::Nightly { rustc } => rustc,
        }
    }

    /// A cargo that uses this toolchain and knows nothing of the build that runs it.
    fn cargo(&self) -> Result<Command> {
        let mut cargo = match self {
            Self::Prebuilt { .. } => Command::new(variable("CARGO")?),
            Self::Nightly { .. } => rustup_nightly("cargo"),
        };
        for (name, _) in env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            let outer =
                name.starts_with("CARGO_") || name.starts_with("RUSTC") || name == "RUSTDOC";
            if outer && !KEPT.iter().any(|kept| name.starts_with(kept)) {
                cargo.env_remove(name);
            }
        }
        cargo.env_remove("RUSTUP_TOOLCHAIN").arg("build");
        match self {
            // aya-ebpf uses unstable features.
            Self::Prebuilt { rustc } => cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1"),
            Self::Nightly { .. } => cargo.args(["-Z", "build-std=core"]),
        };
        Ok(cargo)
    }
}

/// Says nothing when all is well, and all that the compiler said when it is not.
fn build(toolchain: &Toolchain, linker: &Path, root: &Path, target_dir: &Path) -> Result<()> {
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let flags = [
        &format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
    ];
    let mut cargo = toolchain.cargo()?;
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
            toolchain.rustc().display()
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
    let mut places = env::split_paths(&path).chain(home.map(|home| home.join("bin")));
    places
        .find_map(|place| Some(place.join("bpf-linker")).filter(|file| file.is_file()))
        .ok_or_else(|| anyhow!("no `bpf-linker` on PATH or in cargo's bin directory\n{ADVICE}"))
}

fn path_starting_with(linker: &Path) -> Result<std::ffi::OsString> {
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

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("read {name}, which cargo sets"))
}
