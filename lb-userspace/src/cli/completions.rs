//! `fairlead completions`, and the names that shells complete. I/O, but for the parts of `status`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use serde_json::Value;

use super::{ask, print};
use crate::config::DEFAULT_SOCKET;

/// What the scripts set for the program to complete a line instead of obeying it.
pub(super) const VARIABLE: &str = "COMPLETE";
const NAME: &str = "fairlead";

/// Follows what clap makes for bash, and replaces what it registers.
const BASH_WORDS: &str = include_str!("completions/words.bash");

/// A shell waits for its names; later than this they are of no use.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Print what makes a shell complete commands, options, and names of services and backends.
///
/// Names come from the controller, at the default socket or at --socket; who may not ask it gets none.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(fairlead completions bash)                                          # in ~/.bashrc
  source <(fairlead completions zsh)                          # in ~/.zshrc, after compinit
  fairlead completions fish | source            # in ~/.config/fish/completions/fairlead.fish")]
pub(super) struct Arguments {
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let completer: &dyn EnvCompleter = match arguments.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, NAME, NAME, NAME, &mut script)
        .context("writing the script")?;
    let mut script = String::from_utf8(script)?;
    if matches!(arguments.shell, Shell::Bash) {
        script += BASH_WORDS;
    }
    print(&script)
}

/// Names of services.
pub(super) fn services() -> Vec<CompletionCandidate> {
    candidates(|status| each_service(status).map(name).collect())
}

/// SERVICE/BACKEND of every backend.
pub(super) fn backends() -> Vec<CompletionCandidate> {
    candidates(backend_names)
}

fn candidates(names: impl Fn(&Value) -> Vec<String>) -> Vec<CompletionCandidate> {
    let socket = socket(std::env::args_os());
    let status = ask(&socket, async |client| {
        tokio::time::timeout(TIMEOUT, client.status()).await.context("waiting for names")?
    });
    let names = status.map_or_else(|_| Vec::new(), |status| names(&status));
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// The socket that the line names so far.
fn socket(words: impl Iterator<Item = OsString>) -> PathBuf {
    let words: Vec<OsString> = words.collect();
    let named = words.windows(2).find(|pair| pair[0] == "--socket").map(|pair| pair[1].clone());
    let joined = || {
        let mut texts = words.iter().filter_map(|word| word.to_str());
        texts.find_map(|word| word.strip_prefix("--socket=")).map(OsString::from)
    };
    named
        .or_else(joined)
        .filter(|path| !path.is_empty())
        .map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from)
}

fn each_service(status: &Value) -> impl Iterator<Item = &Value> {
    status["services"].as_array().into_iter().flatten()
}

fn name(of: &Value) -> String {
    of["name"].as_str().unwrap_or_default().to_owned()
}

fn backend_names(status: &Value) -> Vec<String> {
    let names = each_service(status).flat_map(|service| {
        let backends = service["backends"].as_array().into_iter().flatten();
        backends.map(move |backend| format!("{}/{}", name(service), name(backend)))
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_status() {
        let status: Value =
            serde_json::from_str(include_str!("../admin/model/status.json")).unwrap();
        assert_eq!(backend_names(&status)[..2], ["kube-apiserver/cp1", "kube-apiserver/cp2"]);
    }

    #[test]
    fn the_socket_of_the_line_is_asked() {
        let socket = |line: &str| socket(line.split(' ').map(OsString::from));
        assert_eq!(socket("fairlead backend drain"), PathBuf::from(DEFAULT_SOCKET));
        assert_eq!(socket("fairlead --socket /a/b backend"), PathBuf::from("/a/b"));
        assert_eq!(socket("fairlead --socket=/a/b backend"), PathBuf::from("/a/b"));
        assert_eq!(socket("fairlead backend --socket"), PathBuf::from(DEFAULT_SOCKET));
    }

    /// As the engine does for a shell: `fairlead flows <TAB>`, and a state.
    #[test]
    fn commands_and_states_are_completed() {
        let complete = |line: &str| -> Vec<String> {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let last = words.len() - 1;
            let mut command = <super::super::Cli as clap::CommandFactory>::command();
            let found = clap_complete::engine::complete(&mut command, words, last, None).unwrap();
            found.iter().map(|it| it.get_value().to_string_lossy().into_owned()).collect()
        };
        assert!(complete("fairlead fl").contains(&"flows".to_owned()));
        let flows = complete("fairlead flows ");
        assert!(["list", "count", "purge"].iter().all(|it| flows.contains(&(*it).to_owned())));
        assert_eq!(complete("fairlead flows list --state est"), ["established"]);
        assert_eq!(complete("fairlead completions z"), ["zsh"]);
    }
}
