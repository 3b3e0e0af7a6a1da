//! `cargo xtask dist`: the manual, completions for shells, the Debian package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::command::{capture, cargo, root, target_dir};
use crate::{build, setup};

#[derive(Args)]
pub(crate) struct DistArgs {
    /// What to make
    #[arg(value_enum, default_value = "deb")]
    what: What,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Manual and completions, in target/dist
    Man,
    /// Those, and the Debian package
    Deb,
}

/// The completions of each shell, under the name that it looks for.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "fairlead.bash"), ("zsh", "_fairlead"), ("fish", "fairlead.fish")];

pub(crate) fn run(args: &DistArgs) -> Result<()> {
    setup::toolchain()?;
    let binary = build::release()?;
    match args.what {
        What::Man => println!("{}", documents(&binary)?.display()),
        What::Deb => {
            setup::packaging()?;
            documents(&binary)?;
            println!("{}", package(env!("CARGO_PKG_VERSION"), &[])?.display());
        }
    }
    Ok(())
}

/// Two packages of the same program, the second to be an upgrade of the first; their directory.
pub(crate) fn two_versions(binary: &Path) -> Result<PathBuf> {
    documents(binary)?;
    package("0.0.1", &["--fast"])?;
    package("0.0.2", &["--fast"])?;
    Ok(target_dir()?.join("dist"))
}

/// Has the program write its manual and its completions.
fn documents(binary: &Path) -> Result<PathBuf> {
    // Where lb-userspace/Cargo.toml looks for them.
    let dist = root().join("target/dist");
    let (pages, completions) = (dist.join("man"), dist.join("completions"));
    for directory in [&pages, &completions] {
        // A page of a command that is gone must not be packed.
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    capture(Command::new(binary).arg("man").arg(&pages))?;
    for (shell, name) in COMPLETIONS {
        let script = capture(Command::new(binary).args(["completions", shell]))?;
        let path = completions.join(name);
        fs::write(&path, script).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(dist)
}

/// Packs the released program, which is there.
fn package(version: &str, options: &[&str]) -> Result<PathBuf> {
    let path = target_dir()?.join(format!("dist/fairlead_{version}.deb"));
    let mut command = cargo(["deb", "--package", "lb-userspace"]);
    // Four fifths of the program are line numbers.
    command.args(["--no-build", "--strip", "--deb-version", version]).args(options);
    command.arg("--output").arg(&path);
    capture(&mut command)?;
    Ok(path)
}
