//! Keywords of keepalived.conf that carry nothing over, and why. Pure.

use super::super::findings::{Findings, Kind};
use super::block::Node;

use Kind::{Changed, Needless, NotCarriedOver};

type Known = (&'static str, Kind, &'static str, &'static str);

const NOTHING: &str = "nothing to do";
const SCRIPTS: &str = "a node that has no datapath, or sees no backend up, steps back by itself";
const NO_SCRIPT: &str = "nothing to do for a script that checks haproxy or the apiserver; what else \
                         it checks may write a file for `track: { files: [{ path: ... }] }`";
const ANNOUNCE: &str = "VIPs are announced at 0, 0.1 and 1 s, and every minute while they are held";
const HOOKS: &str = "programs are run as `notify:` says, with the event on their stdin";
const NOTIFY: &str = "write `notify: [{ events: [vrrp, vip], exec: [...] }]`";
const NO_HOOK: &str = "Fairlead runs no program before it starts or after it has ended";
const MAIL: &str = "Fairlead sends no mail";
const SEND: &str = "write `notify:` with a program or a webhook, for the events of kind `vrrp`";
const SCRIPT_USER: &str = "programs of `notify:` run as the controller's user, without a shell";
const PROCESS: &str = "it is about keepalived's own process";
const VMAC: &str = "VIPs use the interface's own MAC address, and are announced when they move";

/// In `vrrp_instance` blocks.
const INSTANCE: &[Known] = &[
    ("state", Needless, "the priority alone elects: every node starts as backup", NOTHING),
    ("track_script", Changed, SCRIPTS, NO_SCRIPT),
    ("track_process", Changed, SCRIPTS, "nothing to do where the process is haproxy"),
    (
        "track_file",
        NotCarriedOver,
        "which file it is, another block says",
        "write `track: { files: [{ path: ... }] }` in the instance",
    ),
    (
        "track_bfd",
        NotCarriedOver,
        "Fairlead speaks no BFD",
        "a shorter `advert_interval` finds failures as fast",
    ),
    ("track_src_ip", Needless, "the instance follows the addresses of its interface", NOTHING),
    ("dont_track_primary", NotCarriedOver, "the instance follows its interface always", NOTHING),
    ("notify", NotCarriedOver, HOOKS, NOTIFY),
    ("notify_master", NotCarriedOver, HOOKS, NOTIFY),
    ("notify_backup", NotCarriedOver, HOOKS, NOTIFY),
    ("notify_fault", NotCarriedOver, HOOKS, NOTIFY),
    ("notify_stop", NotCarriedOver, HOOKS, NOTIFY),
    ("notify_deleted", NotCarriedOver, HOOKS, NOTIFY),
    ("notify_master_rx_lower_pri", NotCarriedOver, HOOKS, NOTIFY),
    ("notify_priority_changes", NotCarriedOver, HOOKS, NOTIFY),
    ("smtp_alert", NotCarriedOver, MAIL, SEND),
    ("garp_master_delay", Changed, ANNOUNCE, NOTHING),
    ("garp_master_repeat", Changed, ANNOUNCE, NOTHING),
    ("garp_master_refresh", Changed, ANNOUNCE, NOTHING),
    ("garp_master_refresh_repeat", Changed, ANNOUNCE, NOTHING),
    ("garp_lower_prio_delay", Changed, ANNOUNCE, NOTHING),
    ("garp_lower_prio_repeat", Changed, ANNOUNCE, NOTHING),
    ("garp_extra_if", NotCarriedOver, "VIPs are announced on the instance's interface", NOTHING),
    ("use_vmac", NotCarriedOver, VMAC, "see that the switches take gratuitous ARP"),
    ("use_vmac_addr", NotCarriedOver, VMAC, "see that the switches take gratuitous ARP"),
    ("vmac_xmit_base", Needless, VMAC, NOTHING),
    ("use_ipvlan", NotCarriedOver, VMAC, "see that the switches take gratuitous ARP"),
    ("native_ipv6", Needless, "the addresses say so", NOTHING),
    ("mcast_src_ip", NotCarriedOver, "adverts come from the interface's own address", NOTHING),
    (
        "mcast_dst_ip",
        NotCarriedOver,
        "adverts go to the group of the RFC",
        "write `unicast_peers` instead",
    ),
    ("unicast_ttl", Needless, "unicast adverts have TTL 255", NOTHING),
    ("unicast_fault_no_peer", Needless, "an instance without peers is a multicast one", NOTHING),
    ("check_unicast_src", Needless, "only listed peers are heard", NOTHING),
    (
        "old_unicast_checksum",
        NotCarriedOver,
        "both checksums of later versions are understood",
        "upgrade keepalived before the two run side by side",
    ),
    ("lower_prio_no_advert", Changed, "an advert of a lower priority is answered by one", NOTHING),
    ("higher_prio_send_advert", Changed, "a node that loses sends a last advert", NOTHING),
    ("skip_check_adv_addr", Needless, "another list of addresses is taken, and logged", NOTHING),
    ("strict_mode", Needless, "Fairlead keeps to the RFC where it can", NOTHING),
    ("promote_secondaries", Needless, "VIPs are single addresses (/32, /128)", NOTHING),
    (
        "virtual_routes",
        NotCarriedOver,
        "Fairlead sets no routes",
        "set them in the network's configuration",
    ),
    (
        "virtual_rules",
        NotCarriedOver,
        "Fairlead sets no rules",
        "set them in the network's configuration",
    ),
    ("linkbeat_use_polling", Needless, "links are followed by netlink", NOTHING),
    ("kernel_rx_buf_size", Needless, PROCESS, NOTHING),
    ("debug", Needless, PROCESS, NOTHING),
    (
        "vrf",
        NotCarriedOver,
        "Fairlead knows no VRFs",
        "run it in the namespace that has the interface",
    ),
    ("lvs_sync_daemon_interface", Changed, "there is no IPVS; see the services", NOTHING),
];

/// At the top of the file, and in `global_defs`.
const GLOBAL: &[Known] = &[
    ("router_id", Needless, "a node is known by its addresses", NOTHING),
    ("enable_script_security", Needless, SCRIPT_USER, NOTHING),
    ("script_user", Needless, SCRIPT_USER, NOTHING),
    (
        "max_auto_priority",
        Needless,
        "VRRP runs in a thread of its own, with real-time priority",
        NOTHING,
    ),
    ("notification_email", NotCarriedOver, MAIL, SEND),
    ("notification_email_from", Needless, MAIL, NOTHING),
    ("smtp_server", Needless, MAIL, NOTHING),
    ("smtp_helo_name", Needless, MAIL, NOTHING),
    ("smtp_connect_timeout", Needless, MAIL, NOTHING),
    ("smtp_alert", NotCarriedOver, MAIL, SEND),
    ("smtp_alert_vrrp", NotCarriedOver, MAIL, SEND),
    ("smtp_alert_checker", NotCarriedOver, MAIL, SEND),
    ("no_email_faults", Needless, MAIL, NOTHING),
    ("vrrp_strict", Needless, "Fairlead keeps to the RFC where it can", NOTHING),
    (
        "vrrp_skip_check_adv_addr",
        Needless,
        "another list of addresses is taken, and logged",
        NOTHING,
    ),
    (
        "vrrp_mcast_group4",
        NotCarriedOver,
        "adverts go to the group of the RFC",
        "write `unicast_peers` instead",
    ),
    (
        "vrrp_mcast_group6",
        NotCarriedOver,
        "adverts go to the group of the RFC",
        "write `unicast_peers` instead",
    ),
    ("vrrp_iptables", Needless, "a VIP is always accepted", NOTHING),
    ("vrrp_ipsets", Needless, "a VIP is always accepted", NOTHING),
    ("vrrp_check_unicast_src", Needless, "only listed peers are heard", NOTHING),
    ("vrrp_higher_prio_send_advert", Changed, "a node that loses sends a last advert", NOTHING),
    (
        "vrrp_lower_prio_no_advert",
        Changed,
        "an advert of a lower priority is answered by one",
        NOTHING,
    ),
    ("vrrp_notify_fifo", NotCarriedOver, HOOKS, NOTIFY),
    ("notify_fifo", NotCarriedOver, HOOKS, NOTIFY),
    (
        "lvs_sync_daemon",
        NotCarriedOver,
        "connections are adopted by what passes",
        "a node that takes over answers for connections it has not seen in mode nat",
    ),
    (
        "lvs_timeouts",
        NotCarriedOver,
        "each service has `timeouts:`",
        "set `timeouts.established` there",
    ),
    ("lvs_flush", Needless, "there is no IPVS", NOTHING),
    (
        "net_namespace",
        NotCarriedOver,
        "Fairlead runs in the namespace that it is started in",
        "start it with `ip netns exec`",
    ),
    ("instance", Needless, PROCESS, NOTHING),
    ("use_pid_dir", Needless, PROCESS, NOTHING),
    ("linkbeat_use_polling", Needless, "links are followed by netlink", NOTHING),
    ("checker_log_all_failures", Needless, "state changes are always logged", NOTHING),
    ("default_interface", Needless, "it is for static addresses", NOTHING),
    ("startup_script", NotCarriedOver, NO_HOOK, "use ExecStartPre= of the unit"),
    ("shutdown_script", NotCarriedOver, NO_HOOK, "use ExecStopPost= of the unit"),
    ("process_names", Needless, PROCESS, NOTHING),
    ("child_wait_time", Needless, PROCESS, NOTHING),
    ("config_save_dir", Needless, PROCESS, NOTHING),
    ("reload_check_config", Needless, "a reload is always checked first", NOTHING),
    ("use_symlink_paths", Needless, PROCESS, NOTHING),
    ("script_security", Needless, SCRIPT_USER, NOTHING),
    (
        "dynamic_interfaces",
        NotCarriedOver,
        "interfaces are followed, but must be there at start",
        NOTHING,
    ),
    ("enable_traps", Needless, "there is no SNMP agent", "see `fairlead status --json`"),
    ("nftables", Needless, "a VIP is always accepted", NOTHING),
];

/// Groups of keywords of `global_defs` by what they begin with.
const GLOBAL_PREFIXES: &[Known] = &[
    ("vrrp_garp_", Changed, ANNOUNCE, NOTHING),
    ("vrrp_gna_", Changed, ANNOUNCE, NOTHING),
    ("vrrp_rt_", Needless, PROCESS, NOTHING),
    ("vrrp_rlimit_", Needless, PROCESS, NOTHING),
    ("vrrp_rx_bufs_", Needless, PROCESS, NOTHING),
    ("vrrp_netlink_", Needless, PROCESS, NOTHING),
    ("vrrp_notify_", NotCarriedOver, HOOKS, NOTIFY),
    ("vrrp_priority", Needless, PROCESS, NOTHING),
    ("vrrp_no_swap", Needless, PROCESS, NOTHING),
    ("vrrp_cpu_", Needless, PROCESS, NOTHING),
    ("vrrp_process_name", Needless, PROCESS, NOTHING),
    ("checker_", Needless, PROCESS, NOTHING),
    ("bfd_", Needless, PROCESS, NOTHING),
    ("lvs_", Needless, "there is no IPVS", NOTHING),
    ("snmp_", Needless, "there is no SNMP agent", "see `fairlead status --json`"),
    ("enable_snmp_", Needless, "there is no SNMP agent", "see `fairlead status --json`"),
    ("enable_dbus", Needless, "there is no D-Bus", "see `fairlead status`"),
    ("nftables_", Needless, "a VIP is always accepted", NOTHING),
    ("umask", Needless, PROCESS, NOTHING),
    ("process_", Needless, PROCESS, NOTHING),
    ("startup_script_", Needless, PROCESS, NOTHING),
    ("shutdown_script_", Needless, PROCESS, NOTHING),
];

/// Blocks at the top of the file.
const BLOCKS: &[Known] = &[
    (
        "static_ipaddress",
        NotCarriedOver,
        "Fairlead adds VIPs only",
        "set them in the network's configuration",
    ),
    (
        "static_routes",
        NotCarriedOver,
        "Fairlead sets no routes",
        "set them in the network's configuration",
    ),
    (
        "static_rules",
        NotCarriedOver,
        "Fairlead sets no rules",
        "set them in the network's configuration",
    ),
    ("vrrp_script", Changed, SCRIPTS, NO_SCRIPT),
    ("vrrp_track_process", Changed, SCRIPTS, "nothing to do where the process is haproxy"),
    (
        "vrrp_track_file",
        NotCarriedOver,
        "which file it is, another block says",
        "write `track: { files: [{ path: ... }] }` in the instance",
    ),
    (
        "track_file",
        NotCarriedOver,
        "which file it is, another block says",
        "write `track: { files: [{ path: ... }] }` in the instance",
    ),
    (
        "bfd_instance",
        NotCarriedOver,
        "Fairlead speaks no BFD",
        "a shorter `advert_interval` finds failures as fast",
    ),
    ("interface_up_down_delays", NotCarriedOver, "a lost link counts at once", NOTHING),
    ("linkbeat_interfaces", Needless, "links are followed by netlink", NOTHING),
    (
        "virtual_server_group",
        NotCarriedOver,
        "services have addresses of their own",
        "write a service for each of its addresses",
    ),
    (
        "SSL",
        NotCarriedOver,
        "each service has the certificate of its probes",
        "write `client_cert_file:` and `client_key_file:` in its `health:`",
    ),
];

/// In `vrrp_sync_group` blocks.
const GROUP: &[Known] = &[
    ("global_tracking", Needless, "the members' state is one", NOTHING),
    ("sync_group_tracking_weight", Needless, "the members' state is one", NOTHING),
    (
        "track_interface",
        NotCarriedOver,
        "each instance has a list of its own",
        "write `track: { interfaces: [{ name: ... }] }` in the group's instances",
    ),
];

fn find(tables: &[&[Known]], node: &Node, findings: &mut Findings) -> bool {
    let entry =
        tables.iter().flat_map(|table| table.iter()).find(|(name, ..)| *name == node.name());
    if let Some((name, kind, message, remedy)) = entry {
        findings.add(*kind, &node.keyword().at, name, message, remedy);
    }
    entry.is_some()
}

/// A finding about a line of an instance; whether the keyword is known.
pub(crate) fn instance(node: &Node, findings: &mut Findings) -> bool {
    find(&[INSTANCE], node, findings)
}

/// The same about a line of a sync group.
pub(crate) fn group(node: &Node, findings: &mut Findings) -> bool {
    find(&[GROUP, INSTANCE], node, findings)
}

/// The same about a block at the top of the file, or a line of `global_defs`.
pub(crate) fn global(node: &Node, findings: &mut Findings) -> bool {
    if find(&[BLOCKS, GLOBAL], node, findings) {
        return true;
    }
    let entry = GLOBAL_PREFIXES.iter().find(|(prefix, ..)| node.name().starts_with(prefix));
    if let Some((_, kind, message, remedy)) = entry {
        findings.add(*kind, &node.keyword().at, node.name(), message, remedy);
    }
    entry.is_some()
}
