//! What is measured of each peer in each round. Pure.

/// A figure of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    Download,
    Upload,
    Connections,
    /// For an object of some kilobytes.
    Requests,
    /// For a few bytes.
    SmallRequests,
    LoadedP50,
    LoadedP99,
    LoadedP999,
    UnloadedP50,
    UnloadedP99,
    UnloadedP999,
    ConnectP50,
    ConnectP99,
    AnswerP50,
    AnswerP99,
    /// Of the whole machine, client and backends included.
    MachinePerGb,
    MachinePer100k,
    MachinePerMillion,
    /// What the machine needed more than without a balancer.
    BalancerPerGb,
    BalancerPer100k,
    BalancerPerMillion,
    /// Of the balancer's own processes.
    ProcessPerGb,
    ProcessPer100k,
    ProcessPerMillion,
}

impl Metric {
    /// In the order of every table.
    pub(crate) const ALL: [Self; 24] = [
        Self::Download,
        Self::Upload,
        Self::Connections,
        Self::Requests,
        Self::SmallRequests,
        Self::LoadedP50,
        Self::LoadedP99,
        Self::LoadedP999,
        Self::UnloadedP50,
        Self::UnloadedP99,
        Self::UnloadedP999,
        Self::ConnectP50,
        Self::ConnectP99,
        Self::AnswerP50,
        Self::AnswerP99,
        Self::BalancerPerGb,
        Self::BalancerPer100k,
        Self::BalancerPerMillion,
        Self::ProcessPerGb,
        Self::ProcessPer100k,
        Self::ProcessPerMillion,
        Self::MachinePerGb,
        Self::MachinePer100k,
        Self::MachinePerMillion,
    ];

    /// What is derived, from what, in each round: this peer's less that of no balancer.
    pub(crate) const DIFFERENCES: [(Self, Self); 3] = [
        (Self::BalancerPerGb, Self::MachinePerGb),
        (Self::BalancerPer100k, Self::MachinePer100k),
        (Self::BalancerPerMillion, Self::MachinePerMillion),
    ];

    /// In the JSON.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Download => "throughput_gbit_s",
            Self::Upload => "upload_gbit_s",
            Self::Connections => "connections_s",
            Self::Requests => "requests_s",
            Self::SmallRequests => "small_requests_s",
            Self::LoadedP50 => "latency_us.p50",
            Self::LoadedP99 => "latency_us.p99",
            Self::LoadedP999 => "latency_us.p999",
            Self::UnloadedP50 => "latency_unloaded_us.p50",
            Self::UnloadedP99 => "latency_unloaded_us.p99",
            Self::UnloadedP999 => "latency_unloaded_us.p999",
            Self::ConnectP50 => "connect_us.p50",
            Self::ConnectP99 => "connect_us.p99",
            Self::AnswerP50 => "first_answer_us.p50",
            Self::AnswerP99 => "first_answer_us.p99",
            Self::BalancerPerGb => "cpu_s_per_gb",
            Self::BalancerPer100k => "cpu_s_per_100k_connections",
            Self::BalancerPerMillion => "cpu_s_per_million_requests",
            Self::ProcessPerGb => "process_cpu_s_per_gb",
            Self::ProcessPer100k => "process_cpu_s_per_100k_connections",
            Self::ProcessPerMillion => "process_cpu_s_per_million_requests",
            Self::MachinePerGb => "machine_cpu_s_per_gb",
            Self::MachinePer100k => "machine_cpu_s_per_100k_connections",
            Self::MachinePerMillion => "machine_cpu_s_per_million_requests",
        }
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Download => "throughput, to the client",
            Self::Upload => "throughput, to a backend",
            Self::Connections => "short connections",
            Self::Requests => "keep-alive requests, 8 KiB",
            Self::SmallRequests => "keep-alive requests, a few bytes",
            Self::LoadedP50 => "latency, loaded, p50",
            Self::LoadedP99 => "latency, loaded, p99",
            Self::LoadedP999 => "latency, loaded, p99.9",
            Self::UnloadedP50 => "latency, unloaded, p50",
            Self::UnloadedP99 => "latency, unloaded, p99",
            Self::UnloadedP999 => "latency, unloaded, p99.9",
            Self::ConnectP50 => "time to connect, p50",
            Self::ConnectP99 => "time to connect, p99",
            Self::AnswerP50 => "connect and first answer, p50",
            Self::AnswerP99 => "connect and first answer, p99",
            Self::BalancerPerGb => "CPU of the balancer per GB",
            Self::BalancerPer100k => "CPU of the balancer per 100,000 connections",
            Self::BalancerPerMillion => "CPU of the balancer per million requests",
            Self::ProcessPerGb => "CPU of its processes alone, per GB",
            Self::ProcessPer100k => "CPU of its processes alone, per 100,000 connections",
            Self::ProcessPerMillion => "CPU of its processes alone, per million requests",
            Self::MachinePerGb => "CPU of the whole machine per GB",
            Self::MachinePer100k => "CPU of the whole machine per 100,000 connections",
            Self::MachinePerMillion => "CPU of the whole machine per million requests",
        }
    }

    /// Whether more of it is better.
    pub(crate) const fn is_rate(self) -> bool {
        match self {
            Self::Download
            | Self::Upload
            | Self::Connections
            | Self::Requests
            | Self::SmallRequests => true,
            Self::LoadedP50
            | Self::LoadedP99
            | Self::LoadedP999
            | Self::UnloadedP50
            | Self::UnloadedP99
            | Self::UnloadedP999
            | Self::ConnectP50
            | Self::ConnectP99
            | Self::AnswerP50
            | Self::AnswerP99
            | Self::MachinePerGb
            | Self::MachinePer100k
            | Self::MachinePerMillion
            | Self::BalancerPerGb
            | Self::BalancerPer100k
            | Self::BalancerPerMillion
            | Self::ProcessPerGb
            | Self::ProcessPer100k
            | Self::ProcessPerMillion => false,
        }
    }

    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Download | Self::Upload => "Gbit/s",
            Self::Connections | Self::Requests | Self::SmallRequests => "1/s",
            Self::LoadedP50
            | Self::LoadedP99
            | Self::LoadedP999
            | Self::UnloadedP50
            | Self::UnloadedP99
            | Self::UnloadedP999
            | Self::ConnectP50
            | Self::ConnectP99
            | Self::AnswerP50
            | Self::AnswerP99 => "µs",
            Self::MachinePerGb
            | Self::MachinePer100k
            | Self::MachinePerMillion
            | Self::BalancerPerGb
            | Self::BalancerPer100k
            | Self::BalancerPerMillion
            | Self::ProcessPerGb
            | Self::ProcessPer100k
            | Self::ProcessPerMillion => "s",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_is_listed_once_with_a_key_of_its_own() {
        let all: BTreeSet<Metric> = Metric::ALL.into_iter().collect();
        let keys: BTreeSet<&str> = Metric::ALL.into_iter().map(Metric::key).collect();
        assert_eq!((all.len(), keys.len()), (Metric::ALL.len(), Metric::ALL.len()));
    }
}
