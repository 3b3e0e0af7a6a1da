//! Who may use a service: source ranges, and how often. Pure.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_saphyr::Spanned;

use super::super::{Cidr, RateLimit};
use super::reader::Reader;
use super::{RateLimitFile, ServiceFile, Spot, scalar};

const MAX_RANGES: usize = 1024;
/// More in a second than one address has ports for is no limit.
const RATE: RangeInclusive<u32> = 1..=65_535;

impl Reader<'_> {
    pub(super) fn allow(&mut self, scope: &Spot, file: &ServiceFile) -> Vec<Cidr> {
        let Some(list) = &file.allow else { return Vec::new() };
        let scope = scope.of("allow", list);
        if list.value.len() > MAX_RANGES {
            let count = list.value.len();
            self.wrong(&scope, format_args!("{count} are too many; keep at most {MAX_RANGES}"));
            return Vec::new();
        }
        let mut ranges = BTreeSet::new();
        for (index, value) in list.value.iter().enumerate() {
            let spot = scope.element(index, value);
            let Some(range) = self.accept(&spot, scalar::range(&value.value)) else { continue };
            if !ranges.insert(range) {
                self.wrong(
                    &spot,
                    format_args!("{range} is in the list already; remove one of the two"),
                );
            }
        }
        ranges.into_iter().collect()
    }

    pub(super) fn rate_limit(
        &mut self,
        scope: &Spot,
        file: Option<&Spanned<RateLimitFile>>,
    ) -> Option<RateLimit> {
        let file = file?;
        let scope = scope.of("rate_limit", file);
        let RateLimitFile { connections_per_second: rate, burst } = &file.value;
        if rate.is_none() {
            self.missing(&scope, "connections_per_second", "`connections_per_second: 100`");
        }
        let rate =
            self.number(&scope.field("connections_per_second", rate), rate, &RATE, *RATE.start());
        let burst = self.number(&scope.field("burst", burst), burst, &RATE, rate);
        Some(RateLimit { connections_per_second: rate, burst })
    }
}
