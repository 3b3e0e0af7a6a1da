//! Sections of haproxy.cfg to what they balance: `global`, and proxies with the defaults they have.
//! Pure.

use std::time::Duration;

use super::super::findings::{Findings, Kind};
use super::super::source::{Place, Read, Sited, Word, quoted, room};
use super::bind::{Bind, bind};
use super::check::Check;
use super::known;
use super::section::{Line, Section, SectionKind};
use super::server::{Options, Server, server, template};
use super::value::duration;

/// What of a file matters here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Haproxy {
    pub(crate) proxies: Vec<Proxy>,
    /// Of `global`.
    pub(crate) maxconn: Option<Sited<u32>>,
    /// Where relative `ca-file`s are.
    pub(crate) ca_base: Option<Word>,
}

/// A frontend, a backend or both.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) name: Word,
    pub(crate) is_frontend: bool,
    pub(crate) is_backend: bool,
    pub(crate) settings: Settings,
    pub(crate) binds: Vec<Bind>,
    pub(crate) servers: Vec<Server>,
    /// `use_backend`: the backend, and whether it has a condition.
    pub(crate) uses: Vec<(Word, bool)>,
    pub(crate) disabled: Option<Place>,
    /// About its lines; of no interest when all of it is left out.
    pub(crate) findings: Findings,
}

/// What `defaults` sections give to proxies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// `mode http` and other modes than tcp.
    pub(crate) mode: Option<Sited<String>>,
    pub(crate) default_backend: Option<Word>,
    pub(crate) default_server: Options,
    pub(crate) check: Check,
    pub(crate) balance: Option<Sited<String>>,
    pub(crate) source: Option<Word>,
    pub(crate) client: Option<Sited<Duration>>,
    pub(crate) server: Option<Sited<Duration>>,
    pub(crate) tunnel: Option<Sited<Duration>>,
    pub(crate) check_timeout: Option<Sited<Duration>>,
}

impl Proxy {
    /// Whether it forwards TCP as it is.
    pub(crate) fn is_tcp(&self) -> bool {
        self.settings.is_tcp()
    }
}

impl Settings {
    fn is_tcp(&self) -> bool {
        self.mode.as_ref().is_none_or(|mode| mode.value == "tcp")
    }
}

/// Reads all sections, in their order.
pub(crate) fn read(sections: &[Section], findings: &mut Findings) -> Read<Haproxy> {
    let mut haproxy = Haproxy::default();
    let mut defaults: Vec<(Option<&Word>, Settings)> = Vec::new();
    for section in sections {
        let inherited = inherited(section, &defaults)?;
        match section.kind {
            SectionKind::Global => haproxy.global(section, findings)?,
            SectionKind::Defaults => {
                let mut proxy = Proxy::new(section, inherited);
                proxy.read(section)?;
                findings.extend(proxy.findings);
                defaults.push((section.name.as_ref(), proxy.settings));
            }
            SectionKind::Frontend | SectionKind::Backend | SectionKind::Listen => {
                let mut proxy = Proxy::new(section, inherited);
                proxy.read(section)?;
                haproxy.add(proxy)?;
            }
            SectionKind::Other(name) => other(name, section, findings),
        }
    }
    Ok(haproxy)
}

/// What a section starts with: the defaults it names, else the last ones; `defaults` sections have
/// only those they name.
fn inherited(section: &Section, defaults: &[(Option<&Word>, Settings)]) -> Read<Settings> {
    let mut settings = match (&section.from, section.kind) {
        (Some(from), _) => {
            let named = |name: &Option<&Word>| name.is_some_and(|name| name.text == from.text);
            let found: Vec<&Settings> =
                defaults.iter().filter(|(name, _)| named(name)).map(|(_, it)| it).collect();
            match found[..] {
                [settings] => settings.clone(),
                _ => {
                    let (name, count) = (quoted(&from.text), found.len());
                    return Err(from.at.error(format_args!(
                        "{count} `defaults` sections above are called {name}; expected one"
                    )));
                }
            }
        }
        (None, SectionKind::Frontend | SectionKind::Backend | SectionKind::Listen) => {
            defaults.last().map(|(_, settings)| settings.clone()).unwrap_or_default()
        }
        (None, SectionKind::Global | SectionKind::Defaults | SectionKind::Other(_)) => {
            Settings::default()
        }
    };
    settings.check.is_inherited = true;
    Ok(settings)
}

fn other(name: &str, section: &Section, findings: &mut Findings) {
    let (message, remedy) = match name {
        "peers" => ("Fairlead keeps no stick tables", "nothing to do"),
        "resolvers" => (
            "Fairlead asks the servers of /etc/resolv.conf",
            "see that they know the backends' names",
        ),
        "userlist" => {
            ("Fairlead serves no pages with passwords", "the admin socket is for root alone")
        }
        "mailers" => ("Fairlead sends no mail", known::MAIL),
        "program" => ("Fairlead starts no programs", "start them as services of their own"),
        _ => ("it is not about balancing TCP", "nothing to do"),
    };
    let kind = if remedy == "nothing to do" { Kind::Needless } else { Kind::NotCarriedOver };
    findings.add(kind, &section.at, name, message, remedy);
}

