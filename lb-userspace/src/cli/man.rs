//! `fairlead man`. I/O.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Command, CommandFactory as _};

use super::Cli;

/// Of commands for those who run a system.
const SECTION: &str = "8";

/// Write the manual, a page for each command, into a directory.
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "Examples:
  fairlead man pages && man -l pages/fairlead.8"
)]
pub(super) struct Arguments {
    /// Made if it is not there.
    directory: PathBuf,
}

pub(super) fn run(Arguments { directory }: &Arguments) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let mut cli = Cli::command();
    cli.build();
    pages(&cli, "").into_iter().try_for_each(|(name, page)| {
        let path = directory.join(format!("{name}.{SECTION}"));
        fs::write(&path, page).with_context(|| format!("writing {}", path.display()))
    })
}

/// The page of `command` and of those below it, with their names.
fn pages(command: &Command, above: &str) -> Vec<(String, Vec<u8>)> {
    let name = format!("{above}{}", command.get_name());
    let below = format!("{name}-");
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let mut found: Vec<_> = shown
        .filter(|command| command.get_name() != "help")
        .flat_map(|command| pages(command, &below))
        .collect();
    let mut page = Vec::new();
    let titled = command.clone().display_name(&name);
    // Writing to memory cannot fail.
    let _ = clap_mangen::Man::new(titled).section(SECTION).render(&mut page);
    found.push((name, page));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let mut cli = Cli::command();
        cli.build();
        let pages = pages(&cli, "");
        for name in ["fairlead", "fairlead-run", "fairlead-flows-list", "fairlead-manifest"] {
            let (_, page) = pages.iter().find(|page| page.0 == name).unwrap();
            let text = String::from_utf8_lossy(page);
            assert!(text.contains(&format!(".TH {name} 8")), "{text}");
        }
        assert!(pages.iter().all(|(name, _)| !name.ends_with("-man") && !name.contains("help")));
    }
}
