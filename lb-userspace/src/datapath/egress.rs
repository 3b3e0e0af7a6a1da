//! The program that meets what backends on this node send to clients: at the egress of every interface that
//! the program for XDP is attached to, by pinned links of tcx (Linux 6.6). I/O.
//!
//! It stands before all others, for whoever ends the chain hides a frame from those behind; whatever it does
//! with a frame that it lets go, the next one sees it. Nobody else's is moved or removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use lb_common::addr::PortBe;
use lb_common::filter::PortSet;
use lb_common::map;

use super::attach::{detach_pinned, is_link_on};
use super::pins::Pins;

/// Where the program is, and which ports it looks at.
pub(super) struct Egress {
    ports: Array<MapData, PortSet>,
    written: BTreeSet<u16>,
    /// Interfaces whose link holds this controller's program.
    attached: BTreeSet<String>,
}

impl Egress {
    /// Of a loaded object, whose program is loaded once somebody needs it.
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let name = map::LOCAL_PORTS;
        let map = ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))?;
        Ok(Self { ports: map.try_into()?, written: BTreeSet::new(), attached: BTreeSet::new() })
    }

    /// Attaches to `interfaces`, by name with the kernel's number; without `ports` to none. Detaches from all
    /// others.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn reconcile(
        &mut self,
        program: &mut SchedClassifier,
        pins: &Pins,
        interfaces: &BTreeMap<&str, u32>,
        ports: &BTreeSet<u16>,
    ) -> anyhow::Result<()> {
        if *ports != self.written {
            let mut set = Box::new(PortSet::EMPTY);
            ports.iter().for_each(|port| set.insert(PortBe::new(*port)));
            self.ports.set(0, *set, 0).context("writing the ports of backends on this node")?;
            self.written.clone_from(ports);
        }
        for name in pins.egress_linked() {
            if ports.is_empty() || !interfaces.contains_key(name.as_str()) {
                detach(pins, &name)?;
                self.attached.remove(&name);
                log::info!("{name}: detached from egress");
            }
        }
        if ports.is_empty() {
            return Ok(());
        }
        for (name, ifindex) in interfaces {
            let path = pins.create_egress(name)?;
            if self.attached.contains(*name) && is_link_on(&path, *ifindex) {
                continue;
            }
            load(program)?;
            if !replace(program, &path, *ifindex)? {
                attach_new(program, &path, name).with_context(|| explain(name))?;
            }
            self.attached.insert((*name).to_owned());
            log::info!("{name}: attached to egress, for backends on this node (tcx)");
        }
        Ok(())
    }
}

fn load(program: &mut SchedClassifier) -> anyhow::Result<()> {
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(error) => Err(error).context("loading the program for egress"),
    }
}

/// Puts the program into the link that a predecessor pinned. `false`: there is none that is alive.
fn replace(program: &mut SchedClassifier, path: &Path, ifindex: u32) -> anyhow::Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    if !is_link_on(path, ifindex) {
        fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        return Ok(false);
    }
    let link: FdLink =
        PinnedLink::from_pin(path).with_context(|| format!("opening {}", path.display()))?.into();
    let link = SchedClassifierLink::try_from(link).context("adopting the link of tcx")?;
    program.attach_to_link(link).context("replacing the program for egress")?;
    Ok(true)
}

fn attach_new(program: &mut SchedClassifier, path: &Path, interface: &str) -> anyhow::Result<()> {
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, TcAttachType::Egress, first)?;
    let link: FdLink = program.take_link(id)?.try_into().context("the kernel gave no link")?;
    let pinned = link.pin(path).with_context(|| format!("pinning {}", path.display()))?;
    drop(pinned);
    Ok(())
}

fn explain(interface: &str) -> String {
    format!(
        "attaching to the egress of {interface}, for backends on this node: tcx is needed, which Linux \
         has since 6.6"
    )
}

/// Detaches from an interface and removes its link.
pub fn detach(pins: &Pins, interface: &str) -> anyhow::Result<()> {
    detach_pinned(&pins.egress_link(interface))
}
