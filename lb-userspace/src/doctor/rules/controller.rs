//! The configuration's file, and what the running controller says of itself. Pure.

use super::super::facts::{Controller, File, Running};
use super::super::finding::Finding;
use crate::admin::model::{Change, Flows, Service, Status, Vrrp};
use crate::config::ConfigError;
use crate::config::diff::diff_shown;
use crate::config::show::show;

/// Differences that are listed.
const MOST_SHOWN: usize = 5;

pub(super) fn judge(file: &File, controller: &Controller) -> Vec<Finding> {
    let mut found = vec![configuration(file)];
    match controller {
        Controller::Unasked => {}
        Controller::Absent(why) => found.push(
            Finding::info("controller.running", why.clone())
                .because("what only a running controller knows is not looked at")
                .fix("systemctl status fairlead"),
        ),
        Controller::Broken(why) => found.push(
            Finding::problem(
                "controller.running",
                format!("the controller does not answer as it should: {why}"),
            )
            .because("it may hang; leases of elected VIPs end, and another node takes over")
            .fix("journalctl -u fairlead"),
        ),
        Controller::Running(running) => found.extend(running_one(file, running)),
    }
    found
}

fn configuration(file: &File) -> Finding {
    const ID: &str = "config.valid";
    let path = file.path.display();
    match &file.config {
        Ok(_) => Finding::ok(ID, format!("{path} is valid")),
        Err(error) => {
            let found = match error {
                ConfigError::Unreadable { .. } => Finding::problem(ID, error.to_string())
                    .because("without a configuration a controller does not start, and most cannot be looked at"),
                ConfigError::TooLarge { .. } | ConfigError::Invalid { .. } => {
                    Finding::problem(ID, error.to_string())
                        .because("a controller does not start with it, and one that runs goes on with the old one")
                }
            };
            found.fix(format!("fairlead check --config {path}"))
        }
    }
}

fn running_one(file: &File, running: &Running) -> Vec<Finding> {
    let status = &running.status;
    let mut found = vec![version(status)];
    found.extend(differs(file, running));
    found.extend(status.services.iter().map(service));
    found.extend(status.vrrp.iter().map(instance));
    found.push(table(status.flows));
    if !status.overrides.is_empty() {
        found.push(
            Finding::info(
                "controller.overrides",
                format!("operators overrule {} backends", status.overrides.len()),
            )
            .because("that holds until it is undone, over restarts too")
            .fix("fairlead status     # which; then: fairlead backend reset SERVICE/BACKEND"),
        );
    }
    found
}

fn version(status: &Status) -> Finding {
    const ID: &str = "controller.version";
    let ours = env!("CARGO_PKG_VERSION");
    if status.version == ours {
        return Finding::ok(ID, format!("a controller runs, of version {ours}"));
    }
    Finding::info(
        ID,
        format!(
            "the controller that runs is of version {}, this command of {ours}",
            status.version
        ),
    )
    .because("an upgrade is not complete before the controller has been replaced")
    .fix("fairlead stop --handover && systemctl start fairlead")
}

/// Whether what applies is what the file says.
fn differs(file: &File, running: &Running) -> Option<Finding> {
    const ID: &str = "config.applies";
    let shown = show(file.config.as_ref().ok()?).ok()?;
    let changes: Vec<Change> = diff_shown(&running.config.config, &shown.json);
    if changes.is_empty() {
        return Some(Finding::ok(ID, "the controller runs with what the file says"));
    }
    let keys: Vec<&str> =
        changes.iter().take(MOST_SHOWN).map(|change| change.key.as_str()).collect();
    let more = if changes.len() > MOST_SHOWN { " and more" } else { "" };
    Some(
        Finding::warning(
            ID,
            format!(
                "the file {} says otherwise than what applies: {}{more}",
                file.path.display(),
                keys.join(", ")
            ),
        )
        .because("the next start, of whatever cause, changes that")
        .fix("fairlead reload --dry-run     # what would change")
        .fix("fairlead reload"),
    )
}

fn service(service: &Service) -> Finding {
    const ID: &str = "controller.service";
    let Service { name, alarms, backends, panic, .. } = service;
    let used = backends.iter().filter(|backend| backend.effective_weight > 0).count();
    let total = backends.len();
    let look = "fairlead status     # the reason of each";
    if *panic || used == 0 {
        return Finding::problem(ID, format!("{name}: no backend is up"))
            .because("new connections are refused, or go to those that last were up")
            .fix(look);
    }
    if let Some(alarm) = alarms.first() {
        return Finding::warning(ID, format!("{name}: {alarm}"))
            .because("it works, as long as no more backends are lost")
            .fix(look);
    }
    if used < total {
        let others = backends.iter().filter(|backend| backend.effective_weight == 0);
        let others: Vec<String> = others
            .map(|it| format!("{} is {} ({})", it.name, it.state.as_str(), it.reason))
            .take(MOST_SHOWN)
            .collect();
        return Finding::warning(
            ID,
            format!("{name}: {used} of {total} backends are used; {}", others.join(", ")),
        )
        .because("fewer can be lost before nobody is left")
        .fix(look);
    }
    Finding::ok(ID, format!("{name}: all {total} backends are used"))
}

fn instance(instance: &Vrrp) -> Finding {
    const ID: &str = "controller.vrrp";
    let Vrrp { name, state, reason, alarms, .. } = instance;
    let look = "fairlead events     # what happened";
    if state == "fault" {
        return Finding::problem(ID, format!("VRRP {name} is at fault: {reason}"))
            .because("this node takes no VIP")
            .fix(look);
    }
    if let Some(alarm) = alarms.first() {
        return Finding::problem(ID, format!("VRRP {name}: {}", alarm.message))
            .because("nodes that do not agree may hold the VIP at once, or not at all")
            .fix("fairlead status --json | jq .vrrp");
    }
    Finding::ok(ID, format!("VRRP {name} is {state}"))
}

/// New connections are refused when the table is full.
fn table(flows: Flows) -> Finding {
    const ID: &str = "flows.table";
    let Flows { established, capacity, .. } = flows;
    let what = format!("{established} of {} connections", capacity.established);
    if established * 5 >= capacity.established * 4 && capacity.established > 0 {
        return Finding::warning(ID, format!("the table of flows has {what}"))
            .because("new connections are reset when it is full")
            .fix("limits: { flows: … }     # larger, in the configuration; then restart with a handover");
    }
    Finding::ok(ID, format!("the table of flows has room: {what}"))
}

#[cfg(test)]
mod tests;
