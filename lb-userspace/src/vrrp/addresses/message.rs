//! What the thread for addresses is asked for, and what it tells. I/O: a socket is handed over.

use std::net::IpAddr;
use std::sync::Arc;

use lb_common::link::Mac;

use super::super::socket::Socket;
use super::Facts;
use crate::config::Family;

/// An instance's VIPs and where they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    pub instance: Arc<str>,
    pub interface: String,
    pub family: Family,
    /// Whether it takes part in multicast.
    pub multicast: bool,
    pub vips: Arc<[IpAddr]>,
    /// How long the kernel keeps them when nobody extends that, seconds.
    pub life: u32,
    /// Whether they are to be there from the beginning.
    pub held: bool,
}

/// What the VRRP thread asks for.
#[derive(Debug)]
pub enum Order {
    /// These instances, in place of those before; `vips`: no own address of the node, whoever has them.
    Manage {
        instances: Vec<Managed>,
        vips: Arc<[IpAddr]>,
    },
    /// By the instance's place in the last `Manage`.
    Hold(usize),
    Release(usize),
    End,
}

/// What it is told.
#[derive(Debug)]
pub enum Report {
    /// The interface that an instance is on; when something of it changed.
    Interface { instance: Arc<str>, facts: Facts },
    /// To speak on an instance's interface, for as long as that has this index.
    Socket { instance: Arc<str>, socket: Socket },
    /// A VIP was taken away and is back.
    Restored { instance: Arc<str>, vip: IpAddr },
    /// VIPs are taken away again and again.
    Contested { instance: Arc<str> },
    /// After a while it is worth another try.
    Uncontested { instance: Arc<str> },
    /// Another host says to have a VIP that is held.
    Claimed { instance: Arc<str>, vip: IpAddr, by: Mac },
    /// For the log.
    Trouble(String),
}
