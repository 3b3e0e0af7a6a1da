//! One service. Pure.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::super::{Mode, OnAllDown, Service, Timeouts};
use super::reader::Reader;
use super::{OneOrMany, ServiceFile, Spot, TimeoutsFile, scalar};

pub(super) const PORT: RangeInclusive<u16> = 1..=u16::MAX;
const MAX_SNAT_ADDRESSES: usize = 4;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// Times of flows wrap after some weeks.
const FORTNIGHT: Duration = Duration::from_secs(14 * 24 * 3600);
const RESET_DELAY: Duration = Duration::from_secs(3);

impl Reader<'_> {
    pub(super) fn service(&mut self, scope: &Spot, file: &ServiceFile) -> Service {
        let port = self.service_port(scope, file);
        let spot = |name, field| scope.field(name, field);
        let on_all_down = self
            .choice(
                &spot("on_all_down", &file.on_all_down),
                &file.on_all_down,
                &[("fail_open", OnAllDown::FailOpen), ("reject", OnAllDown::Reject)],
            )
            .unwrap_or_default();
        let (backends, names) = self.backends(scope, file, port);
        let service = Service {
            name: self.service_name(scope, file),
            vips: self.vips(scope, file),
            standalone: self.boolean(&spot("standalone", &file.standalone), &file.standalone),
            port,
            mode: self.mode(scope, file),
            snat_addresses: self.snat_addresses(scope, file),
            exclusive: self.boolean(&spot("exclusive", &file.exclusive), &file.exclusive),
            allow: self.allow(scope, file),
            rate_limit: self.rate_limit(scope, file.rate_limit.as_ref()),
            on_all_down,
            prefer_local: self
                .boolean(&spot("prefer_local", &file.prefer_local), &file.prefer_local),
            reset_delay: self.duration(
                &spot("reset_delay", &file.reset_delay),
                &file.reset_delay,
                &(Duration::ZERO..=HOUR),
                RESET_DELAY,
            ),
            drain_timeout: self.duration(
                &spot("drain_timeout", &file.drain_timeout),
                &file.drain_timeout,
                &(Duration::ZERO..=WEEK),
                Duration::ZERO,
            ),
            timeouts: self.timeouts(scope, file.timeouts.as_ref()),
            backends,
            names,
            health: self.health(scope, file.health.as_ref()),
        };
        self.families(scope, file);
        self.mode_allows(scope, file, &service);
        service
    }

    fn service_name(&mut self, scope: &Spot, file: &ServiceFile) -> String {
        let Some(name) = &file.name else {
            self.missing(scope, "name", "`name: kube-apiserver`");
            return String::new();
        };
        self.accept(&scope.of("name", name), scalar::name(&name.value)).unwrap_or_default()
    }

    fn service_port(&mut self, scope: &Spot, file: &ServiceFile) -> u16 {
        if file.port.is_none() {
            self.missing(scope, "port", "`port: 6443`");
        }
        self.number(&scope.field("port", &file.port), &file.port, &PORT, *PORT.start())
    }

    fn mode(&mut self, scope: &Spot, file: &ServiceFile) -> Mode {
        let choices = [("nat", Mode::Nat), ("dnat", Mode::Dnat), ("dsr", Mode::Dsr)];
        self.choice(&scope.field("mode", &file.mode), &file.mode, &choices).unwrap_or_default()
    }

    fn vips(&mut self, scope: &Spot, file: &ServiceFile) -> Vec<IpAddr> {
        let Some(list) = &file.vips else {
            self.missing(scope, "vips", "`vips: [10.0.0.100]` with the address that clients use");
            return Vec::new();
        };
        let spot = scope.of("vips", list);
        if list.value.is_empty() {
            self.wrong(&spot, "is empty; write the address that clients use: [10.0.0.100]");
        }
        self.addresses(&spot, &list.value)
    }

    fn snat_addresses(&mut self, scope: &Spot, file: &ServiceFile) -> Vec<IpAddr> {
        let Some(snat) = &file.snat_address else {
            return Vec::new();
        };
        let spot = scope.of("snat_address", snat);
        match &snat.value {
            OneOrMany::One(text) => self.accept(&spot, scalar::vip(text)).into_iter().collect(),
            OneOrMany::Many(many) => {
                if many.len() > MAX_SNAT_ADDRESSES {
                    let count = many.len();
                    self.wrong(
                        &spot,
                        format_args!(
                            "{count} addresses are too many; write at most {MAX_SNAT_ADDRESSES}"
                        ),
                    );
                }
                self.addresses(&spot, many)
            }
        }
    }

    fn addresses(&mut self, scope: &Spot, list: &[Spanned<String>]) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let spot = scope.element(index, value);
            let Some(address) = self.accept(&spot, scalar::vip(&value.value)) else {
                continue;
            };
            if addresses.contains(&address) {
                self.wrong(
                    &spot,
                    format_args!("{address} is in the list already; remove one of the two"),
                );
            } else {
                addresses.push(address);
            }
        }
        addresses
    }

    fn timeouts(&mut self, scope: &Spot, file: Option<&Spanned<TimeoutsFile>>) -> Timeouts {
        let default = Timeouts::default();
        let Some(file) = file else { return default };
        let scope = scope.of("timeouts", file);
        let TimeoutsFile { established, half_open, closing, half_closed, closed } = &file.value;
        let mut read = |name, field, longest, default| {
            self.duration(&scope.field(name, field), field, &(SECOND..=longest), default)
        };
        Timeouts {
            established: read("established", established, FORTNIGHT, default.established),
            half_open: read("half_open", half_open, HOUR, default.half_open),
            closing: read("closing", closing, HOUR, default.closing),
            half_closed: read("half_closed", half_closed, FORTNIGHT, default.half_closed),
            closed: read("closed", closed, HOUR, default.closed),
        }
    }
}

