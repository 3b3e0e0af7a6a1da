//! Running commands and steps so that their reader sees what happens, and no more.

use std::env;
use std::fs;
use std::io::{Write as _, stdout};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// Where cargo puts what it builds: this binary lies in one of its profiles.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let this = env::current_exe().context("find this binary")?;
    this.ancestors().nth(2).map(Path::to_path_buf).context("find the target directory")
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The path of `program`; also where the PATH of an ordinary user does not lead.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// The cargo that runs this, at the workspace's root.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // What cargo set for this package's run is not meant for another build.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(&name);
        }
    }
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

/// As the command would be typed.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = [name].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Echoes the command and runs it on this terminal.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    println!("$ {}", show(command));
    let status = command.status().with_context(|| format!("start {}", show(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", show(command));
    }
    Ok(())
}

/// Runs the command and returns its standard output; if it fails, all that it said is shown.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {}", show(command)))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        println!("\n{}{said}", String::from_utf8_lossy(&output.stderr));
        bail!("{} failed: {}", show(command), output.status);
    }
    Ok(said.into_owned())
}

/// Echoes the command and runs it; what it says is shown only if it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    println!("$ {}", show(command));
    capture(command).map(drop)
}

/// Runs one step of a sequence and shows its name and the time it took.
#[expect(clippy::disallowed_methods, reason = "the time a step takes is shown, not decided on")]
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    print!("{name:<9}");
    stdout().flush().context("write to the terminal")?;
    let start = Instant::now();
    let result = work().with_context(|| format!("step {name}"))?;
    println!(" ok {:6.1} s", start.elapsed().as_secs_f32());
    Ok(result)
}
