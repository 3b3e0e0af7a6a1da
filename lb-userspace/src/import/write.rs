//! The configuration as text: YAML, with its comments. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use jiff::SignedDuration;

use super::draft::{
    BackendDraft, Draft, HealthDraft, InstanceDraft, Noted, ProbeDraft, ServiceDraft, Target,
    TrackedDraft,
};
use super::findings::{Finding, report};

const WIDTH: usize = 98;

/// The file's text, without its findings.
pub(crate) fn write(draft: &Draft, sources: &[&str]) -> String {
    let mut out = Writer::default();
    out.comment(
        0,
        &format!(
            "Configuration of Fairlead, written by `fairlead import` from {}.",
            sources.join(" and ")
        ),
    );
    out.comment(
        0,
        "Read the comments and the findings at the end, then run `fairlead check`. It is for \
                    one node: the others differ in `vrrp`.",
    );
    out.line(0, "version: 1");
    out.blank();
    out.notes(0, &draft.interfaces.notes);
    if !draft.interfaces.value.is_empty() {
        let names: Vec<String> = draft.interfaces.value.iter().map(|name| scalar(name)).collect();
        out.line(0, &format!("interfaces: [{}]", names.join(", ")));
    }
    if let Some(flows) = &draft.flows {
        out.blank();
        out.notes(0, &flows.notes);
        out.line(0, &format!("limits: {{ flows: {} }}", flows.value));
    }
    out.blank();
    out.notes(0, &draft.services.notes);
    if draft.services.value.is_empty() {
        out.line(0, "services: []");
    } else {
        out.line(0, "services:");
        for (index, service) in draft.services.value.iter().enumerate() {
            if index > 0 {
                out.blank();
            }
            out.service(service);
        }
    }
    if !draft.vrrp.is_empty() {
        out.blank();
        out.line(0, "vrrp:");
        for (index, instance) in draft.vrrp.iter().enumerate() {
            if index > 0 {
                out.blank();
            }
            out.instance(instance);
        }
    }
    out.text
}

