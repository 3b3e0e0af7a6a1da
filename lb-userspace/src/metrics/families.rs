//! Every family of metrics: what it is called, what it says, and what it is labelled with. `render` exports
//! these, and the README's table is made of them. Pure.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// In front of every name.
pub const PREFIX: &str = "fairlead";

static SECONDS: Unit = Unit::Seconds;
static BYTES: Unit = Unit::Bytes;

/// Metrics of one name.
#[derive(Debug)]
pub struct Family {
    /// Without prefix, unit and the suffix that its type has.
    pub name: &'static str,
    pub kind: MetricType,
    pub unit: Measure,
    pub labels: &'static [&'static str],
    help: &'static str,
}

/// What is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Number,
    Seconds,
    Bytes,
}

impl Family {
    /// As `prometheus-client` takes it.
    pub fn unit(&self) -> Option<&'static Unit> {
        match self.unit {
            Measure::Number => None,
            Measure::Seconds => Some(&SECONDS),
            Measure::Bytes => Some(&BYTES),
        }
    }

    /// One sentence.
    pub fn help(&self) -> &'static str {
        self.help.trim_start()
    }

    /// The name that its samples have; of a histogram's, what they begin with.
    pub fn full_name(&self) -> String {
        let unit = self.unit().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let suffix = match self.kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            MetricType::Gauge | MetricType::Histogram | MetricType::Unknown => "",
        };
        format!("{PREFIX}_{}{unit}{suffix}", self.name)
    }
}

