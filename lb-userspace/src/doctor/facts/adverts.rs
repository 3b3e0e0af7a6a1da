//! Who speaks VRRP on the link: a short listening, which sends nothing but what makes switches let the group
//! through. I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Looked;
use crate::config::{Config, Family, Vrrp};
use crate::netlink::Snapshot;
use crate::vrrp::packet::{self, Advert, Discard};
use crate::vrrp::socket::{Membership, Socket};
use crate::vrrp::{Envelope, Settings, Version};

/// Longer than one interval of the second that is usual, shorter than who waits for an answer minds.
const SHORTEST: Duration = Duration::from_millis(1300);
const LONGEST: Duration = Duration::from_millis(3500);
/// Messages of an interface, and senders that are kept of them.
const MOST_MESSAGES: usize = 4096;
const MOST_SENDERS: usize = 256;

/// Somebody who advertises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    pub interface: String,
    pub source: IpAddr,
    pub vrid: u8,
    pub said: Result<Said, Discard>,
    /// Why an instance of ours, by its name, does not take what it says.
    pub refused: Option<(String, Discard)>,
    /// Messages within the time of listening.
    pub count: usize,
}

/// What an advertisement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub version: Version,
    /// 0: it gives up.
    pub priority: u8,
    pub interval: Duration,
    pub addresses: Vec<IpAddr>,
}

/// Listens on the interfaces of all instances at once; needs CAP_NET_RAW. Blocks for some seconds.
pub(super) fn listen(config: &Config, snapshot: &Snapshot) -> Looked<Vec<Speaker>> {
    let mut ears: Vec<Ear<'_>> = Vec::new();
    for instance in &config.vrrp {
        let (family, interface) = (instance.family(), instance.interface.as_str());
        let known = ears.iter_mut().find(|ear| (ear.family, ear.interface) == (family, interface));
        match (known, snapshot.link_by_name(interface)) {
            (Some(ear), _) => ear.instances.push(instance),
            (None, Some(link)) => {
                let ear = Ear::open(family, instance, link.index);
                ears.push(ear.map_err(|error| format!("listening on {interface}: {error}"))?);
            }
            // That it is not there is said elsewhere.
            (None, None) => {}
        }
    }
    if ears.is_empty() {
        return Ok(Vec::new());
    }
    let interval = config.vrrp.iter().map(|instance| instance.advert_interval).max();
    let span = (interval.unwrap_or_default() * 13 / 10).clamp(SHORTEST, LONGEST);
    hear(&mut ears, span).map_err(|error| format!("listening: {error}"))?;
    let own = |speaker: &Speaker| snapshot.addresses.iter().any(|it| it.address == speaker.source);
    let mut heard: Vec<Speaker> =
        ears.into_iter().flat_map(|ear| ear.heard.into_values()).collect();
    heard.retain(|speaker| !own(speaker));
    Ok(heard)
}

/// An interface in one family.
struct Ear<'a> {
    family: Family,
    interface: &'a str,
    instances: Vec<&'a Vrrp>,
    socket: Socket,
    /// Ends with this.
    _membership: Option<Membership>,
    heard: BTreeMap<(IpAddr, u8), Speaker>,
    messages: usize,
}

impl<'a> Ear<'a> {
    fn open(family: Family, instance: &'a Vrrp, ifindex: u32) -> std::io::Result<Self> {
        let interface = instance.interface.as_str();
        Ok(Self {
            family,
            interface,
            instances: vec![instance],
            socket: Socket::open(family, interface, ifindex)?,
            // With unicast peers too: a multicast for the VRID is what must not be there.
            _membership: Membership::join(family, ifindex).ok(),
            heard: BTreeMap::new(),
            messages: 0,
        })
    }

    fn drain(&mut self) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 + packet::MAX_LEN];
        while self.messages < MOST_MESSAGES
            && let Some(received) = self.socket.receive(&mut buffer)?
        {
            self.messages += 1;
            let message = buffer.get(received.message).unwrap_or_default();
            self.note(message, &received.envelope);
        }
        Ok(())
    }

    fn note(&mut self, message: &[u8], envelope: &Envelope) {
        let Some((version, vrid)) = packet::peek(message) else { return };
        let key = (envelope.source, vrid);
        if !self.heard.contains_key(&key) && self.heard.len() >= MOST_SENDERS {
            return;
        }
        let version = if version == Version::V2.number() { Version::V2 } else { Version::V3 };
        let parsed = packet::parse(message, envelope, version);
        let ours = self.instances.iter().find(|instance| instance.vrid == vrid);
        let refused = ours.zip(parsed.as_ref().ok()).and_then(|(ours, advert)| {
            let why = Settings::from(*ours).admits(advert, envelope).err()?;
            Some((ours.name.clone(), why))
        });
        let said = parsed.map(Said::from);
        let count = self.heard.get(&key).map_or(0, |known| known.count) + 1;
        let interface = self.interface.to_owned();
        let source = envelope.source;
        self.heard.insert(key, Speaker { interface, source, vrid, said, refused, count });
    }
}

impl From<Advert> for Said {
    fn from(advert: Advert) -> Self {
        let Advert { version, priority, interval, addresses, .. } = advert;
        Self { version, priority, interval, addresses: addresses.to_vec() }
    }
}

fn hear(ears: &mut [Ear<'_>], span: Duration) -> std::io::Result<()> {
    let until = now() + span;
    loop {
        let left = until.saturating_duration_since(now());
        let full = ears.iter().all(|ear| ear.messages >= MOST_MESSAGES);
        if left.is_zero() || full {
            return Ok(());
        }
        let open = ears.iter().filter(|ear| ear.messages < MOST_MESSAGES);
        let mut fds: Vec<PollFd<'_>> =
            open.map(|ear| PollFd::new(ear.socket.as_fd(), PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        ears.iter_mut().try_for_each(Ear::drain)?;
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of listening is that of the clock")]
fn now() -> Instant {
    Instant::now()
}
