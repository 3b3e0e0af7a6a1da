//! `fairlead config …`. I/O, but for `annotated()`.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{SocketOption, ask, print, print_json};
use crate::admin::model::EffectiveConfig;

/// Show the configuration that applies.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Show(Show),
}

/// Print the running controller's configuration, every default written out.
///
/// As YAML that `fairlead check` accepts, or as JSON. Files that it names are named, not shown; what
/// may be secret in itself, such as the path of a webhook, is replaced by dots and listed at the top.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead config show
  fairlead config show --json | jq .services[].timeouts")]
pub(super) struct Show {
    /// As JSON, with the keys of the file.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(Command::Show(arguments): &Command) -> Result<()> {
    let shown = ask(&arguments.socket.socket, async |client| client.config().await)?;
    if arguments.json { print_json(&shown.config) } else { print(&annotated(&shown)) }
}

fn annotated(shown: &EffectiveConfig) -> String {
    let EffectiveConfig { path, loaded, yaml, hidden, .. } = shown;
    let mut text = format!("# {path} as read {loaded}, with every default\n");
    for key in hidden {
        text += &format!("# hidden: {key}\n");
    }
    text + yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_said_first() {
        let shown = EffectiveConfig {
            path: "/f.yaml".to_owned(),
            loaded: "today".to_owned(),
            yaml: "version: 1\n".to_owned(),
            hidden: vec!["notify[0].webhook".to_owned()],
            ..EffectiveConfig::default()
        };
        let expected = "# /f.yaml as read today, with every default\n\
                        # hidden: notify[0].webhook\nversion: 1\n";
        assert_eq!(annotated(&shown), expected);
    }
}
