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
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
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
