//! What `fairlead doctor` finds, and what it prints of that. Pure.

use std::fmt::Write as _;

use serde::Serialize;

/// How bad it is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work, or will not.
    Problem,
    /// It works, and may not for long or not as expected.
    Warning,
    /// Worth knowing; nothing has to be done.
    Info,
    /// Looked at, and as it should be.
    Ok,
}

impl Severity {
    pub const ALL: [Self; 4] = [Self::Problem, Self::Warning, Self::Info, Self::Ok];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Ok => "ok",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stays the same from version to version, such as `xdp.foreign`.
    pub id: &'static str,
    pub severity: Severity,
    /// What is the case.
    pub what: String,
    /// Why that matters; empty if it is as it should be.
    pub why: String,
    /// What to type, a command or a key of the configuration each; a line that begins with `#` is for people.
    pub fix: Vec<String>,
}

impl Finding {
    pub fn problem(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, Severity::Problem, what)
    }

    pub fn warning(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, Severity::Warning, what)
    }

    pub fn info(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, Severity::Info, what)
    }

    pub fn ok(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, Severity::Ok, what)
    }

    /// Something that could not be looked at.
    pub fn unknown(id: &'static str, what: &str, error: impl std::fmt::Display) -> Self {
        Self::info(id, format!("{what} could not be looked at: {error}"))
            .because("what is wrong there stays unknown; as root more can be read")
    }

    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    #[must_use]
    pub fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix.push(command.into());
        self
    }

    fn new(id: &'static str, severity: Severity, what: impl Into<String>) -> Self {
        Self { id, severity, what: what.into(), why: String::new(), fix: Vec::new() }
    }
}

/// The outcome, with `--json` as it is. Keys stay, and others may come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub version: &'static str,
    /// The configuration that was looked at; null: there is none that can be read.
    pub configuration: Option<String>,
    /// Whether a controller answered.
    pub controller: bool,
    /// Whether the link was asked, with `--probe`.
    pub probed: bool,
    /// The worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// For people. What is as it should be is only counted, unless `all` is wanted.
    pub fn show(&self, all: bool) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            if all || finding.severity != Severity::Ok {
                text += &show(finding);
            }
        }
        let number = |severity: Severity, one: &str, many: &str| match self.count(severity) {
            0 => format!("no {many}"),
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        };
        let [problems, warnings] = [
            number(Severity::Problem, "problem", "problems"),
            number(Severity::Warning, "warning", "warnings"),
        ];
        let fine = self.count(Severity::Ok);
        let hint = if all { "" } else { " (--all shows them)" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{problems}, {warnings}; {fine} checks are as they should be{hint}");
        text
    }
}

/// Where the second column begins.
const INDENT: usize = 9;

fn show(finding: &Finding) -> String {
    let Finding { id, severity, what, why, fix } = finding;
    let mut text = format!("{:INDENT$}{what}  [{id}]\n", severity.as_str());
    let mut line = |name: &str, said: &str| {
        let _ = writeln!(text, "{:INDENT$}{name:6}{said}", "");
    };
    if !why.is_empty() {
        line("why:", why);
    }
    for (index, command) in fix.iter().enumerate() {
        line(if index == 0 { "type:" } else { "" }, command);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let findings = vec![
            Finding::problem("xdp.foreign", "eth0 has program 7")
                .because("nobody's program is replaced")
                .fix("ip link set dev eth0 xdp off")
                .fix("# or leave eth0 out"),
            Finding::info("kernel.jit", "it is on"),
            Finding::ok("kernel.version", "Linux 6.1"),
        ];
        Report {
            version: "0",
            configuration: Some("f.yaml".to_owned()),
            controller: false,
            probed: false,
            findings,
        }
    }

    #[test]
    fn a_finding_says_what_why_and_what_to_type() {
        let expected = "problem  eth0 has program 7  [xdp.foreign]
         why:  nobody's program is replaced
         type: ip link set dev eth0 xdp off
               # or leave eth0 out
info     it is on  [kernel.jit]
1 problem, no warnings; 1 checks are as they should be (--all shows them)
";
        assert_eq!(report().show(false), expected);
        assert!(report().show(true).contains("ok       Linux 6.1  [kernel.version]\n"));
    }

    #[test]
    fn json_has_every_part() {
        let json = serde_json::to_value(report()).unwrap();
        let first = &json["findings"][0];
        assert_eq!((&first["id"], &first["severity"]), (&"xdp.foreign".into(), &"problem".into()));
        assert_eq!(first["fix"][0], "ip link set dev eth0 xdp off");
        assert_eq!(json["configuration"], "f.yaml");
    }
}