impl Haproxy {
    fn add(&mut self, proxy: Proxy) -> Read<()> {
        let clashes = |it: &&Proxy| {
            it.name.text == proxy.name.text
                && ((it.is_frontend && proxy.is_frontend) || (it.is_backend && proxy.is_backend))
        };
        if let Some(other) = self.proxies.iter().find(clashes) {
            let (name, line) = (quoted(&proxy.name.text), other.name.at.line);
            return Err(proxy.name.at.error(format_args!(
                "{name} has the name of the section in line {line}; expected a name of its own"
            )));
        }
        room(self.proxies.len(), "sections", &proxy.name.at)?;
        self.proxies.push(proxy);
        Ok(())
    }

    fn global(&mut self, section: &Section, findings: &mut Findings) -> Read<()> {
        for line in &section.lines {
            match line.text(0) {
                "maxconn" => {
                    let number = line.required(1, "a number")?.number(&(0..=u32::MAX))?;
                    self.maxconn = Some(Sited::new(number, &line.keyword().at));
                }
                "ca-base" => self.ca_base = Some(line.required(1, "a folder")?.clone()),
                _ if known::global(line, findings) => {}
                _ => findings.not_understood(line.keyword()),
            }
        }
        Ok(())
    }
}

impl Proxy {
    fn new(section: &Section, settings: Settings) -> Self {
        let unnamed = || Word::new("", section.at.clone());
        let is = |kinds: [SectionKind; 2]| kinds.contains(&section.kind);
        Self {
            name: section.name.clone().unwrap_or_else(unnamed),
            is_frontend: is([SectionKind::Frontend, SectionKind::Listen]),
            is_backend: is([SectionKind::Backend, SectionKind::Listen]),
            settings,
            binds: Vec::new(),
            servers: Vec::new(),
            uses: Vec::new(),
            disabled: None,
            findings: Findings::default(),
        }
    }

    fn read(&mut self, section: &Section) -> Read<()> {
        for line in section.lines.iter().filter(|line| line.text(0) == "mode") {
            self.mode(line)?;
        }
        let is_proxy = section.kind != SectionKind::Defaults;
        // What speaks HTTP is left out as a whole.
        if is_proxy && !self.is_tcp() {
            return Ok(());
        }
        for keyword in ["bind", "server", "server-template", "use_backend"] {
            let lines = section.lines.iter().filter(|line| line.text(0) == keyword);
            for (count, line) in lines.enumerate() {
                room(count, "lines of this kind in the section", &line.keyword().at)?;
            }
        }
        // A `default-server` line counts for the servers below it only.
        for line in &section.lines {
            let known = self.line(line)? || (is_proxy && self.proxy_line(line)?);
            if !known && !known::proxy(line, &mut self.findings) {
                self.findings.not_understood(line.keyword());
            }
        }
        Ok(())
    }

    fn mode(&mut self, line: &Line) -> Read<()> {
        line.expanded()?;
        let word = line.required(1, "tcp or http")?;
        if !matches!(word.text.as_str(), "tcp" | "http" | "health" | "log" | "spop") {
            let text = quoted(&word.text);
            return Err(word.at.error(format_args!("{text} is no mode; expected tcp or http")));
        }
        self.settings.mode = Some(Sited::new(word.text.clone(), &line.keyword().at));
        Ok(())
    }

    /// Lines that `defaults` may have too; whether this is one that is carried over.
    fn line(&mut self, line: &Line) -> Read<bool> {
        let (settings, findings) = (&mut self.settings, &mut self.findings);
        let at = &line.keyword().at;
        match line.text(0) {
            "mode" => {}
            "timeout" => return settings.timeout(line),
            "balance" => {
                let name = line.required(1, "an algorithm")?.text.clone();
                settings.balance = Some(Sited::new(name, at));
            }
            "default_backend" => {
                line.expanded()?;
                settings.default_backend = Some(line.required(1, "a backend's name")?.clone());
            }
            "default-server" => {
                line.expanded()?;
                settings.default_server.read(&line.words[1..], findings)?;
            }
            "source" => {
                line.expanded()?;
                settings.source = Some(line.required(1, "an address")?.clone());
            }
            "option" => return settings.check.option(line, 1, findings),
            "no" | "default" if line.text(1) == "option" => settings.check.without(line.text(2)),
            "no" | "default" => {}
            "http-check" => settings.check.http_check(line, findings)?,
            "tcp-check" => settings.check.tcp_check(line, findings),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Lines that only proxies may have.
    fn proxy_line(&mut self, line: &Line) -> Read<bool> {
        let defaults = &self.settings.default_server;
        match line.text(0) {
            "bind" => self.binds.push(bind(line, &mut self.findings)?),
            "server" => self.servers.push(server(line, defaults, &mut self.findings)?),
            "server-template" => {
                self.servers.push(template(line, defaults, &mut self.findings)?);
            }
            "use_backend" => {
                line.expanded()?;
                let backend = line.required(1, "a backend's name")?.clone();
                self.uses.push((backend, line.words.len() > 2));
            }
            "disabled" => self.disabled = Some(line.keyword().at.clone()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Settings {
    fn timeout(&mut self, line: &Line) -> Read<bool> {
        let slot = match line.text(1) {
            "client" => &mut self.client,
            "server" => &mut self.server,
            "tunnel" => &mut self.tunnel,
            "check" => &mut self.check_timeout,
            _ => return Ok(false),
        };
        line.expanded()?;
        let mut time = duration(line.required(2, "a time such as 10s")?)?;
        time.at = line.keyword().at.clone();
        *slot = Some(time);
        Ok(true)
    }
}
