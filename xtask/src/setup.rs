//! `cargo xtask setup`: installs what building and testing need, where it is missing. Every command
//! that builds or tests calls it first, so a machine that has all must not notice.

use std::env;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::command::{cargo, find, is_root, quietly};
use crate::toolchain::{OVERRIDE, Toolchain, find_linker};

const LINKER_VERSION: &str = "0.13.0";
/// The LLVM that [`LINKER_VERSION`] can be built with. It must be the one of the BPF rustc.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// A rustc and its `core` for BPF. Debian has a younger pair where the first is for browsers.
const RUST: [[&str; 2]; 2] =
    [["rustc-web", "libstd-rust-web-dev-bpf"], ["rustc", "libstd-rust-dev-bpf"]];

/// Programs that the tests and the lab call, and their Debian packages.
const TOOLS: [(&str, &str); 18] = [
    ("bpftool", "bpftool"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("fish", "fish"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("keepalived", "keepalived"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("promtool", "prometheus"),
    ("sysctl", "procps"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("wrk", "wrk"),
    ("zsh", "zsh"),
];

/// Likewise, for making and testing packages.
const PACKAGING: [(&str, &str); 6] = [
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("shellcheck", "shellcheck"),
    ("start-stop-daemon", "dpkg"),
    ("systemd-analyze", "systemd"),
];

const CARGO_DEB_VERSION: &str = "3.8.0";

const OTHERWISE: &str = "or, without Debian's packages:
    rustup toolchain install nightly --component rust-src
    cargo install bpf-linker   (see its documentation for the LLVM it needs)";

pub(crate) fn run() -> Result<()> {
    everything()?;
    let rust = Toolchain::find()?;
    let core = if rust.nightly { "building core" } else { "core included" };
    println!("BPF rustc   {} ({core})", rust.rustc.display());
    println!("bpf-linker  {}", find_linker()?.display());
    println!("tools       {}", TOOLS.map(|(program, _)| program).join(" "));
    Ok(())
}

/// What building needs, and what testing does.
pub(crate) fn everything() -> Result<()> {
    programs(&TOOLS)?;
    toolchain()
}

/// What making and testing packages needs.
pub(crate) fn packaging() -> Result<()> {
    programs(&PACKAGING)?;
    if cargo_has_deb() {
        return Ok(());
    }
    quietly(&mut cargo([
        "install",
        "cargo-deb",
        "--version",
        CARGO_DEB_VERSION,
        "--locked",
        "--quiet",
    ]))
}

/// Cargo looks where it installs to, which PATH may not name.
fn cargo_has_deb() -> bool {
    cargo(["deb", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn programs(needed: &[(&str, &str)]) -> Result<()> {
    let missing = needed.iter().filter(|(program, _)| find(program).is_none());
    install(&missing.map(|(_, package)| (*package).to_owned()).collect::<Vec<_>>())
}

/// What building needs: a rustc with `core` for BPF, and bpf-linker.
pub(crate) fn toolchain() -> Result<()> {
    let rust = match Toolchain::find() {
        Ok(found) => found,
        Err(error) if env::var_os(OVERRIDE).is_some() => return Err(error),
        Err(_) => {
            install(&rust_packages()?.map(str::to_owned))?;
            Toolchain::find()?
        }
    };
    if find_linker().is_ok() {
        return Ok(());
    }
    let llvm = llvm_of(&rust.rustc)?;
    install(&[
        "g++".into(),
        format!("llvm-{llvm}-dev"),
        format!("libpolly-{llvm}-dev"),
        "libzstd-dev".into(),
        "zlib1g-dev".into(),
    ])?;
    let feature = format!("llvm-{llvm}");
    let mut command = cargo(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"]);
    command
        .args(["--quiet", "--no-default-features", "--features", &feature])
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"));
    quietly(&mut command)?;
    find_linker().map(drop)
}

/// The first pair that this release of Debian has.
fn rust_packages() -> Result<[&'static str; 2]> {
    require_apt(&RUST[0].map(str::to_owned))?;
    refresh()?;
    let [_, first_core] = RUST[0];
    let pair = RUST.into_iter().find(|[_, core]| has_candidate(core));
    pair.ok_or_else(|| anyhow!("apt knows no {first_core}\n{OTHERWISE}"))
}

fn has_candidate(package: &str) -> bool {
    let output = Command::new("apt-cache").args(["policy", package]).output();
    output.is_ok_and(|output| {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.contains("Candidate: ") && !said.contains("Candidate: (none)")
    })
}

/// Installs those of the packages that are not.
fn install(packages: &[String]) -> Result<()> {
    let missing: Vec<_> =
        packages.iter().filter(|package| !is_installed(package)).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    require_apt(&missing)?;
    refresh()?;
    let mut command = apt();
    quietly(command.args(["install", "-y", "--no-install-recommends"]).args(&missing))
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).output();
    query.is_ok_and(|output| output.stdout.ends_with(b" installed"))
}

/// Fails, with what to run instead, where nothing can be installed from here.
fn require_apt(packages: &[String]) -> Result<()> {
    let reason = match (find("apt-get").is_some(), is_root()) {
        (true, true) => return Ok(()),
        (true, false) => "needs root",
        (false, _) => "needs apt-get",
    };
    bail!(
        "missing: {list}\ninstalling {reason}; as root on Debian run\n    apt-get update\n    \
         apt-get install -y --no-install-recommends {list}\nthen `cargo xtask setup` again\n\
         {OTHERWISE}",
        list = packages.join(" ")
    )
}

/// Once: a new machine's package lists may be empty, or name versions that are gone.
fn refresh() -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    quietly(apt().arg("update"))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-o", "DPkg::Lock::Timeout=120"]).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn llvm_of(rustc: &Path) -> Result<u32> {
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .with_context(|| format!("ask {} for its LLVM", rustc.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let major = parse_llvm(&said).with_context(|| format!("no LLVM version in:\n{said}"))?;
    if !LLVM.contains(&major) {
        bail!(
            "{} has LLVM {major}; bpf-linker {LINKER_VERSION} goes with LLVM {} to {}",
            rustc.display(),
            LLVM.start(),
            LLVM.end()
        );
    }
    Ok(major)
}

fn parse_llvm(verbose_version: &str) -> Option<u32> {
    let line = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_the_verbose_version() {
        let said = "rustc 1.96.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.8\n";
        assert_eq!(parse_llvm(said), Some(22));
        assert_eq!(parse_llvm("rustc 1.96.0\n"), None);
    }
}
