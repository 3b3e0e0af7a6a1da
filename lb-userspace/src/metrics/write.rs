//! Samples of a family, as `prometheus-client` encodes them. Pure.

use std::fmt;

use arrayvec::ArrayVec;
use lb_common::connect::{BUCKETS, ConnectTimes, upper_bound};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, EncodeMetric as _, LabelSetEncoder,
    MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;

use super::families::Family;

/// Writes families, each with all of its samples.
pub(super) struct Writer<'a>(pub(super) DescriptorEncoder<'a>);

impl Writer<'_> {
    pub(super) fn info<const N: usize>(
        &mut self,
        family: &'static Family,
        values: [&str; N],
    ) -> fmt::Result {
        self.begin(family, MetricType::Info)?.encode_info(&Labels { family, values })
    }

    pub(super) fn counters<S: AsRef<str>, const N: usize>(
        &mut self,
        family: &'static Family,
        samples: impl IntoIterator<Item = ([S; N], u64)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(family, MetricType::Counter)?;
        for (values, count) in samples {
            let labels = Labels { family, values };
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
        }
        Ok(())
    }

    pub(super) fn gauges<S: AsRef<str>, const N: usize>(
        &mut self,
        family: &'static Family,
        samples: impl IntoIterator<Item = ([S; N], f64)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(family, MetricType::Gauge)?;
        for (values, value) in samples {
            encoder.encode_family(&Labels { family, values })?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A gauge for each of `all`: 1 for the one that is, 0 for the others. The label is the last one.
    pub(super) fn states<'v, const N: usize>(
        &mut self,
        family: &'static Family,
        all: &[&'v str],
        samples: impl IntoIterator<Item = ([&'v str; N], &'v str)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(family, MetricType::Gauge)?;
        for (mut values, is) in samples {
            for state in all {
                if let Some(last) = values.last_mut() {
                    *last = state;
                }
                let value = truth(*state == is);
                encoder.encode_family(&Labels { family, values })?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    pub(super) fn histograms<'v, S: AsRef<str>, const N: usize>(
        &mut self,
        family: &'static Family,
        samples: impl IntoIterator<Item = ([S; N], &'v Histogram)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(family, MetricType::Histogram)?;
        for (values, histogram) in samples {
            histogram.encode(encoder.encode_family(&Labels { family, values })?)?;
        }
        Ok(())
    }

    pub(super) fn connects<'v, S: AsRef<str>, const N: usize>(
        &mut self,
        family: &'static Family,
        samples: impl IntoIterator<Item = ([S; N], &'v ConnectTimes)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(family, MetricType::Histogram)?;
        for (values, times) in samples {
            let buckets = times.buckets.iter().enumerate().map(|(bucket, count)| {
                let end = upper_bound(bucket).map_or(f64::INFINITY, |end| f64::from(end) / 1e6);
                (end, *count)
            });
            let buckets: ArrayVec<_, BUCKETS> = buckets.collect();
            let (sum, count) = (times.sum_us as f64 / 1e6, times.buckets.iter().sum());
            let labels = Labels { family, values };
            let mut encoder = encoder.encode_family(&labels)?;
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn begin(
        &mut self,
        family: &'static Family,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        debug_assert_eq!(family.kind, kind, "{}", family.name);
        self.0.encode_descriptor(family.name, family.help(), family.unit(), family.kind)
    }
}

/// What is so is 1.
pub(super) const fn truth(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

/// The labels that a family has, with values in their order.
struct Labels<S, const N: usize> {
    family: &'static Family,
    values: [S; N],
}

impl<S: AsRef<str>, const N: usize> EncodeLabelSet for Labels<S, N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        debug_assert_eq!(self.family.labels.len(), N, "{}", self.family.name);
        for (name, value) in self.family.labels.iter().zip(&self.values) {
            (*name, value.as_ref()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
