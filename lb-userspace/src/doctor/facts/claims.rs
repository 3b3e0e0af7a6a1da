//! Who has the VIPs: asked for on the link, with `--probe`. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use lb_common::link::Mac;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use super::Looked;
use crate::config::{Config, Family};
use crate::netlink::Snapshot;
use crate::netlink::garp::FrameSocket;
use crate::vrrp::addresses::claims::{open, receive};
use crate::vrrp::{announce, claim};

/// Two questions each, this far apart; then as long for the answers.
const PAUSE: Duration = Duration::from_millis(400);
/// VIPs that are asked for, and answers that are read.
const MOST_VIPS: usize = 64;
const MOST_ANSWERS: usize = 4096;

/// A VIP, and the hosts that say to have it; this one left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub vip: IpAddr,
    pub interface: String,
    pub owners: BTreeSet<[u8; 6]>,
}

/// Asks by ARP and neighbour solicitations; needs CAP_NET_RAW. Blocks for a second.
pub(super) fn ask(config: &Config, snapshot: &Snapshot) -> Looked<Vec<Asked>> {
    let places = places(config, snapshot);
    let mut asked: BTreeMap<(u32, IpAddr), Asked> = places
        .iter()
        .map(|(vip, ifindex)| {
            let interface = snapshot.links.get(ifindex).map(|link| link.name.clone());
            let interface = interface.unwrap_or_default();
            ((*ifindex, *vip), Asked { vip: *vip, interface, owners: BTreeSet::new() })
        })
        .collect();
    let done = converse(&places, snapshot, &mut asked);
    done.map_err(|error| format!("asking on the link: {error}"))?;
    let ours: BTreeSet<[u8; 6]> = snapshot.links.values().map(|link| link.mac.0).collect();
    let mut asked: Vec<Asked> = asked.into_values().collect();
    asked.iter_mut().for_each(|it| it.owners.retain(|mac| !ours.contains(mac)));
    Ok(asked)
}

/// Each VIP and the interface that it is, or would be, on.
fn places(config: &Config, snapshot: &Snapshot) -> Vec<(IpAddr, u32)> {
    let place = |vip: IpAddr| {
        let elected = config.vrrp.iter().find(|instance| instance.vips.contains(&vip));
        let ifindex = match elected {
            Some(instance) => snapshot.link_by_name(&instance.interface)?.index,
            None => snapshot.interface_for(vip, &config.interfaces)?,
        };
        Some((vip, ifindex))
    };
    config.vips().into_iter().filter_map(place).take(MOST_VIPS).collect()
}

fn converse(
    places: &[(IpAddr, u32)],
    snapshot: &Snapshot,
    asked: &mut BTreeMap<(u32, IpAddr), Asked>,
) -> std::io::Result<()> {
    let (mut v4, mut v6): (Vec<Ipv4Addr>, Vec<Ipv6Addr>) = (Vec::new(), Vec::new());
    for (vip, _) in places {
        match vip {
            IpAddr::V4(vip) => v4.push(*vip),
            IpAddr::V6(vip) => v6.push(*vip),
        }
    }
    let sockets = [
        (open(libc::ETH_P_ARP, &claim::arp_filter(&v4))?, Family::V4),
        (open(libc::ETH_P_IPV6, &claim::advertisement_filter(&v6))?, Family::V6),
    ];
    let frames = FrameSocket::open()?;
    for _ in 0..2 {
        for (vip, ifindex) in places {
            if let Some(frame) = question(*vip, *ifindex, snapshot) {
                // An interface that is down cannot be asked on, which is said elsewhere.
                let _ = frames.send(*ifindex, &frame);
            }
        }
        hear(&sockets, asked)?;
    }
    Ok(())
}

/// From no address in IPv4, so that nobody learns anything from it (RFC 5227 2.1.1).
fn question(vip: IpAddr, ifindex: u32, snapshot: &Snapshot) -> Option<Vec<u8>> {
    let mac: Mac = snapshot.links.get(&ifindex)?.mac;
    match vip {
        IpAddr::V4(vip) => Some(announce::question(mac, Ipv4Addr::UNSPECIFIED, vip).to_vec()),
        IpAddr::V6(vip) => {
            let own = snapshot.addresses.iter().find_map(|it| match it.address {
                IpAddr::V6(own) if it.ifindex == ifindex && own.is_unicast_link_local() => {
                    Some(own)
                }
                IpAddr::V4(_) | IpAddr::V6(_) => None,
            });
            Some(announce::solicitation(mac, own?, vip).to_vec())
        }
    }
}

fn hear(
    sockets: &[(Socket, Family)],
    asked: &mut BTreeMap<(u32, IpAddr), Asked>,
) -> std::io::Result<()> {
    let (until, mut answers) = (now() + PAUSE, 0);
    loop {
        let left = until.saturating_duration_since(now());
        if left.is_zero() || answers >= MOST_ANSWERS {
            return Ok(());
        }
        let mut fds: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (socket, family) in sockets {
            while answers < MOST_ANSWERS
                && let Ok(heard) = receive(socket, *family)
            {
                answers += 1;
                let Some(heard) = heard else { continue };
                if let Some(asked) = asked.get_mut(&(heard.ifindex, heard.claim.address)) {
                    asked.owners.insert(heard.claim.owner.0);
                }
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of listening is that of the clock")]
fn now() -> Instant {
    Instant::now()
}
