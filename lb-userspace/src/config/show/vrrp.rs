//! Instances of VRRP, as a file says them. Pure.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::super::vrrp::{
    Announce, Effect, Track, TrackedBackends, TrackedFile, TrackedInterface, Vrrp,
};
use super::{HIDDEN, Time};
use crate::vrrp::Version;
use crate::vrrp::packet::ChecksumForm;

#[derive(Serialize)]
pub(super) struct VrrpFile<'a> {
    name: &'a str,
    interface: &'a str,
    vrid: u8,
    priority: u8,
    version: u8,
    advert_interval: Time,
    down_timer_adverts: u8,
    preempt: bool,
    preempt_delay: Time,
    startup_delay: Time,
    vips: &'a [IpAddr],
    unicast_peers: &'a [IpAddr],
    #[serde(skip_serializing_if = "Option::is_none")]
    unicast_source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication: Option<AuthenticationFile<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<&'static str>,
    accept: bool,
    linger: Time,
    restart_grace: Time,
    track: TrackFile<'a>,
    announce: AnnounceFile,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_group: Option<&'a str>,
}

#[derive(Serialize)]
struct AuthenticationFile<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<&'a PathBuf>,
}

#[derive(Serialize)]
struct TrackFile<'a> {
    interfaces: Vec<InterfaceFile<'a>>,
    files: Vec<FileFile<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backends: Option<BackendsFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datapath: Option<DatapathFile>,
}

#[derive(Serialize)]
struct InterfaceFile<'a> {
    name: &'a str,
    weight: i16,
    reverse: bool,
}

#[derive(Serialize)]
struct FileFile<'a> {
    path: &'a PathBuf,
    weight: i16,
    reverse: bool,
}

#[derive(Serialize)]
struct BackendsFile {
    weight: i16,
    minimum: u32,
    hold: Time,
}

#[derive(Serialize)]
struct DatapathFile {
    weight: i16,
}

#[derive(Serialize)]
struct AnnounceFile {
    refresh: Time,
    rate: u32,
}

pub(super) fn instance<'a>(
    index: usize,
    instance: &'a Vrrp,
    hidden: &mut Vec<String>,
) -> VrrpFile<'a> {
    let Vrrp {
        name,
        interface,
        vrid,
        priority,
        version,
        advert_interval,
        down_timer_adverts,
        preempt,
        preempt_delay,
        startup_delay,
        vips,
        unicast_peers,
        unicast_source,
        password,
        password_file,
        checksum,
        accept,
        linger,
        restart_grace,
        track,
        announce: Announce { refresh, rate },
        sync_group,
    } = instance;
    let is_written_here = password.is_some() && password_file.is_none();
    if is_written_here {
        hidden.push(format!("vrrp[{index}].authentication.password"));
    }
    VrrpFile {
        name,
        interface,
        vrid: *vrid,
        priority: *priority,
        version: match version {
            Version::V2 => 2,
            Version::V3 => 3,
        },
        advert_interval: Time(*advert_interval),
        down_timer_adverts: *down_timer_adverts,
        preempt: *preempt,
        preempt_delay: Time(*preempt_delay),
        startup_delay: Time(*startup_delay),
        vips,
        unicast_peers,
        unicast_source: *unicast_source,
        authentication: (password.is_some() || password_file.is_some()).then_some(
            AuthenticationFile {
                kind: "pass",
                password: is_written_here.then_some(HIDDEN),
                password_file: password_file.as_ref(),
            },
        ),
        checksum: (*version == Version::V3).then(|| ChecksumForm::as_str(*checksum)),
        accept: *accept,
        linger: Time(*linger),
        restart_grace: Time(*restart_grace),
        track: self::track(track, *preempt),
        announce: AnnounceFile { refresh: Time(*refresh), rate: *rate },
        sync_group: sync_group.as_deref(),
    }
}

/// What is not tracked is said with weight zero, where the default is another; without `preempt`
/// nothing is tracked by default.
fn track(track: &Track, preempt: bool) -> TrackFile<'_> {
    let Track { interfaces, files, backends, datapath } = track;
    let untracked = TrackedBackends { weight: 0, ..TrackedBackends::default() };
    let backends = backends.or_else(|| preempt.then_some(untracked));
    TrackFile {
        interfaces: interfaces.iter().map(tracked_interface).collect(),
        files: files.iter().map(tracked_file).collect(),
        backends: backends.map(|TrackedBackends { weight, minimum, hold }| BackendsFile {
            weight,
            minimum,
            hold: Time(hold),
        }),
        datapath: datapath.map(|Effect { weight, reverse: _ }| DatapathFile { weight }),
    }
}

fn tracked_interface(tracked: &TrackedInterface) -> InterfaceFile<'_> {
    let TrackedInterface { name, effect: Effect { weight, reverse } } = tracked;
    InterfaceFile { name, weight: *weight, reverse: *reverse }
}

fn tracked_file(tracked: &TrackedFile) -> FileFile<'_> {
    let TrackedFile { path, effect: Effect { weight, reverse } } = tracked;
    FileFile { path, weight: *weight, reverse: *reverse }
}
