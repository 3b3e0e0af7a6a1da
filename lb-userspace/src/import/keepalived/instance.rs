//! `vrrp_instance` blocks. Pure.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::findings::{Findings, Kind};
use super::super::source::{Place, Read, Sited, Word, quoted, room};
use super::block::Node;
use super::known;

const BYTE: RangeInclusive<u8> = 1..=255;
const VERSION: RangeInclusive<u8> = 2..=3;
const ADVERTS: RangeInclusive<u8> = 1..=100;
const WEIGHT: RangeInclusive<i16> = -253..=253;
/// The most that VRRP version 2 can say, in seconds.
const LONGEST: Duration = Duration::from_secs(1000);

/// One virtual router.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) name: Word,
    pub(crate) interface: Option<Word>,
    pub(crate) vrid: Option<Sited<u8>>,
    pub(crate) priority: Option<Sited<u8>>,
    pub(crate) version: Option<Sited<u8>>,
    pub(crate) advert_interval: Option<Sited<Duration>>,
    pub(crate) down_timer_adverts: Option<Sited<u8>>,
    pub(crate) no_preempt: Option<Place>,
    pub(crate) preempt_delay: Option<Sited<Duration>>,
    pub(crate) no_accept: Option<Place>,
    pub(crate) addresses: Vec<Address>,
    /// Those that adverts do not list.
    pub(crate) excluded: Vec<Address>,
    pub(crate) unicast_source: Option<Sited<IpAddr>>,
    pub(crate) peers: Vec<Sited<IpAddr>>,
    pub(crate) auth: Option<Auth>,
    pub(crate) tracked: Vec<Tracked>,
}

/// `track_interface { INTERFACE [weight WEIGHT] [reverse] }`
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    pub(crate) name: Word,
    /// 0: the instance is at fault without it.
    pub(crate) weight: i16,
    pub(crate) reverse: bool,
}

/// An address that moves.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) address: IpAddr,
    pub(crate) prefix: Option<u8>,
    pub(crate) device: Option<Word>,
    pub(crate) at: Place,
}

/// `authentication { ... }`
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    pub(crate) is_password: bool,
    pub(crate) password: Option<String>,
    pub(crate) at: Place,
}

pub(crate) fn instance(node: &Node, findings: &mut Findings) -> Read<Instance> {
    let mut instance = Instance {
        name: node.required(1, "the instance's name")?.clone(),
        interface: None,
        vrid: None,
        priority: None,
        version: None,
        advert_interval: None,
        down_timer_adverts: None,
        no_preempt: None,
        preempt_delay: None,
        no_accept: None,
        addresses: Vec::new(),
        excluded: Vec::new(),
        unicast_source: None,
        peers: Vec::new(),
        auth: None,
        tracked: Vec::new(),
    };
    for line in &node.children {
        let is_known = instance.value(line)? || instance.list(line, findings)?;
        if !is_known && !known::instance(line, findings) {
            findings.not_understood(line.keyword());
        }
    }
    Ok(instance)
}

impl Instance {
    pub(crate) fn has_address(&self) -> bool {
        !self.addresses.is_empty() || !self.excluded.is_empty()
    }

