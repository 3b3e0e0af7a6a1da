//! The kernel's network configuration, read, watched and (for VIPs) changed. Called by control. I/O.
//!
//! ```text
//!  kernel ── multicast ──► Changes ──► control: settle, then snapshot()
//!     ▲                                   │
//!     │ dump                              ▼
//!  Netlink ◄──────────────────────── Snapshot ──► routes, neighbours, next hops, sources
//!     ▲                                   │
//!     └── add_vip, remove_vip, resolve ◄──┘
//! ```
//! `snapshot` is pure and answers the questions; `parse` fills it. `offload` and `garp` are what
//! else interfaces are asked for: what they do to received packets, and sending of raw frames; `features`
//! asks what they can do, `filters` what traffic control has on them. `blocking` and `sock_diag`, which is about sockets, are for threads that have no
//! runtime; `conversation` is what both speak by.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{AddressMessageBuilder, Handle, new_connection};

pub mod blocking;
mod conversation;
pub mod features;
pub mod filters;
pub mod garp;
pub mod offload;
mod parse;
mod request;
pub mod snapshot;
pub mod sock_diag;
mod watch;

pub use snapshot::{Resolution, Snapshot};
pub use watch::Changes;

use request::{dump, execute};

use crate::config::Family;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// A lifetime without end.
const FOREVER: u32 = u32::MAX;

/// A connection to the kernel of the network namespace that it was opened in.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Connects in the current thread's network namespace; needs a tokio runtime.
    pub fn open() -> Result<Self> {
        let (mut connection, handle, _) = new_connection().context("open a netlink socket")?;
        connection.set_forward_done(true);
        connection.set_forward_ack(true);
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Reads everything. Subscribe first, so that no change falls between.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        for message in dump(&self.handle, &request).await.context("list the interfaces")? {
            if let RouteNetlinkMessage::NewLink(link) = message {
                snapshot.links.insert(link.header.index, parse::link(&link));
            }
        }
        snapshot.addresses = self.addresses().await?;
        for family in FAMILIES {
            self.routes(family, &mut snapshot).await.context("list the routes")?;
            self.neighbours(family, &mut snapshot).await.context("list the neighbours")?;
        }
        Ok(snapshot)
    }

    async fn routes(&self, family: AddressFamily, snapshot: &mut Snapshot) -> Result<()> {
        let mut route = RouteMessage::default();
        route.header.address_family = family;
        let request = RouteNetlinkMessage::GetRoute(route);
        for message in dump(&self.handle, &request).await? {
            // A kernel without a family answers with what it has of all others.
            if let RouteNetlinkMessage::NewRoute(route) = message
                && route.header.address_family == family
            {
                snapshot.routes.extend(parse::route(&route));
            }
        }
        Ok(())
    }

    async fn neighbours(&self, family: AddressFamily, snapshot: &mut Snapshot) -> Result<()> {
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.family = family;
        let request = RouteNetlinkMessage::GetNeighbour(neighbour);
        for message in dump(&self.handle, &request).await? {
            let RouteNetlinkMessage::NewNeighbour(neighbour) = message else { continue };
            if let Some((ifindex, address, entry)) = parse::neighbour(&neighbour) {
                snapshot.neighbours.insert((ifindex, address), entry);
            }
        }
        Ok(())
    }

    /// Subscribes to changes, in the current thread's network namespace.
    pub fn watch() -> Result<Changes> {
        Changes::subscribe()
    }

    /// Adds a VIP as /32 or /128 with preferred lifetime 0, so that no connection of the node itself
    /// prefers it as a source. Nothing happens if it is there; its lifetime is corrected.
    pub async fn add_vip(&self, ifindex: u32, vip: IpAddr) -> Result<()> {
        let context = || format!("add the VIP {vip} to interface {ifindex}");
        let added = self.new_vip(ifindex, vip, NLM_F_CREATE | NLM_F_EXCL).await;
        match added.with_context(context)? {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            result => return result.with_context(context),
        }
        let is_right = |found: &snapshot::Address| {
            (found.ifindex, found.address, found.prefix_len)
                == (ifindex, vip, Family::of(&vip).bits())
                && found.deprecated
        };
        if self.addresses().await?.iter().any(is_right) {
            return Ok(());
        }
        let replaced = self.new_vip(ifindex, vip, NLM_F_CREATE | NLM_F_REPLACE).await;
        replaced.and_then(|result| Ok(result?)).with_context(context)
    }

    /// Removes a VIP (as /32 or /128: no other address). Nothing happens if it or the interface is gone.
    pub async fn remove_vip(&self, ifindex: u32, vip: IpAddr) -> Result<()> {
        let context = || format!("remove the VIP {vip} from interface {ifindex}");
        let request = RouteNetlinkMessage::DelAddress(vip_message(ifindex, vip, FOREVER));
        match execute(&self.handle, request, 0).await.with_context(context)? {
            Err(error) if is_gone(&error) => Ok(()),
            result => result.with_context(context),
        }
    }

    /// Takes an interface's XDP program off, whoever attached it; not one that is held by a link.
    pub async fn remove_xdp(&self, ifindex: u32, mode: snapshot::AttachMode) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let off = vec![LinkXdp::Fd(-1), LinkXdp::Flags(xdp_flags(mode))];
        message.attributes.push(LinkAttribute::Xdp(off));
        let done = execute(&self.handle, RouteNetlinkMessage::SetLink(message), 0).await?;
        done.with_context(|| format!("take the XDP program off interface {ifindex}"))
    }

    /// Has the kernel ask for a neighbour's address: one unknown, or one that failed to answer.
    /// Not for permanent entries, which it would make temporary.
    pub async fn resolve(&self, ifindex: u32, neighbour: IpAddr) -> Result<()> {
        let request = RouteNetlinkMessage::NewNeighbour(use_message(ifindex, neighbour));
        let result = execute(&self.handle, request, NLM_F_CREATE).await;
        result
            .and_then(|result| Ok(result?))
            .with_context(|| format!("resolve the neighbour {neighbour} on interface {ifindex}"))
    }

    async fn addresses(&self) -> Result<Vec<snapshot::Address>> {
        let mut addresses = Vec::new();
        for family in FAMILIES {
            let mut message = AddressMessage::default();
            message.header.family = family;
            let request = RouteNetlinkMessage::GetAddress(message);
            for message in dump(&self.handle, &request).await.context("list the addresses")? {
                if let RouteNetlinkMessage::NewAddress(address) = message
                    && address.header.family == family
                {
                    addresses.extend(parse::address(&address));
                }
            }
        }
        Ok(addresses)
    }

    async fn new_vip(&self, ifindex: u32, vip: IpAddr, flags: u16) -> Result<io::Result<()>> {
        let request = RouteNetlinkMessage::NewAddress(vip_message(ifindex, vip, FOREVER));
        execute(&self.handle, request, flags).await
    }
}

