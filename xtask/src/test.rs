//! `cargo xtask test`: all the tests in CI's order, or some of them.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::bench::form;
use crate::command::{capture, is_root, root, step, stream};
use crate::{build, check, dist, setup};

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Which tests
    #[arg(value_enum, default_value = "all")]
    suite: Suite,
    /// Only the tests with this in their names
    #[arg(long)]
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Those of the crates and of their documentation; no privileges
    Unit,
    /// The XDP program on built packets; needs root
    Datapath,
    /// Real traffic between network namespaces; needs root
    Netns,
    /// The unit, the Debian package and the image; needs root
    Packages,
    /// Formatting, lints, documentation, then all of the above
    All,
}

pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let filter = args.filter.as_deref();
    let suites: &[&str] = match args.suite {
        Suite::Unit => &[],
        Suite::Datapath => &["datapath"],
        Suite::Netns => &["netns"],
        Suite::Packages => &["packages"],
        // What a filter leaves of the packages' tests is seldom worth making packages for.
        Suite::All if filter.is_some() => &["datapath", "netns"],
        Suite::All => &["datapath", "netns", "packages"],
    };
    if suites.is_empty() {
        setup::toolchain()?;
        return check::unit(filter);
    }
    if !is_root() {
        bail!(
            "datapath, netns and packages tests need root: run this as root, or `cargo xtask test \
             unit`, or `cargo xtask check`"
        );
    }
    setup::everything()?;
    if args.suite == Suite::All {
        check::steps(filter)?;
    }
    let mut binaries = Binaries::build()?;
    if suites.contains(&"packages") {
        setup::packaging()?;
        binaries.packages = Some(step("dist", || dist::two_versions(&binaries.fairlead))?);
    }
    if args.suite == Suite::All && filter.is_none() {
        step("demo", || capture(&mut demo(&binaries)?).map(drop))?;
        step("bench", || bench(&binaries))?;
    }
    for suite in suites {
        privileged(suite, filter, &binaries)?;
    }
    Ok(())
}

/// The demonstration in short; it fails if it loses a connection.
fn demo(binaries: &Binaries) -> Result<Command> {
    let mut demo = Command::new(env::current_exe().context("find this binary")?);
    demo.args(["lab", "demo", "--seconds-per-phase", "3", "--fairlead"]).arg(&binaries.fairlead);
    Ok(demo)
}

/// The least that the bench can do, with all peers: it works, and its JSON has the form that it should.
fn bench(binaries: &Binaries) -> Result<()> {
    let directory = tempfile::tempdir().context("make a directory")?;
    let file = directory.path().join("bench.json");
    let mut bench = Command::new(env::current_exe().context("find this binary")?);
    bench.args(["bench", "--least", "--only", "traffic,packets", "--fairlead"]);
    bench.arg(&binaries.fairlead).arg("--json").arg(&file).arg("--report").arg(directory.path());
    let said = capture(&mut bench)?;
    let text = fs::read_to_string(&file).context("read what the bench wrote")?;
    let json = serde_json::from_str(&text).context("read what the bench wrote")?;
    form::check(&json).inspect_err(|_| println!("{said}"))
}

/// What the tests run, besides the library that they link.
struct Binaries {
    fairlead: PathBuf,
    second_layout: PathBuf,
    /// Where the Debian packages are.
    packages: Option<PathBuf>,
}

impl Binaries {
    fn build() -> Result<Self> {
        step("binaries", || {
            // In this order: both are built in one place, and the first is copied away.
            let second_layout = build::second_layout()?;
            Ok(Self { fairlead: build::release()?, second_layout, packages: None })
        })
    }
}

/// On the terminal as it goes, test by test, since these take their time.
fn privileged(suite: &str, filter: Option<&str>, binaries: &Binaries) -> Result<()> {
    // Those of packages are tests between namespaces too, in the same binary.
    let (target, skip, only): (_, &[&str], _) = match suite {
        "packages" => ("netns", &[], filter.or(Some("packages::"))),
        "netns" => ("netns", &["--skip", "packages::"], filter),
        _ => (suite, &[], filter),
    };
    let compiled = step("compile", || check::compile_tests(&["--test", target]))?;
    let mut all = vec![compiled];
    if suite == "netns" {
        // The fixtures test themselves along with what they are mostly for.
        all.push(step("compile", || check::compile_tests(&["--lib"]))?);
    }
    for executables in all {
        let executable = executables.of("lb-tests")?;
        let mut command = Command::new(executable);
        command
            .current_dir(root().join("tests"))
            .args(["--include-ignored", "--test-threads=1"])
            .args(skip)
            .args(only)
            .envs(binaries.packages.as_ref().map(|directory| ("FAIRLEAD_DEBS", directory)))
            .env("FAIRLEAD_BIN", &binaries.fairlead)
            .env("FAIRLEAD_BIN_PROFILE", "release")
            .env("FAIRLEAD_SECOND_LAYOUT_BIN", &binaries.second_layout);
        stream(&mut command)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::root;

    /// Whoever cuts the script short has no tests, and hears nothing of it.
    #[test]
    fn ci_runs_what_the_readme_says() {
        const COMMAND: &str = "cargo xtask test";
        let script = root().join(".ci/run");
        let lines = fs::read_to_string(&script).unwrap();
        assert_eq!(lines.lines().last(), Some(COMMAND));
        assert!(fs::metadata(&script).unwrap().permissions().mode() & 0o111 != 0);
        let readme = fs::read_to_string(root().join("README.md")).unwrap();
        assert!(readme.lines().any(|line| line == COMMAND));
    }
}