    fn value(&mut self, line: &Node) -> Read<bool> {
        let at = &line.keyword().at;
        let byte = |range| Ok(Some(Sited::new(line.required(1, "a number")?.number(range)?, at)));
        match line.name() {
            "interface" => self.interface = Some(line.required(1, "an interface")?.clone()),
            "virtual_router_id" => self.vrid = byte(&BYTE)?,
            "priority" => self.priority = byte(&BYTE)?,
            "version" => self.version = byte(&VERSION)?,
            "down_timer_adverts" => self.down_timer_adverts = byte(&ADVERTS)?,
            "advert_int" => self.advert_interval = Some(time(line)?),
            "nopreempt" => self.no_preempt = Some(at.clone()),
            "preempt" => self.no_preempt = None,
            "no_accept" => self.no_accept = Some(at.clone()),
            "accept" => self.no_accept = None,
            "preempt_delay" => self.preempt_delay = Some(time(line)?),
            "unicast_src_ip" => {
                self.unicast_source = Some(ip(line.required(1, "an address")?)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn list(&mut self, line: &Node, findings: &mut Findings) -> Read<bool> {
        match line.name() {
            "virtual_ipaddress" => self.addresses.extend(addresses(line, findings)?),
            "virtual_ipaddress_excluded" => self.excluded.extend(addresses(line, findings)?),
            "unicast_peer" => {
                for peer in &line.children {
                    room(self.peers.len(), "peers", &peer.keyword().at)?;
                    self.peers.push(ip(peer.keyword())?);
                    if let Some(word) = peer.words.get(1) {
                        let message = "adverts of peers are taken whatever their TTL";
                        let remedy = "nothing to do: only listed peers are heard";
                        findings.add(Kind::NotCarriedOver, &word.at, &word.text, message, remedy);
                    }
                }
            }
            "track_interface" => {
                for interface in &line.children {
                    room(self.tracked.len(), "interfaces", &interface.keyword().at)?;
                    self.tracked.push(tracked(interface, findings)?);
                }
            }
            "authentication" => self.auth = Some(auth(line, findings)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn tracked(line: &Node, findings: &mut Findings) -> Read<Tracked> {
    let mut tracked = Tracked { name: line.keyword().clone(), weight: 0, reverse: false };
    let mut words = line.words[1..].iter();
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "weight" => match words.next() {
                Some(weight) => tracked.weight = weight.number(&WEIGHT)?,
                None => return Err(word.at.error("`weight` ends the line; expected its value")),
            },
            "reverse" => tracked.reverse = true,
            "noreverse" | "no_reverse" => tracked.reverse = false,
            _ => findings.not_understood(word),
        }
    }
    Ok(tracked)
}

/// Seconds, such as `1` or `0.5`.
pub(crate) fn time(line: &Node) -> Read<Sited<Duration>> {
    let word = line.required(1, "seconds")?;
    let seconds: Option<f64> = word.text.parse().ok();
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match time.filter(|time| *time <= LONGEST) {
        Some(time) => Ok(Sited::new(time, &line.keyword().at)),
        None => {
            let text = quoted(&word.text);
            Err(word.at.error(format_args!("{text} is no time; expected seconds from 0 to 1000")))
        }
    }
}

pub(crate) fn ip(word: &Word) -> Read<Sited<IpAddr>> {
    word.text.parse().map(|address| Sited::new(address, &word.at)).map_err(|_| {
        let text = quoted(&word.text);
        word.at.error(format_args!("{text} is no address; expected one such as 10.0.0.100"))
    })
}

/// Parameters of an address without a value, and with one.
const FLAGS: [&str; 9] = [
    "-nodad",
    "autojoin",
    "home",
    "mngtmpaddr",
    "nodad",
    "no_track",
    "noprefixroute",
    "track_group",
    "use_vmac",
];
const VALUES: [&str; 8] =
    ["brd", "broadcast", "label", "metric", "peer", "preferred_lft", "scope", "valid_lft"];

fn addresses(block: &Node, findings: &mut Findings) -> Read<Vec<Address>> {
    let lines = block.children.iter().enumerate();
    lines
        .map(|(count, line)| {
            room(count, "addresses", &line.keyword().at)?;
            address(line, findings)
        })
        .collect()
}

/// `ADDRESS[/PREFIX] [dev INTERFACE] ...`
fn address(line: &Node, findings: &mut Findings) -> Read<Address> {
    let word = line.keyword();
    let (text, prefix) = match word.text.split_once('/') {
        Some((text, prefix)) => (text, Some(prefix)),
        None => (word.text.as_str(), None),
    };
    let address = ip(&Word::new(text, word.at.clone()))?.value;
    let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix =
        prefix.map(|prefix| Word::new(prefix, word.at.clone()).number(&(0..=bits))).transpose()?;
    let mut read = Address { address, prefix, device: None, at: word.at.clone() };
    let mut rest = &line.words[1..];
    while let Some((option, values)) = rest.split_first() {
        let needs_value = option.text == "dev" || VALUES.contains(&option.text.as_str());
        if needs_value && values.is_empty() {
            let text = quoted(&option.text);
            return Err(option.at.error(format_args!("{text} ends the line; expected its value")));
        }
        if option.text == "dev" {
            read.device = values.first().cloned();
        } else if needs_value || FLAGS.contains(&option.text.as_str()) {
            let message = "Fairlead adds VIPs as single addresses with preferred lifetime 0";
            findings.add(Kind::Needless, &option.at, &option.text, message, "nothing to do");
        } else {
            findings.not_understood(option);
        }
        rest = if needs_value { &values[1..] } else { values };
    }
    Ok(read)
}

fn auth(block: &Node, findings: &mut Findings) -> Read<Auth> {
    let at = block.keyword().at.clone();
    let mut auth = Auth { is_password: true, password: None, at };
    for line in &block.children {
        match line.name() {
            "auth_type" => match line.required(1, "PASS or AH")?.text.as_str() {
                "PASS" => auth.is_password = true,
                "AH" => auth.is_password = false,
                other => {
                    let other = quoted(other);
                    let message =
                        format_args!("{other} is unknown; expected PASS or AH").to_string();
                    return Err(line.words[1].at.error(message));
                }
            },
            "auth_pass" => auth.password = Some(line.required(1, "a password")?.text.clone()),
            _ => findings.not_understood(line.keyword()),
        }
    }
    Ok(auth)
}
