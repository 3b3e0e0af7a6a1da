//! How soon an apiserver that shuts down is out, against how long it goes on. Pure.

use super::super::finding::Finding;
use crate::config::{Config, Service};
use crate::health::removal::worst_case;

pub(super) fn judge(config: &Config) -> Vec<Finding> {
    config.services.iter().map(service).collect()
}

fn service(service: &Service) -> Finding {
    const ID: &str = "removal.shutdown_delay";
    let name = &service.name;
    let Some(not_ready) = worst_case(&service.health).not_ready else {
        return Finding::info(
            ID,
            format!("{name}: probes of type tcp do not see that an apiserver shuts down"),
        )
        .because("each restart of one breaks what connects in its last moments")
        .fix("health: { type: https }     # in the configuration");
    };
    let needed = not_ready.total().as_secs_f64();
    let raise = format!(
        "--shutdown-delay-duration={}s     # of each kube-apiserver",
        needed.ceil().max(5.0)
    );
    match service.health.pace.shutdown_delay {
        None => Finding::info(
            ID,
            format!("{name}: an apiserver that shuts down is out {needed:.1} s after /readyz turned red, at worst"),
        )
        .because(
            "its --shutdown-delay-duration has to be longer, and is 0 unless set; that cannot be seen from here, so compare \
             them, and say it in `shutdown_delay`",
        )
        .fix("kubectl -n kube-system get pods -l component=kube-apiserver -o yaml | grep shutdown-delay")
        .fix(raise),
        Some(delay) if not_ready.total() > delay => Finding::warning(
            ID,
            format!(
                "{name}: apiservers stop listening {} s after /readyz turns red (`shutdown_delay`), and are out only after {needed:.1} s",
                delay.as_secs_f64()
            ),
        )
        .because("each restart of an apiserver breaks connections that were just being made")
        .fix(raise),
        Some(_) => Finding::ok(ID, format!("{name}: an apiserver that shuts down is out in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{config, has};
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn the_delay_is_compared_with_the_worst_case() {
        let of = |keys: &str| judge(&config(&format!("    health: {{ {keys} }}\n")));
        let id = "removal.shutdown_delay";
        for (keys, severity) in [
            ("type: tcp", Severity::Info),
            ("type: http", Severity::Info),
            ("type: http, shutdown_delay: 10s", Severity::Ok),
            ("type: http, shutdown_delay: 1s", Severity::Warning),
        ] {
            let found = of(keys);
            assert!(has(&found, id, severity), "{keys}: {found:#?}");
        }
    }
}