macro_rules! families {
    ($($(#[doc = $help:literal])+ $id:ident: $kind:ident $name:literal $unit:ident [$($label:literal)*],)+) => {
        $($(#[doc = $help])+ pub static $id: Family = Family {
            name: $name,
            kind: MetricType::$kind,
            unit: Measure::$unit,
            labels: &[$($label),*],
            help: concat!($($help),+),
        };)+

        /// In the order of the table.
        pub static ALL: &[&Family] = &[$(&$id),+];
    };
}

families! {
    /// The program that runs.
    BUILD: Info "build" Number ["version"],
    /// When the controller was started.
    START: Gauge "start_timestamp" Seconds [],
    /// When the values of this answer were read; older than 10 s: the controller hangs.
    READ: Gauge "read_timestamp" Seconds [],
    /// Objects beyond the bounds of this table, whose metrics are left out.
    OMITTED: Gauge "omitted_objects" Number ["kind"],

    /// Frames by what became of them: `pass`, `forward`, `redirect`, `reset`, `answer` or `drop`, and why.
    PACKETS: Counter "packets" Number ["verdict" "reason"],
    /// Flows in the maps: `established` or `half_open`, as of the last complete pass.
    FLOWS: Gauge "flows" Number ["state"],
    /// Room for flows, by the configuration. There may be more; without room half-open flows give way, then connections are refused.
    FLOWS_LIMIT: Gauge "flows_limit" Number ["state"],
    /// Half-open flows that gave way to others for want of room, since the controller started.
    HALF_OPEN_EVICTED: Counter "half_open_evicted_flows" Number [],
    /// Idle clients that were told by RST that their backend was given up.
    IDLE_RESETS: Counter "idle_resets" Number [],
    /// 1 for each interface with the XDP program, in this mode.
    XDP: Gauge "xdp_attached" Number ["interface" "mode"],

    /// Backends of a service, by what traffic sees of them.
    SERVICE_BACKENDS: Gauge "service_backends" Number ["service" "state"],
    /// 1: no backend is up, and new connections go to those that last were.
    SERVICE_PANIC: Gauge "service_panic" Number ["service"],
    /// What operators must know of the service's backends; `fairlead status` has the words.
    SERVICE_ALARMS: Gauge "service_alarms" Number ["service"],

    /// 1 for the state that traffic sees, 0 for the others.
    BACKEND_STATE: Gauge "backend_state" Number ["service" "backend" "state"],
    /// 1 for what probes say, 0 for the others.
    BACKEND_HEALTH: Gauge "backend_health" Number ["service" "backend" "health"],
    /// When the state last changed.
    BACKEND_SINCE: Gauge "backend_state_change_timestamp" Seconds ["service" "backend"],
    /// What the selection uses: 0 unless it takes new connections.
    BACKEND_WEIGHT: Gauge "backend_weight" Number ["service" "backend"],
    /// Established flows that go to the backend, as of the last complete pass.
    BACKEND_FLOWS: Gauge "backend_flows" Number ["service" "backend"],
    /// Packets to the backend (`request`) and from it (`reply`).
    BACKEND_PACKETS: Counter "backend_packets" Number ["service" "backend" "direction"],
    /// Bytes of these frames, from the Ethernet header on.
    BACKEND_BYTES: Counter "backend" Bytes ["service" "backend" "direction"],
    /// Flows made: connections that were tried, each attempt at another backend included.
    BACKEND_OPENED: Counter "backend_opened_flows" Number ["service" "backend"],
    /// Flows that a reply confirmed; in `dsr` the client's ACK.
    BACKEND_CONFIRMED: Counter "backend_confirmed_flows" Number ["service" "backend"],
    /// Connections of this node's own clients that were led to the backend; they are no flows.
    BACKEND_LOCAL: Counter "backend_local_connections" Number ["service" "backend"],
    /// SYNs that clients had to send again, because the backend did not answer.
    BACKEND_RETRIED: Counter "backend_retried_syns" Number ["service" "backend"],
    /// SYNs that the backend answered with RST.
    BACKEND_REFUSED: Counter "backend_refused_syns" Number ["service" "backend"],
    /// From the SYN that made the flow to the backend's SYN-ACK, as the datapath sees them; of more than 5,000 a second on one CPU, of a sample; not in `dsr`.
    BACKEND_CONNECTS: Histogram "backend_connect_duration" Seconds ["service" "backend"],
    /// How long probes took, whatever they found.
    BACKEND_PROBES: Histogram "backend_probe_duration" Seconds ["service" "backend"],

    /// 1: this node owns the VIP.
    VIP_OWNER: Gauge "vip_owner" Number ["vip"],
    /// How long the datapath goes on to serve an elected VIP without the controller, when it was read.
    VIP_LEASE: Gauge "vip_lease_remaining" Seconds ["vip"],

    /// 1 for the instance's state, 0 for the others.
    VRRP_STATE: Gauge "vrrp_state" Number ["vrrp_instance" "state"],
    /// What the instance advertises, or would.
    VRRP_PRIORITY: Gauge "vrrp_priority" Number ["vrrp_instance"],
    /// When the instance's state last changed.
    VRRP_SINCE: Gauge "vrrp_state_change_timestamp" Seconds ["vrrp_instance"],
    /// 1: an alarm of the last minute, by its kind in `status --json`.
    VRRP_ALARM: Gauge "vrrp_alarm" Number ["vrrp_instance" "kind"],
    /// RFC 6527 vrrpv3StatisticsMasterTransitions: how often the instance became active.
    VRRP_MASTER_TRANSITIONS: Counter "vrrp_master_transitions" Number ["vrrp_instance"],
    /// Advertisements sent.
    VRRP_SENT: Counter "vrrp_sent_advertisements" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3StatisticsRcvdAdvertisements.
    VRRP_RCVD: Counter "vrrp_rcvd_advertisements" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3StatisticsSentPriZeroPackets: VIPs given up.
    VRRP_SENT_PRI_ZERO: Counter "vrrp_sent_pri_zero_packets" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3StatisticsRcvdPriZeroPackets.
    VRRP_RCVD_PRI_ZERO: Counter "vrrp_rcvd_pri_zero_packets" Number ["vrrp_instance"],
    /// Advertisements that could be sent to nobody.
    VRRP_SEND_ERRORS: Counter "vrrp_send_errors" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3StatisticsIpTtlErrors.
    VRRP_IP_TTL_ERRORS: Counter "vrrp_ip_ttl_errors" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3StatisticsPacketLengthErrors.
    VRRP_PACKET_LENGTH_ERRORS: Counter "vrrp_packet_length_errors" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3RouterVersionErrors.
    VRRP_VERSION_ERRORS: Counter "vrrp_version_errors" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3StatisticsRcvdInvalidTypePackets.
    VRRP_INVALID_TYPE: Counter "vrrp_rcvd_invalid_type_packets" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3RouterChecksumErrors.
    VRRP_CHECKSUM_ERRORS: Counter "vrrp_checksum_errors" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3RouterVrIdErrors.
    VRRP_VRID_ERRORS: Counter "vrrp_vrid_errors" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3StatisticsAddressListErrors.
    VRRP_ADDRESS_LIST_ERRORS: Counter "vrrp_address_list_errors" Number ["vrrp_instance"],
    /// RFC 6527 vrrpv3StatisticsAdvIntervalErrors.
    VRRP_ADV_INTERVAL_ERRORS: Counter "vrrp_adv_interval_errors" Number ["vrrp_instance"],
    /// RFC 2787 vrrpStatsAuthTypeMismatch, of version 2.
    VRRP_AUTH_TYPE_MISMATCHES: Counter "vrrp_auth_type_mismatches" Number ["vrrp_instance"],
    /// RFC 2787 vrrpStatsAuthFailures, of version 2.
    VRRP_AUTH_FAILURES: Counter "vrrp_auth_failures" Number ["vrrp_instance"],
    /// Multicast for an instance with unicast peers, or unicast for one without.
    VRRP_CAST_ERRORS: Counter "vrrp_cast_errors" Number ["vrrp_instance"],
    /// Unicast from an address that is not in the list of peers.
    VRRP_STRANGERS: Counter "vrrp_stranger_packets" Number ["vrrp_instance"],
    /// From an address of this node: a loop, a clone or a duplicate address.
    VRRP_OWN_SOURCE: Counter "vrrp_own_source_packets" Number ["vrrp_instance"],
    /// Received while the instance was in `init` or `fault`.
    VRRP_NOT_RUNNING: Counter "vrrp_not_running_packets" Number ["vrrp_instance"],
    /// The most that an advertisement of ours went out after its time, since the start.
    VRRP_WORST_LATENESS: Gauge "vrrp_worst_lateness" Seconds ["vrrp_instance"],
    /// Since the peer's last advertisement.
    VRRP_PEER_SILENCE: Gauge "vrrp_peer_silence" Seconds ["vrrp_instance" "peer"],
    /// How late or early the peer's advertisements are, on average (RFC 3550 6.4.1).
    VRRP_PEER_LATENESS: Gauge "vrrp_peer_lateness" Seconds ["vrrp_instance" "peer"],
    /// What the peer announces as its interval.
    VRRP_PEER_INTERVAL: Gauge "vrrp_peer_advert_interval" Seconds ["vrrp_instance" "peer"],
    /// What the peer advertises.
    VRRP_PEER_PRIORITY: Gauge "vrrp_peer_priority" Number ["vrrp_instance" "peer"],

    /// 1: this node knows its peers' flows, and may take VIPs from them.
    SYNC_WARM: Gauge "sync_warm" Number [],
    /// 1 for the connection's state, 0 for the others.
    SYNC_PEER_STATE: Gauge "sync_peer_state" Number ["peer" "state"],
    /// Flows of the peer that are here, by the last comparison.
    SYNC_HELD: Gauge "sync_held_flows" Number ["peer"],
    /// Flows of this node that the peer has, as it said last, when it answered a change.
    SYNC_HELD_BY_PEER: Gauge "sync_held_by_peer_flows" Number ["peer"],
    /// How long a change takes to be carried out at the peer.
    SYNC_LAG: Gauge "sync_lag" Seconds ["peer"],
    /// Since the last comparison with the peer.
    SYNC_COMPARED: Gauge "sync_comparison_age" Seconds ["peer"],
    /// Of 1,024 buckets, those that were not equal then.
    SYNC_DIFFERING: Gauge "sync_differing_buckets" Number ["peer"],
    /// Changes and flows sent over this connection.
    SYNC_SENT: Counter "sync_sent_changes" Number ["peer"],
    /// Changes and flows received over it and carried out here.
    SYNC_RECEIVED: Counter "sync_received_changes" Number ["peer"],
    /// How often everything was compared because changes were not sent.
    SYNC_RESYNCS: Counter "sync_resyncs" Number ["peer"],
    /// Changes that were not carried out, because this node serves their VIP too.
    SYNC_IGNORED: Counter "sync_ignored_changes" Number ["peer"],
    /// Flows that only this node had.
    SYNC_DISCARDED: Counter "sync_discarded_flows" Number ["peer"],
    /// Connections of peers that were refused.
    SYNC_REFUSED: Counter "sync_refused_connections" Number ["reason"],
    /// Flows of peers that were not kept.
    SYNC_NOT_KEPT: Counter "sync_not_kept_flows" Number ["reason"],
    /// Changes lost between datapath and controller, and found again by comparing.
    SYNC_LOST: Counter "sync_lost_changes" Number [],

    /// What the main loop does in one go, by what it does: it hangs for so long.
    LOOP: Histogram "controller_busy" Seconds ["task"],
    /// 1: the configuration's file, as it was last read, applies; 0: it was refused.
    RELOAD_SUCCESSFUL: Gauge "config_last_reload_successful" Number [],
    /// When the configuration that applies was read.
    RELOAD_TIME: Gauge "config_last_reload_success_timestamp" Seconds [],
    /// Reloads, by `success` or `failure`.
    RELOADS: Counter "config_reloads" Number ["result"],
    /// How long reloads took.
    RELOAD_DURATION: Histogram "config_reload_duration" Seconds [],
    /// Connections to `admin.listen` that are open.
    LISTENER_CONNECTIONS: Gauge "listener_connections" Number [],
    /// Requests by `admin.listen`.
    LISTENER_REQUESTS: Counter "listener_requests" Number [],
    /// Of them those that were turned away.
    LISTENER_REFUSED: Counter "listener_refused_requests" Number ["reason"],
    /// Backends whose state or weight an operator overrules.
    OVERRIDES: Gauge "overrides" Number [],
    /// Events told to a target of `notify` (its number and its name), by `delivered`, `failed` or `dropped`.
    NOTIFICATIONS: Counter "notifications" Number ["number" "target" "result"],
    /// Events that wait to be told.
    NOTIFICATIONS_WAITING: Gauge "notifications_waiting" Number ["number" "target"],
}
