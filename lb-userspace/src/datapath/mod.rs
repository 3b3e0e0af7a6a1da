//! The kernel's side: loads or adopts the program and its maps, attaches it, carries out plans.
//!
//! What is pinned outlives the controller. A successor finds the maps that the attached program uses;
//! where key, value, capacity and layout are what it expects it loads its own program over them, else
//! it copies their contents into new ones, and either way swaps the program of each link in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, bail};
use aya::Ebpf;
use lb_common::map;
use lb_common::trace::Filter;

use crate::config::XdpMode;

pub mod attach;
pub mod clock;
pub mod counts;
pub mod egress;
pub mod events;
pub mod flows;
pub mod maps;
mod migrate;
pub mod now;
pub mod object;
pub mod packets;
pub mod pins;
pub mod records;
pub mod removals;
pub mod replica;
pub mod report;
pub mod served;
pub mod signals;
pub mod sockets;
pub mod stale;
pub mod store;
pub mod sweep;
pub mod sys;
pub mod table;

pub use attach::{Attachment, Interface, Mode};
use egress::Egress;
pub use events::FlowEvents;
pub use maps::Maps;
pub use object::{OBJECT, Sizes};
use packets::{Packets, Tracer};
pub use pins::Pins;
pub use signals::SignalRing;

/// The loaded program, its maps, and where it is attached.
pub struct Datapath {
    pub maps: Maps,
    ebpf: Ebpf,
    pins: Pins,
    attachments: BTreeMap<String, Attachment>,
    egress: Egress,
    /// Maps of a predecessor that were copied from, and are to go when the program is swapped.
    predecessor: Option<pins::MapDir>,
    current: pins::MapDir,
    sizes: Sizes,
    /// In the program's place while somebody reads its packets.
    tracer: Option<Tracer>,
}

impl Datapath {
    /// Loads the program over adopted, migrated or new maps. Nothing is attached yet.
    pub fn load(pins: Pins, sizes: &Sizes) -> anyhow::Result<Self> {
        let found = pins.current();
        let sizes = found.as_ref().map_or(*sizes, |dir| sizes.no_smaller_than(dir));
        let sizes = &sizes;
        pins.create()?;
        let (current, predecessor) = match found {
            Some(dir) => match sizes.mismatch(&dir) {
                None => (dir, None),
                Some(why) => {
                    log::info!("not adopting the maps of {}: {why}", dir.path.display());
                    (pins.create_map_dir()?, Some(dir))
                }
            },
            None => (pins.create_map_dir()?, None),
        };
        for stale in pins.map_dirs() {
            if stale != current && Some(&stale) != predecessor.as_ref() {
                stale.remove();
            }
        }
        sockets::prepare(&pins.sockets(), sizes)?;
        let mut ebpf = object::load(&current.path, &pins.sockets(), sizes)?;
        current.pin_program(object::program(&mut ebpf)?)?;
        if let Some(old) = predecessor.as_ref().filter(|old| !old.is_complete()) {
            log::warn!(
                "the maps of {} are of a version that cannot be copied from: connections end",
                old.path.display()
            );
        } else if let Some(old) = &predecessor {
            let copied = migrate::copy_all(old, &current)
                .with_context(|| format!("migrating from {}", old.path.display()))?;
            log::info!("copied {copied} halves of flows into maps of the new layout");
        }
        let maps = Maps::take(&mut ebpf, &current)?;
        let egress = Egress::take(&mut ebpf)?;
        Ok(Self {
            maps,
            ebpf,
            pins,
            attachments: BTreeMap::new(),
            egress,
            predecessor,
            current,
            sizes: *sizes,
            tracer: None,
        })
    }

    /// Attaches to `interface`, or takes over the link that is pinned for it.
    pub fn attach(&mut self, interface: &Interface, mode: XdpMode) -> anyhow::Result<&Attachment> {
        let program = object::program(&mut self.ebpf)?;
        // Loading takes the verifier its time, in which flows were made.
        if let Some(old) = self.predecessor.as_ref().filter(|old| old.is_complete()) {
            migrate::copy_flows(&old.path, &self.current.path)?;
        }
        let attachment = attach::attach(program, &self.pins, interface, mode)?;
        self.attachments.insert(interface.name.clone(), attachment);
        self.attachments.get(&interface.name).context("just inserted")
    }

    /// Attaches in generic mode instead, because of `why`.
    pub fn attach_generic(&mut self, interface: &Interface, why: &str) -> anyhow::Result<()> {
        self.detach(&interface.name)?;
        self.attach(interface, XdpMode::Generic)?;
        if let Some(attachment) = self.attachments.get_mut(&interface.name) {
            attachment.reason = Some(why.to_owned());
        }
        Ok(())
    }

