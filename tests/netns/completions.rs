//! What the shells themselves make of the completion scripts, with the names of a running controller.

use std::fs;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::run;
use lb_tests::plain;
use lb_tests::topology::{Plan, Topology};

use crate::names::{self, Dns};

/// A shell that does not answer within it is ended.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn bash_zsh_and_fish_complete_commands_and_names() -> Result<()> {
    let lab = Topology::build(&Plan { backends: 1, ..Plan::default() })?;
    let _servers = plain::echo_servers(&lab)?;
    let host = lab.backend("cp1")?;
    let dns = Dns::start(host)?;
    dns.say(&[host.address]);
    let mut controller = names::controller(&lab, host)?;
    controller.start()?;
    names::wait_backends(&controller, &[host])?;

    // At an @ bash ends a word.
    let name = format!("plain/cp@{}", host.address);
    let socket = controller.socket().display();
    let lines = [
        ("fairlead fl".to_owned(), "fairlead flows".to_owned()),
        (
            format!("fairlead backend drain --socket {socket} pl"),
            format!("fairlead backend drain --socket {socket} {name}"),
        ),
        (
            format!("fairlead flows list --socket {socket} --backend plain/cp@1"),
            format!("fairlead flows list --socket {socket} --backend {name}"),
        ),
    ];
    let shells = Shells::new(lab.directory())?;
    for (typed, expected) in &lines {
        let bash = "source <(fairlead completions bash)";
        let seen = shells.tab("bash --norc --noprofile -i", bash, typed)?;
        ensure!(seen == *expected, "bash: {seen}, in place of {expected}");
        let zsh = "bindkey -e; autoload -Uz compinit; compinit -u -D; \
                   source <(fairlead completions zsh)";
        let seen = shells.tab("zsh -f -i", zsh, typed)?;
        ensure!(seen == *expected, "zsh: {seen}, in place of {expected}");
        let fish = shells.fish(typed)?;
        let last = expected.rsplit(' ').next().unwrap_or_default();
        let words: Vec<_> = fish.lines().filter_map(|line| line.split('\t').next()).collect();
        ensure!(words == [last], "fish: {words:?}, in place of {last}");
    }
    Ok(())
}

/// Shells that find the controller's program, and know nothing of whoever runs the tests.
struct Shells {
    path: String,
    home: String,
}

impl Shells {
    fn new(directory: &Path) -> Result<Self> {
        let home = directory.join("home");
        fs::create_dir_all(&home)?;
        let binary = plain::binary()?;
        let programs = binary.parent().context("a program without a directory")?;
        let path = std::env::var("PATH")?;
        Ok(Self {
            path: format!("{}:{path}", programs.display()),
            home: home.display().to_string(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.path).env("HOME", &self.home).env("TERM", "dumb");
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        command
    }

    /// What a line has become at the terminal of a shell after the key TAB.
    fn tab(&self, shell: &str, setup: &str, line: &str) -> Result<String> {
        let seconds = PATIENCE.as_secs().to_string();
        let mut command = self.command("timeout");
        command.args(["--foreground", &seconds, "script", "-qfc", shell, "/dev/null"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut keys = child.stdin.take().context("no terminal")?;
        let mut screen = child.stdout.take().context("no terminal")?;
        // Written so that what is typed does not look like what it prints; once there is a prompt, keys
        // are the shell's.
        writeln!(keys, "{setup}; PS1='rea''dy> '")?;
        until(&mut screen, "ready> ", "")?;
        // The line is cut out, and put back as what is printed.
        writeln!(keys, "{line}\t\u{1}\u{b}printf '=%s=\\n' '\u{19}'")?;
        let seen = until(&mut screen, "=fairlead", "=")?;
        writeln!(keys, "exit")?;
        drop(keys);
        child.wait()?;
        Ok(format!("fairlead{seen}").trim_end().to_owned())
    }

    fn fish(&self, line: &str) -> Result<String> {
        let script = "fairlead completions fish | source; complete -C $argv[1]";
        run(self.command("fish").args(["--no-config", "-c", script, line]))
    }
}

/// Reads as far as `end` after `start`; what is between them.
fn until(screen: &mut impl Read, start: &str, end: &str) -> Result<String> {
    let mut seen = String::new();
    loop {
        if let Some((_, rest)) = seen.split_once(start)
            && let Some((between, _)) = rest.split_once(end)
        {
            return Ok(between.to_owned());
        }
        let mut byte = [0];
        let read = screen.read(&mut byte)?;
        ensure!(read == 1, "the shell ended, after {seen:?}");
        seen.push(char::from(byte[0]));
    }
}