/// The findings as comments.
pub(crate) fn write_findings(findings: &[Finding]) -> String {
    let mut out = Writer::default();
    out.blank();
    out.comment(0, "Findings of the import, the most important first.");
    for line in report(findings).lines() {
        out.comment(0, line);
    }
    out.text
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn line(&mut self, indent: usize, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{:indent$}{line}", "");
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    /// Wrapped; nothing in it can end the comment.
    fn comment(&mut self, indent: usize, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut line = String::new();
        for word in text.split_whitespace() {
            let length = indent + 2 + line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && length > WIDTH {
                self.line(indent, &format!("# {line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(indent, &format!("# {line}"));
    }

    fn notes(&mut self, indent: usize, notes: &[String]) {
        for note in notes {
            self.comment(indent, note);
        }
    }

    fn noted(&mut self, indent: usize, notes: &[String], line: &str) {
        self.notes(indent, notes);
        self.line(indent, line);
    }

    fn service(&mut self, service: &ServiceDraft) {
        self.notes(2, &service.notes);
        self.line(2, &format!("- name: {}", scalar(&service.name)));
        self.noted(4, &service.vips.notes, &format!("vips: {}", addresses(&service.vips.value)));
        if let Some(standalone) = &service.standalone {
            self.noted(4, &standalone.notes, &format!("standalone: {}", standalone.value));
        }
        self.noted(4, &service.port.notes, &format!("port: {}", service.port.value));
        if let Some(mode) = &service.mode {
            self.noted(4, &mode.notes, &format!("mode: {}", mode.value));
        }
        if let Some(snat) = &service.snat {
            self.noted(4, &snat.notes, &format!("snat_address: {}", address(&snat.value)));
        }
        self.notes(4, &service.idle);
        if let Some(established) = &service.established {
            let line = format!("timeouts: {{ established: {} }}", time(established.value));
            self.noted(4, &established.notes, &line);
        }
        self.notes(4, &service.backends.notes);
        let is_empty = service.backends.value.iter().all(|backend| backend.left_out.is_some());
        self.line(4, if is_empty { "backends: []" } else { "backends:" });
        for backend in &service.backends.value {
            self.backend(backend);
        }
        self.health(&service.health);
    }

    fn backend(&mut self, backend: &BackendDraft) {
        let mut line = format!("- {{ name: {}", scalar(&backend.name));
        line += &match &backend.target {
            Target::Ip(ip) => format!(", address: {}", address(ip)),
            Target::Host(host) => format!(", host: {}", scalar(host)),
        };
        if let Some(port) = backend.port {
            line += &format!(", port: {port}");
        }
        if let Some(weight) = backend.weight {
            line += &format!(", weight: {weight}");
        }
        line += " }";
        match &backend.left_out {
            None => self.line(6, &line),
            Some(reason) => {
                self.comment(6, reason);
                self.line(6, &format!("# {line}"));
            }
        }
    }

    fn health(&mut self, health: &HealthDraft) {
        self.line(4, "health:");
        self.notes(6, &health.probe.notes);
        match &health.probe.value {
            ProbeDraft::Tcp => self.line(6, "type: tcp"),
            ProbeDraft::Http { path } => {
                self.line(6, "type: http");
                self.line(6, &format!("path: {}", scalar(path)));
            }
            ProbeDraft::Https { path, ca_file, server_name } => {
                self.line(6, "type: https");
                self.line(6, &format!("path: {}", scalar(path)));
                match ca_file {
                    Some(file) => self.line(6, &format!("ca_file: {}", scalar(file))),
                    None => self.line(6, "insecure_skip_verify: true"),
                }
                if let Some(name) = server_name {
                    self.line(6, &format!("server_name: {}", scalar(name)));
                }
            }
        }
        if let Some(host) = &health.host {
            self.line(6, &format!("host: {}", scalar(host)));
        }
        let statuses = &health.expect_status;
        self.notes(6, &statuses.notes);
        if !statuses.value.is_empty() {
            self.line(6, &format!("expect_status: [{}]", statuses.value.join(", ")));
        }
        let times = [
            ("interval", &health.interval),
            ("fast_interval", &health.fast_interval),
            ("down_interval", &health.down_interval),
            ("slow_start", &health.slow_start),
            ("timeout", &health.timeout),
        ];
        for (key, value) in times {
            if let Some(Noted { value, notes }) = value {
                self.noted(6, notes, &format!("{key}: {}", time(*value)));
            }
        }
        for (key, value) in [("rise", &health.rise), ("fall", &health.fall)] {
            if let Some(Noted { value, notes }) = value {
                self.noted(6, notes, &format!("{key}: {value}"));
            }
        }
    }

    fn instance(&mut self, instance: &InstanceDraft) {
        self.notes(2, &instance.notes);
        self.line(2, &format!("- name: {}", scalar(&instance.name)));
        match &instance.interface {
            Some(interface) => self.line(4, &format!("interface: {}", scalar(interface))),
            None => self.line(4, "# interface: eth0"),
        }
        self.line(4, &format!("vrid: {}", instance.vrid));
        let priority = &instance.priority;
        self.noted(4, &priority.notes, &format!("priority: {}", priority.value));
        let version = &instance.version;
        self.noted(4, &version.notes, &format!("version: {}", version.value));
        let interval = &instance.advert_interval;
        self.noted(4, &interval.notes, &format!("advert_interval: {}", time(interval.value)));
        if let Some(adverts) = instance.down_timer_adverts {
            self.line(4, &format!("down_timer_adverts: {adverts}"));
        }
        let preempt = &instance.preempt;
        self.noted(4, &preempt.notes, &format!("preempt: {}", preempt.value));
        let delays =
            [("preempt_delay", instance.preempt_delay), ("startup_delay", instance.startup_delay)];
        for (key, delay) in delays {
            if let Some(delay) = delay {
                self.line(4, &format!("{key}: {}", time(delay)));
            }
        }
        if !instance.accept {
            self.line(4, "accept: false");
        }
        self.noted(4, &instance.vips.notes, &format!("vips: {}", addresses(&instance.vips.value)));
        if let Some(group) = &instance.sync_group {
            self.noted(4, &group.notes, &format!("sync_group: {}", scalar(&group.value)));
        }
        self.others(instance);
    }

    /// What an instance has to do with other nodes and interfaces.
    fn others(&mut self, instance: &InstanceDraft) {
        let peers = &instance.peers;
        self.notes(4, &peers.notes);
        if !peers.value.is_empty() {
            self.line(4, &format!("unicast_peers: {}", addresses(&peers.value)));
        }
        if let Some(source) = &instance.unicast_source {
            self.line(4, &format!("unicast_source: {}", address(source)));
        }
        if let Some(password) = &instance.password {
            let line =
                format!("authentication: {{ type: pass, password: {} }}", quoted(&password.value));
            self.noted(4, &password.notes, &line);
        }
        if !instance.tracked.is_empty() {
            self.line(4, "track:");
            self.line(6, "interfaces:");
        }
        for TrackedDraft { name, weight, reverse } in &instance.tracked {
            let reverse = if *reverse { ", reverse: true" } else { "" };
            self.line(8, &format!("- {{ name: {}, weight: {weight}{reverse} }}", scalar(name)));
        }
    }
}

/// In a flow sequence a colon would be read as a mapping's.
fn address(address: &IpAddr) -> String {
    if address.is_ipv6() { format!("\"{address}\"") } else { address.to_string() }
}

fn addresses(list: &[IpAddr]) -> String {
    let list: Vec<String> = list.iter().map(address).collect();
    format!("[{}]", list.join(", "))
}

/// A plain scalar where no reader could take it for anything but text.
fn scalar(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    const WORDS: [&str; 8] = ["y", "n", "yes", "no", "true", "false", "null", "on"];
    let is_word =
        WORDS.contains(&text.to_ascii_lowercase().as_str()) || text.eq_ignore_ascii_case("off");
    if starts_well && text.chars().all(is_safe) && !is_word {
        return text.to_owned();
    }
    quoted(text)
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || c == '\u{feff}' => {
                quoted.push_str(&format!("\\U{:08x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// As an operator would write it.
pub(crate) fn time(time: Duration) -> String {
    SignedDuration::try_from(time)
        .map_or_else(|_| format!("{}s", time.as_secs()), |it| format!("{it:#}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("cp1", "cp1")]
    #[case("/etc/a-b_c.crt", "/etc/a-b_c.crt")]
    #[case("1", "\"1\"")]
    #[case("true", "\"true\"")]
    #[case("Off", "\"Off\"")]
    #[case("a b", "\"a b\"")]
    #[case("a\"\\\n", "\"a\\\"\\\\\\U0000000a\"")]
    #[case("", "\"\"")]
    fn scalars_stay_text(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(scalar(text), expected);
        let read: String = serde_saphyr::from_str(&scalar(text)).unwrap();
        assert_eq!(read, text);
    }

    #[test]
    fn comments_cannot_be_left() {
        let mut out = Writer::default();
        out.comment(2, &format!("a\nb: c\r{}", "long ".repeat(40)));
        assert!(out.text.lines().all(|line| line.starts_with("  # ") && line.len() <= WIDTH));
    }
}
