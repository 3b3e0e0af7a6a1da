use clap::{CommandFactory as _, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_commands_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_contract_is_known() {
    for line in [
        "fairlead run",
        "fairlead run --config f.yaml --iface eth0 --iface eth1",
        "fairlead check --config f.yaml",
        "fairlead status --json --socket /tmp/s",
        "fairlead backend drain a/b --socket /tmp/s",
        "fairlead backend enable a/b",
        "fairlead backend disable a/b",
        "fairlead backend weight a/b 0 --socket /tmp/s",
        "fairlead backend weight a/b --reset",
        "fairlead backend reset a/b --socket /tmp/s",
        "fairlead reload --socket /tmp/s",
        "fairlead reload --dry-run",
        "fairlead reload --diff --json",
        "fairlead events",
        "fairlead events --follow --since 7 --json --socket /tmp/s",
        "fairlead events -f -n 10",
        "fairlead drain",
        "fairlead drain --resume --socket /tmp/s",
        "fairlead stop --handover --socket /tmp/s",
        "fairlead cleanup",
        "fairlead import --haproxy h --keepalived k --output o --force --json --config-id a",
        "fairlead import --haproxy h",
        "fairlead import --keepalived k",
        "fairlead flows list --service a --backend b --client 10.0.0.0/8 --limit 5 --json",
        "fairlead flows list --state time-wait --older-than 90s --socket /tmp/s",
        "fairlead flows list --csv --watch",
        "fairlead flows count --json --watch",
        "fairlead flows top --by backend -n 5 --service a --csv --socket /tmp/s",
        "fairlead flows top --top 5 --watch --json",
        "fairlead flows purge --all --reset --limit 5 --json",
        "fairlead trace 10.0.0.2:1 10.0.0.100:6443 --json --socket /tmp/s",
        "fairlead config show --json",
        "fairlead doctor --config f.yaml --iface eth0 --probe --all --json --socket /tmp/s",
        "fairlead completions bash",
        "fairlead manifest static-pod --config f.yaml --image a/b:1 --handover",
        "fairlead manifest systemd --config f.yaml",
        "fairlead manifest containerfile",
        "fairlead man /tmp/pages",
        "fairlead check --json",
        "fairlead backend drain a/b --json",
        "fairlead stop --json",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn mistakes_are_usage_errors() {
    for line in [
        "fairlead",
        "fairlead start",
        "fairlead backend drain cp1",
        "fairlead backend drain a/b/c",
        "fairlead backend drain /b",
        "fairlead backend weight a/b 1001",
        "fairlead backend weight a/b -1",
        "fairlead backend weight a/b 7 --reset",
        "fairlead events --since x",
        "fairlead backend weight a/b",
        "fairlead run --interface eth0",
        "fairlead import",
        "fairlead import --json",
        "fairlead import --output o",
        "fairlead import --haproxy h --force",
        "fairlead import --haproxy h --config-id a",
        "fairlead flows list --state open",
        "fairlead flows list --client 10.0.0.0/33",
        "fairlead flows list --older-than 5",
        "fairlead flows list --limit 0",
        "fairlead flows list --csv --json",
        "fairlead flows top --by bytes",
        "fairlead flows top -n 1001",
        "fairlead trace",
        "fairlead completions tcsh",
        "fairlead manifest",
        "fairlead manifest deployment",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

/// Every command, with those below it in place of those that only have such.
fn leaves(command: &clap::Command) -> Vec<clap::Command> {
    let commands: Vec<_> = command.get_subcommands().filter(|it| it.get_name() != "help").collect();
    if commands.is_empty() {
        return vec![command.clone()];
    }
    commands.into_iter().flat_map(leaves).collect()
}

/// `run` says what it does in its log, `completions` in the shell's language, `manifest` and `man` in others' formats.
#[test]
fn every_command_that_answers_does_so_in_json_too() {
    for command in leaves(&Cli::command()) {
        let has = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
        let expected = !["run", "completions", "manifest", "man"].contains(&command.get_name())
            || command.get_arguments().any(|argument| argument.get_id() == "name");
        assert_eq!(has, expected, "{}", command.get_name());
    }
}

#[test]
fn help_has_examples_and_says_what_exit_codes_mean() {
    let help = Cli::command().render_long_help().to_string();
    for line in ["Exit codes:", "  3  no controller answers"] {
        assert!(help.contains(line), "{help}");
    }
    for command in Cli::command().get_subcommands() {
        let mut all = vec![command.clone()];
        all.extend(leaves(command));
        let has = all.iter_mut().any(|it| it.render_long_help().to_string().contains("Examples:"));
        assert!(has, "{}", command.get_name());
    }
}

#[test]
fn help_and_version_are_no_errors() {
    assert_eq!(parse("fairlead --version").unwrap_err().kind(), ErrorKind::DisplayVersion);
    for command in Cli::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        let error = parse(&format!("fairlead {} --help", command.get_name())).unwrap_err();
        assert_eq!(error.exit_code(), 0);
    }
}

#[test]
fn without_a_controller_the_error_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let error = parse(&format!("fairlead status --socket {}", socket.display()));
    let error = error.unwrap().run().unwrap_err().to_string();
    assert!(error.contains("is `fairlead run` running? another socket: --socket"), "{error}");
    let error = parse(&format!("fairlead drain --socket {}", socket.display()));
    let error = error.unwrap().run().unwrap_err().to_string();
    assert!(error.contains("is `fairlead run` running?"), "{error}");
}
