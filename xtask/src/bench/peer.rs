//! Who is compared, by which name and in which colour. Pure.

use clap::ValueEnum;

/// Everything that stands between clients and backends, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    Direct,
    Haproxy,
    Nftables,
    FairleadNat,
    FairleadDnat,
    FairleadDsr,
}

impl Peer {
    /// In the order of every table and chart, and of every round.
    pub(crate) const ALL: [Self; 6] = [
        Self::Direct,
        Self::Haproxy,
        Self::Nftables,
        Self::FairleadNat,
        Self::FairleadDnat,
        Self::FairleadDsr,
    ];

    /// As the JSON has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy => "haproxy",
            Self::Nftables => "nftables",
            Self::FairleadNat => "fairlead-nat",
            Self::FairleadDnat => "fairlead-dnat",
            Self::FairleadDsr => "fairlead-dsr",
        }
    }

    /// For a reader.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Direct => "no balancer",
            Self::Haproxy => "HAProxy",
            Self::Nftables => "nftables",
            Self::FairleadNat => "Fairlead nat",
            Self::FairleadDnat => "Fairlead dnat",
            Self::FairleadDsr => "Fairlead dsr",
        }
    }

    /// What it does.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Direct => "the client talks to one backend, with nothing between",
            Self::Haproxy => "TCP mode, a thread for each core, splicing",
            Self::Nftables => "DNAT to a backend in turn, and masquerade, in the kernel",
            Self::FairleadNat => "XDP, both addresses translated",
            Self::FairleadDnat => "XDP, backends see clients and answer through the node",
            Self::FairleadDsr => "XDP, backends answer clients by themselves",
        }
    }

    pub(crate) const fn is_fairlead(self) -> bool {
        match self {
            Self::FairleadNat | Self::FairleadDnat | Self::FairleadDsr => true,
            Self::Direct | Self::Haproxy | Self::Nftables => false,
        }
    }
}
