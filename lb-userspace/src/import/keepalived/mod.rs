//! Reads keepalived.conf, of keepalived 1.2 to 2.3. Pure.
//!
//! ```text
//! bytes -> lexer (tokens) -> block (nested lines) -> instance, server -> Keepalived
//! ```

use std::rc::Rc;
use std::time::Duration;

use super::findings::Findings;
use super::source::{Read, Sited, Word, room};

mod block;
pub(crate) mod instance;
mod known;
mod lexer;
pub(crate) mod server;

use block::Node;
pub(crate) use instance::Instance;
pub(crate) use server::VirtualServer;

/// What of a file matters here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keepalived {
    pub(crate) instances: Vec<Instance>,
    pub(crate) groups: Vec<Group>,
    pub(crate) servers: Vec<VirtualServer>,
    /// `vrrp_version` of `global_defs`.
    pub(crate) version: Option<Sited<u8>>,
    /// `vrrp_startup_delay` of `global_defs`.
    pub(crate) startup_delay: Option<Sited<Duration>>,
}

/// `vrrp_sync_group`: instances that move together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: Word,
    pub(crate) members: Vec<Word>,
}

/// Reads a file as the host called `id` does.
pub(crate) fn read(
    file: &Rc<str>,
    bytes: &[u8],
    id: Option<&str>,
    findings: &mut Findings,
) -> Read<Keepalived> {
    let mut keepalived = Keepalived::default();
    for node in &block::blocks(file, bytes, id, findings)? {
        match node.name() {
            "global_defs" => keepalived.global(node, findings)?,
            "vrrp_instance" => keepalived.add(instance::instance(node, findings)?)?,
            "vrrp_sync_group" => keepalived.groups.push(group(node, findings)?),
            "virtual_server" => {
                keepalived.servers.extend(server::virtual_server(node, findings)?);
            }
            _ if known::global(node, findings) => {}
            _ => findings.not_understood(node.keyword()),
        }
    }
    Ok(keepalived)
}

impl Keepalived {
    fn add(&mut self, instance: Instance) -> Read<()> {
        if let Some(other) = self.instances.iter().find(|it| it.name.text == instance.name.text) {
            let line = other.name.at.line;
            return Err(instance.name.at.error(format_args!(
                "the instance of line {line} has this name too; expected a name of its own"
            )));
        }
        room(self.instances.len(), "instances", &instance.name.at)?;
        self.instances.push(instance);
        Ok(())
    }

    fn global(&mut self, node: &Node, findings: &mut Findings) -> Read<()> {
        for line in &node.children {
            if line.name() == "vrrp_version" {
                let version = line.required(1, "2 or 3")?.number(&(2..=3))?;
                self.version = Some(Sited::new(version, &line.keyword().at));
            } else if line.name() == "vrrp_startup_delay" {
                self.startup_delay = Some(instance::time(line)?);
            } else if !known::global(line, findings) {
                findings.not_understood(line.keyword());
            }
        }
        Ok(())
    }
}

fn group(node: &Node, findings: &mut Findings) -> Read<Group> {
    let mut group =
        Group { name: node.required(1, "the group's name")?.clone(), members: Vec::new() };
    for line in &node.children {
        if line.name() == "group" {
            let members = line.children.iter().flat_map(|member| member.words.iter().cloned());
            group.members.extend(members);
        } else if !known::group(line, findings) {
            findings.not_understood(line.keyword());
        }
    }
    Ok(group)
}

#[cfg(test)]
mod tests;
