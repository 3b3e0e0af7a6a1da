//! Whether clients on this node itself are led, and freed of backends that are lost. Pure.

use super::super::finding::Finding;
use crate::admin::model::{LocalClients, LocalClientsState, PodsState};

/// Of what a running controller says.
pub(super) fn judge(said: &LocalClients) -> Vec<Finding> {
    [led(said), pods(said)].into_iter().flatten().collect()
}

fn led(said: &LocalClients) -> Option<Finding> {
    const ID: &str = "local_clients.led";
    match said.state {
        LocalClientsState::Off => None,
        LocalClientsState::On => Some(Finding::ok(ID, "clients on this node are led to backends")),
        LocalClientsState::Failed => Some(
            Finding::problem(ID, reason(said.reason.as_ref()))
                .because("clients on this node reach the VIP only where it is")
                .fix("fairlead check"),
        ),
    }
}

fn pods(said: &LocalClients) -> Option<Finding> {
    const ID: &str = "local_clients.pods";
    match said.pods.state {
        PodsState::Off => None,
        PodsState::On => {
            Some(Finding::ok(ID, "connections of pods to a backend that is lost are ended"))
        }
        PodsState::Failed => Some(
            Finding::problem(ID, reason(said.pods.reason.as_ref()))
                .because("`local_clients.end_in_pods` asks for it, and it does not happen")
                .fix("fairlead manifest systemd     # or static-pod: what it takes is in it"),
        ),
    }
}

fn reason(said: Option<&String>) -> String {
    said.cloned().unwrap_or_else(|| "the controller does not say why".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{has, severities};
    use super::*;
    use crate::admin::model::Pods;
    use crate::doctor::Severity;

    fn said(state: LocalClientsState, pods: PodsState) -> LocalClients {
        LocalClients {
            state,
            pods: Pods { state: pods, ..Pods::default() },
            ..LocalClients::default()
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_missed() {
        assert!(judge(&said(LocalClientsState::Off, PodsState::Off)).is_empty());
        let found = judge(&said(LocalClientsState::On, PodsState::On));
        assert_eq!((found.len(), severities(&found)), (2, vec![Severity::Ok]));
    }

    #[test]
    fn what_is_asked_for_in_vain_is_a_problem() {
        let found = judge(&said(LocalClientsState::Failed, PodsState::Off));
        assert!(has(&found, "local_clients.led", Severity::Problem), "{found:#?}");
        let mut pods = said(LocalClientsState::On, PodsState::Failed);
        pods.pods.reason = Some("CAP_SYS_ADMIN".to_owned());
        let found = judge(&pods);
        assert!(has(&found, "local_clients.pods", Severity::Problem), "{found:#?}");
        assert!(found.iter().any(|finding| finding.what == "CAP_SYS_ADMIN"), "{found:#?}");
    }
}