    /// The program runs everywhere it should: what was made meanwhile follows, the old maps go.
    pub fn finish_migration(&mut self) -> anyhow::Result<()> {
        if let Some(old) = self.predecessor.take() {
            if old.is_complete() {
                migrate::copy_flows(&old.path, &self.current.path)?;
            }
            old.remove();
        }
        if self.tracer.is_some() {
            // Its pins are in use.
            return Ok(());
        }
        packets::forget(&self.current.path)?;
        self.current.forget_programs_but(object::program(&mut self.ebpf)?)
    }

    /// The ring of signals, once. Must be called within a tokio runtime.
    pub fn take_signals(&mut self) -> anyhow::Result<SignalRing> {
        SignalRing::take(&mut self.ebpf)
    }

    /// The events of flows, once; from then on the program tells them.
    pub fn take_flow_events(&mut self) -> anyhow::Result<FlowEvents> {
        FlowEvents::take(&mut self.ebpf, &self.maps)
    }

    /// Has TCP sockets of processes below `cgroup` led to backends.
    pub fn lead_sockets(&mut self, cgroup: &Path) -> anyhow::Result<()> {
        sockets::attach(&mut self.ebpf, &self.pins, cgroup)?;
        if !object::lets_programs_set_errors() {
            log::info!(
                "this kernel lets no program say why a connect fails (bpf_set_retval, Linux 6.0): local \
                 clients that no backend is there for are refused by the VIP, if somebody has it; all others \
                 are led"
            );
        }
        Ok(())
    }

    /// All of them are.
    pub fn leads_sockets(&self, cgroup: &Path) -> bool {
        sockets::are_attached(&self.pins, cgroup)
    }

    /// What is kept with sockets that are led, for a reader of its own.
    pub fn redirects(&self) -> anyhow::Result<OwnedFd> {
        let path = self.pins.socket_hook(map::REDIRECTS);
        sys::pinned_object(&path).with_context(|| format!("opening {}", path.display()))
    }

    /// No longer leads any. True: some were.
    pub fn leave_sockets(&self) -> anyhow::Result<bool> {
        sockets::detach(&self.pins)
    }

    /// Meets what backends on this node send from these ports, at every interface that the program for XDP
    /// is attached to; without ports, at none.
    pub fn meet_local_replies(&mut self, ports: &BTreeSet<u16>) -> anyhow::Result<()> {
        let attached = &self.attachments;
        let interfaces = attached.iter().map(|(name, it)| (name.as_str(), it.ifindex)).collect();
        self.egress.reconcile(object::egress(&mut self.ebpf)?, &self.pins, &interfaces, ports)
    }

    /// Has the program's packets followed, until nobody reads them. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Somebody does already, or the kernel cannot.
    pub fn follow(&mut self, filter: &Filter) -> anyhow::Result<Box<dyn Packets>> {
        self.end_unread()?;
        if self.tracer.is_some() {
            bail!("somebody follows packets already: one at a time");
        }
        let datapath = object::program(&mut self.ebpf)?.fd()?;
        let mut tracer = Tracer::load(datapath, &self.current.path, filter)?;
        let packets = tracer.packets()?;
        self.current.pin_program(tracer.program()?)?;
        let mut interfaces = self.attachments.keys();
        let exchanged =
            interfaces.try_for_each(|it| attach::exchange(tracer.program()?, &self.pins, it));
        self.tracer = Some(tracer);
        if let Err(error) = exchanged {
            self.unfollow()?;
            return Err(error);
        }
        Ok(packets)
    }

    /// Puts the program back in its place if nobody reads its packets. `true`: it was not there.
    pub fn end_unread(&mut self) -> anyhow::Result<bool> {
        let is_over = self.tracer.as_ref().is_some_and(|tracer| !tracer.is_read());
        if is_over {
            self.unfollow()?;
        }
        Ok(is_over)
    }

    /// Likewise, whether or not somebody does.
    pub fn unfollow(&mut self) -> anyhow::Result<()> {
        if self.tracer.is_none() {
            return Ok(());
        }
        let program = object::program(&mut self.ebpf)?;
        for interface in self.attachments.keys() {
            attach::exchange(program, &self.pins, interface)?;
        }
        self.tracer = None;
        self.current.forget_programs_but(program)
    }

    /// Forgets an interface that is gone, or that the configuration no longer has.
    pub fn detach(&mut self, interface: &str) -> anyhow::Result<()> {
        self.attachments.remove(interface);
        egress::detach(&self.pins, interface)?;
        attach::detach(&self.pins, interface)
    }

    pub fn attachments(&self) -> &BTreeMap<String, Attachment> {
        &self.attachments
    }

    /// How large the maps are.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Detaches everywhere and removes every pin.
    pub fn remove(self) -> anyhow::Result<()> {
        sockets::detach(&self.pins)?;
        for interface in self.pins.linked() {
            attach::detach(&self.pins, &interface)?;
        }
        for interface in self.pins.egress_linked() {
            egress::detach(&self.pins, &interface)?;
        }
        self.pins.remove_all()
    }
}