impl ServiceFile {
    /// The VIPs that can be read.
    pub(super) fn vips(&self, scope: &Spot) -> Vec<(IpAddr, Spot)> {
        let Some(list) = &self.vips else {
            return Vec::new();
        };
        readable(&scope.of("vips", list), &list.value)
    }

    /// The SNAT addresses that can be read.
    pub(super) fn snat(&self, scope: &Spot) -> Vec<(IpAddr, Spot)> {
        let Some(snat) = &self.snat_address else {
            return Vec::new();
        };
        let spot = scope.of("snat_address", snat);
        match &snat.value {
            OneOrMany::One(text) => {
                scalar::vip(text).ok().map(|it| (it, spot)).into_iter().collect()
            }
            OneOrMany::Many(many) => readable(&spot, many),
        }
    }

    /// How many of its backends are looked up.
    pub(super) fn named(&self) -> usize {
        let list = self.backends.as_ref();
        list.map_or(0, |list| list.value.iter().filter(|it| it.value.host.is_some()).count())
    }

    /// The backends' addresses that can be read.
    pub(super) fn backend_addresses(&self, scope: &Spot) -> Vec<(IpAddr, Spot)> {
        let Some(list) = &self.backends else {
            return Vec::new();
        };
        let scope = scope.of("backends", list);
        let backends = list.value.iter().enumerate();
        backends
            .filter_map(|(index, file)| {
                let field = file.value.address.as_ref()?;
                let address = scalar::backend_address(&field.value).ok()?;
                Some((address, scope.element(index, file).of("address", field)))
            })
            .collect()
    }
}

fn readable(scope: &Spot, list: &[Spanned<String>]) -> Vec<(IpAddr, Spot)> {
    let values = list.iter().enumerate();
    values
        .filter_map(|(index, value)| {
            Some((scalar::vip(&value.value).ok()?, scope.element(index, value)))
        })
        .collect()
}