/// `XDP_FLAGS_*` of linux/if_link.h: in which mode the program is that is meant.
const fn xdp_flags(mode: snapshot::AttachMode) -> u32 {
    match mode {
        snapshot::AttachMode::Generic => 1 << 1,
        snapshot::AttachMode::Native | snapshot::AttachMode::Multiple => 1 << 2,
        snapshot::AttachMode::Hardware => 1 << 3,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENXIO))
}

/// `valid`: after so many seconds the kernel removes it.
fn vip_message(ifindex: u32, vip: IpAddr, valid: u32) -> AddressMessage {
    // The VIP may be on another node a moment longer: waiting for it to be unique would lose it.
    let (mut message, flags) = match vip {
        IpAddr::V4(vip) => (
            AddressMessageBuilder::<Ipv4Addr>::new().index(ifindex).address(vip, 32).build(),
            AddressFlags::Noprefixroute,
        ),
        IpAddr::V6(vip) => (
            AddressMessageBuilder::<Ipv6Addr>::new().index(ifindex).address(vip, 128).build(),
            AddressFlags::Noprefixroute | AddressFlags::Nodad,
        ),
    };
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_preferred = 0;
    lifetime.ifa_valid = valid;
    message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    message.attributes.push(AddressAttribute::Flags(flags));
    message
}

fn use_message(ifindex: u32, neighbour: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, destination) = match neighbour {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    message.header.family = family;
    message.header.ifindex = ifindex;
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}
