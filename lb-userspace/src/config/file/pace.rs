//! When a service's backends are probed. Pure.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::super::{Fall, Pace};
use super::reader::Reader;
use super::scalar::show;
use super::{Field, HealthFile, Spot};

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(3600);
const COUNT: RangeInclusive<u32> = 1..=100;

/// `fall: 3`, or a number for each class.
pub(super) enum FallFile {
    All(String),
    Each(Box<ClassesFile>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClassesFile {
    refused: Field,
    timeout: Field,
    status: Field,
    certificate: Field,
    protocol: Field,
}

impl Reader<'_> {
    pub(super) fn pace(&mut self, scope: &Spot, file: &HealthFile) -> Pace {
        let default = Pace::default();
        let mut duration = |key: &str, field: &Field, from: Duration, default: Duration| {
            self.duration(&scope.field(key, field), field, &(from..=LONGEST), default)
        };
        let interval = duration("interval", &file.interval, SHORTEST, default.interval);
        let down = default.down_interval.max(interval);
        let down_interval = duration("down_interval", &file.down_interval, SHORTEST, down);
        let damping = duration("damping", &file.damping, Duration::ZERO, default.damping);
        let slow_start =
            duration("slow_start", &file.slow_start, Duration::ZERO, default.slow_start);
        let delay =
            duration("shutdown_delay", &file.shutdown_delay, Duration::ZERO, Duration::ZERO);
        Pace {
            interval,
            fast_interval: self.fast_interval(scope, file, interval),
            down_interval,
            rise: self.number(&scope.field("rise", &file.rise), &file.rise, &COUNT, default.rise),
            fall: self.fall(scope, file),
            damping,
            slow_start,
            shutdown_delay: file.shutdown_delay.as_ref().map(|_| delay),
        }
    }

    fn fast_interval(&mut self, scope: &Spot, file: &HealthFile, interval: Duration) -> Duration {
        let default = Pace::default().fast_interval.min(interval);
        let spot = scope.field("fast_interval", &file.fast_interval);
        let fast = self.duration(&spot, &file.fast_interval, &(SHORTEST..=LONGEST), default);
        if fast > interval {
            let (fast, interval) = (show(fast), show(interval));
            self.wrong(
                &spot,
                format_args!(
                    "{fast} is longer than `interval`; write at most {interval}, or remove the key"
                ),
            );
        }
        fast
    }

    fn fall(&mut self, scope: &Spot, file: &HealthFile) -> Fall {
        let Some(fall) = &file.fall else { return Fall::default() };
        let scope = scope.of("fall", fall);
        match &fall.value {
            FallFile::All(text) => {
                let number = super::scalar::number(text, &COUNT);
                self.accept(&scope, number).map_or_else(Fall::default, Fall::of)
            }
            FallFile::Each(classes) => {
                let mut number = |key: &str, field: &Field, default: u32| {
                    self.number(&scope.field(key, field), field, &COUNT, default)
                };
                let default = Fall::default();
                Fall {
                    refused: number("refused", &classes.refused, default.refused),
                    timeout: number("timeout", &classes.timeout, default.timeout),
                    status: number("status", &classes.status, default.status),
                    certificate: number("certificate", &classes.certificate, default.certificate),
                    protocol: number("protocol", &classes.protocol, default.protocol),
                }
            }
        }
    }
}

/// Not `#[serde(untagged)]`, which would lose the locations.
impl<'de> Deserialize<'de> for FallFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = FallFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a mapping of classes of failures to numbers")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(FallFile::All(text.to_owned()))
            }

            // What is no such number is refused with the others, and at its own place.
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(FallFile::All(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(FallFile::All(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(FallFile::All(number.to_string()))
            }

            fn visit_bool<E>(self, word: bool) -> Result<Self::Value, E> {
                Ok(FallFile::All(word.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let classes = ClassesFile::deserialize(MapAccessDeserializer::new(map))?;
                Ok(FallFile::Each(Box::new(classes)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
