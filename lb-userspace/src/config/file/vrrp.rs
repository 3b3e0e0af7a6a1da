//! VRRP instances. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::vrrp::{Announce, Vrrp};
use super::reader::Reader;
use super::scalar::show;
use super::{Document, Field, Spot, scalar};
use crate::vrrp::Version;
use crate::vrrp::packet::ChecksumForm;

mod addresses;
mod authentication;
mod clash;
mod track;

pub(in crate::config) use authentication::password_of;

const VRID: RangeInclusive<u8> = 1..=255;
const PRIORITY: RangeInclusive<u8> = 1..=255;
const DEFAULT_PRIORITY: u8 = 100;
const DOWN_TIMER_ADVERTS: RangeInclusive<u8> = 1..=100;
const SECOND: Duration = Duration::from_secs(1);
/// The unit of version 3.
const CENTISECOND: Duration = Duration::from_millis(10);
/// 12 bits of centiseconds.
const LONGEST_INTERVAL: Duration = Duration::from_millis(40_950);
/// 8 bits of seconds.
const LONGEST_OLD_INTERVAL: Duration = Duration::from_secs(255);
const LONGEST_DELAY: Duration = Duration::from_secs(1000);
const LINGER: Duration = Duration::from_secs(2);
const LONGEST_LINGER: Duration = Duration::from_secs(60);
/// Many times what a restart takes: 0.2 s where this was written.
const RESTART_GRACE: Duration = Duration::from_secs(3);
const LONGEST_REFRESH: Duration = Duration::from_secs(3600);
const RATE: RangeInclusive<u32> = 10..=100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VrrpFile {
    name: Field,
    interface: Field,
    vrid: Field,
    priority: Field,
    version: Field,
    advert_interval: Field,
    down_timer_adverts: Field,
    preempt: Field,
    preempt_delay: Field,
    startup_delay: Field,
    vips: Option<Spanned<Vec<Spanned<String>>>>,
    unicast_peers: Option<Spanned<Vec<Spanned<String>>>>,
    unicast_source: Field,
    authentication: Option<Spanned<authentication::AuthenticationFile>>,
    checksum: Field,
    accept: Field,
    linger: Field,
    restart_grace: Field,
    track: Option<Spanned<track::TrackFile>>,
    announce: Option<Spanned<AnnounceFile>>,
    sync_group: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnnounceFile {
    refresh: Field,
    rate: Field,
}

impl Reader<'_> {
    pub(super) fn vrrp(&mut self, root: &Spot, document: &Document) -> Vec<Vrrp> {
        let Some(list) = &document.vrrp else { return Vec::new() };
        let scope = root.of("vrrp", list);
        let files = &list.value;
        let instances: Vec<Vrrp> = files
            .iter()
            .enumerate()
            .map(|(index, file)| self.instance(index, &scope.element(index, file), &file.value))
            .collect();
        self.instance_clashes(&scope, files, &instances);
        if !files.is_empty() {
            self.vips_without_instance(root, document);
        }
        instances
    }

    fn instance(&mut self, index: usize, scope: &Spot, file: &VrrpFile) -> Vrrp {
        let spot = |name, field| scope.field(name, field);
        let version = self.vrrp_version(scope, file);
        let preempt = self.flag(&spot("preempt", &file.preempt), &file.preempt, true);
        let (password, password_file) = self.authentication(index, scope, file, version);
        let vips = self.instance_vips(scope, file, version);
        let adverts = self.number(
            &spot("down_timer_adverts", &file.down_timer_adverts),
            &file.down_timer_adverts,
            &DOWN_TIMER_ADVERTS,
            3,
        );
        Vrrp {
            name: self.instance_name(scope, file),
            interface: self.instance_interface(scope, file),
            vrid: self.vrid(scope, file),
            priority: self.number(
                &spot("priority", &file.priority),
                &file.priority,
                &PRIORITY,
                DEFAULT_PRIORITY,
            ),
            version,
            advert_interval: self.advert_interval(scope, file, version),
            down_timer_adverts: adverts,
            preempt,
            preempt_delay: self.preempt_delay(scope, file, preempt),
            startup_delay: self.duration(
                &spot("startup_delay", &file.startup_delay),
                &file.startup_delay,
                &(Duration::ZERO..=LONGEST_DELAY),
                Duration::ZERO,
            ),
            unicast_peers: self.unicast_peers(scope, file, &vips),
            unicast_source: self.unicast_source(scope, file, &vips),
            vips,
            password,
            password_file,
            checksum: self.checksum(scope, file, version),
            accept: self.accept_mode(scope, file),
            linger: self.duration(
                &spot("linger", &file.linger),
                &file.linger,
                &(Duration::ZERO..=LONGEST_LINGER),
                LINGER,
            ),
            restart_grace: self.restart_grace(scope, file, version, adverts),
            track: self.track(scope, file, preempt),
            announce: self.announce(scope, file.announce.as_ref()),
            sync_group: file.sync_group.as_ref().and_then(|group| {
                self.accept(&scope.of("sync_group", group), scalar::name(&group.value))
            }),
        }
    }

    fn instance_name(&mut self, scope: &Spot, file: &VrrpFile) -> String {
        let Some(name) = &file.name else {
            self.missing(scope, "name", "`name: api`");
            return String::new();
        };
        self.accept(&scope.of("name", name), scalar::name(&name.value)).unwrap_or_default()
    }

    fn instance_interface(&mut self, scope: &Spot, file: &VrrpFile) -> String {
        let Some(interface) = &file.interface else {
            self.missing(scope, "interface", "`interface: eth0` where the VIPs are to be");
            return String::new();
        };
        let spot = scope.of("interface", interface);
        self.accept(&spot, scalar::interface(&interface.value)).unwrap_or_default()
    }

    fn vrid(&mut self, scope: &Spot, file: &VrrpFile) -> u8 {
        if file.vrid.is_none() {
            self.missing(
                scope,
                "vrid",
                "`vrid: 51`, the same on all nodes, and of no other cluster",
            );
        }
        self.number(&scope.field("vrid", &file.vrid), &file.vrid, &VRID, *VRID.start())
    }

    fn vrrp_version(&mut self, scope: &Spot, file: &VrrpFile) -> Version {
        let choices = [("3", Version::V3), ("2", Version::V2)];
        let spot = scope.field("version", &file.version);
        self.choice(&spot, &file.version, &choices).unwrap_or_default()
    }

    /// `true` or `false`; `default` where the key is absent.
    fn flag(&mut self, spot: &Spot, field: &Field, default: bool) -> bool {
        if field.is_none() {
            return default;
        }
        self.choice(spot, field, &[("true", true), ("false", false)]).unwrap_or(default)
    }

    fn advert_interval(&mut self, scope: &Spot, file: &VrrpFile, version: Version) -> Duration {
        let spot = scope.field("advert_interval", &file.advert_interval);
        let (range, unit) = match version {
            Version::V2 => (SECOND..=LONGEST_OLD_INTERVAL, SECOND),
            Version::V3 => (CENTISECOND..=LONGEST_INTERVAL, CENTISECOND),
        };
        let interval = self.duration(&spot, &file.advert_interval, &range, SECOND);
        if !interval.as_nanos().is_multiple_of(unit.as_nanos()) {
            let (shown, unit) = (show(interval), show(unit));
            self.wrong(
                &spot,
                format_args!(
                    "{shown} cannot be advertised in version {version}; write a multiple of {unit}"
                ),
            );
        }
        interval
    }

    fn preempt_delay(&mut self, scope: &Spot, file: &VrrpFile, preempt: bool) -> Duration {
        let spot = scope.field("preempt_delay", &file.preempt_delay);
        let range = Duration::ZERO..=LONGEST_DELAY;
        let delay = self.duration(&spot, &file.preempt_delay, &range, Duration::ZERO);
        if !preempt && !delay.is_zero() {
            self.wrong(
                &spot,
                "means nothing with `preempt: false`; remove it, or write `preempt: true`",
            );
        }
        delay
    }

    /// What peers can be told to wait is so many of the longest interval.
    fn restart_grace(
        &mut self,
        scope: &Spot,
        file: &VrrpFile,
        version: Version,
        adverts: u8,
    ) -> Duration {
        let spot = scope.field("restart_grace", &file.restart_grace);
        let (longest, default) = match version {
            Version::V2 => (LONGEST_DELAY, Duration::ZERO),
            Version::V3 => (LONGEST_INTERVAL * u32::from(adverts), RESTART_GRACE),
        };
        let grace = self.duration(&spot, &file.restart_grace, &(Duration::ZERO..=longest), default);
        if version == Version::V2 && !grace.is_zero() {
            self.wrong(
                &spot,
                "peers of version 2 drop what announces another interval, so they cannot be told to \
                 wait; remove the key, or write `version: 3` on all nodes",
            );
        }
        grace
    }

    fn checksum(&mut self, scope: &Spot, file: &VrrpFile, version: Version) -> ChecksumForm {
        let choices = [ChecksumForm::PseudoHeader, ChecksumForm::Message];
        let choices = choices.map(|form| (form.as_str(), form));
        let spot = scope.field("checksum", &file.checksum);
        if version == Version::V2 && file.checksum.is_some() {
            self.wrong(&spot, "version 2 knows one checksum only; remove the key");
        }
        self.choice(&spot, &file.checksum, &choices).unwrap_or_default()
    }

    /// What an owner's are is its own addresses, whatever else (RFC 9568 6.1).
    fn accept_mode(&mut self, scope: &Spot, file: &VrrpFile) -> bool {
        let spot = scope.field("accept", &file.accept);
        let accept = self.flag(&spot, &file.accept, true);
        let is_owner = file.priority.as_ref().is_some_and(|it| it.value == "255");
        if !accept && is_owner {
            self.wrong(
                &spot,
                "priority 255 says that the VIPs are this node's own addresses, which it always \
                 accepts; remove the key, or write another priority",
            );
        }
        accept
    }

    fn announce(&mut self, scope: &Spot, file: Option<&Spanned<AnnounceFile>>) -> Announce {
        let default = Announce::default();
        let Some(file) = file else { return default };
        let scope = scope.of("announce", file);
        let AnnounceFile { refresh, rate } = &file.value;
        Announce {
            refresh: self.duration(
                &scope.field("refresh", refresh),
                refresh,
                &(Duration::ZERO..=LONGEST_REFRESH),
                default.refresh,
            ),
            rate: self.number(&scope.field("rate", rate), rate, &RATE, default.rate),
        }
    }
}
