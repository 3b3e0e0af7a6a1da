//! A static pod: the kubelet starts it, before there is an apiserver to ask. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{PROGRAM, directory};
use crate::config::Config;
use crate::config::flow_log::FlowLog;
use crate::config::load::Files;
use crate::config::local_clients::{Enabled, LocalClients};

/// Its control group pays for the maps too, so there is no limit: beyond it they could not be made.
const HEAD: &str = "# /etc/kubernetes/manifests/fairlead.yaml on each LB node; made by `fairlead manifest static-pod`.
# The BPF maps (`fairlead check` prints how large they are) count as this pod's memory: set no limit.
# seccompProfile: RuntimeDefault does where the runtime allows bpf(2) with CAP_BPF; older ones want CAP_SYS_ADMIN for it.
";

/// What a pod is made of.
pub(super) struct Pod<'a> {
    pub(super) config: &'a Config,
    pub(super) path: &'a Path,
    pub(super) files: &'a Files,
    pub(super) image: &'a str,
    pub(super) handover: bool,
}

/// Of hostPath.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mount {
    /// Must be there.
    ReadOnly,
    /// Likewise.
    Writable,
    /// Is made.
    Created,
    /// The same, read-only; and what is mounted below it later is there too.
    Followed,
}

impl Pod<'_> {
    /// # Errors
    /// A file lies in the root directory, which cannot be mounted.
    pub(super) fn yaml(&self) -> Result<String> {
        let yaml = serde_saphyr::to_string(&self.pod()?).context("writing YAML")?;
        Ok(format!("{HEAD}{yaml}"))
    }

    fn pod(&self) -> Result<Value> {
        let (mounts, volumes): (Vec<Value>, Vec<Value>) = self.mounts()?.into_iter().unzip();
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "fairlead",
                "namespace": "kube-system",
                "labels": { "app.kubernetes.io/name": "fairlead" },
            },
            "spec": {
                "hostNetwork": true,
                "dnsPolicy": "Default",
                // As kubeadm does: nobody has resolved the name when a static pod starts.
                "priorityClassName": "system-node-critical",
                "priority": 2_000_001_000,
                "terminationGracePeriodSeconds": self.grace_period(),
                "securityContext": { "seccompProfile": { "type": "Unconfined" } },
                "containers": [self.container(&mounts)],
                "volumes": volumes,
            },
        }))
    }

    fn container(&self, mounts: &[Value]) -> Value {
        let mut container = json!({
            "name": "fairlead",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": [PROGRAM, "run", "--config", self.path],
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
            "securityContext": {
                "runAsUser": 0,
                "privileged": false,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {
                    "drop": ["ALL"],
                    "add": self.capabilities(),
                },
            },
            "startupProbe": self.probe(1, 60),
            "livenessProbe": self.probe(10, 3),
            "readinessProbe": self.probe(5, 2),
            "volumeMounts": mounts,
        });
        if self.handover {
            let stop = self.ask(&["stop", "--handover"]);
            container["lifecycle"] = json!({ "preStop": { "exec": { "command": stop } } });
        }
        container
    }

    fn capabilities(&self) -> Vec<&'static str> {
        let mut needed = vec!["BPF", "PERFMON", "NET_ADMIN", "NET_RAW", "SYS_NICE", "IPC_LOCK"];
        needed.extend(self.config.local_clients.end_in_pods.then_some("SYS_ADMIN"));
        needed
    }

    /// Whether the controller answers. One that does not is replaced, and its datapath goes on meanwhile.
    fn probe(&self, period: u32, failures: u32) -> Value {
        json!({
            "exec": { "command": self.ask(&["status"]) },
            "periodSeconds": period,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        })
    }

    fn ask(&self, words: &[&str]) -> Value {
        let socket = self.config.admin.socket.display().to_string();
        [&[PROGRAM], words, &["--socket", &socket]].concat().into()
    }

    /// Giving VIPs away takes four intervals and a second at most; the rest is for the end.
    fn grace_period(&self) -> u64 {
        let intervals = self.config.vrrp.iter().map(|instance| instance.advert_interval);
        30 + intervals.max().unwrap_or(Duration::ZERO).saturating_mul(5).as_secs()
    }

    /// A mount and its volume for each directory, under its own path.
    fn mounts(&self) -> Result<Vec<(Value, Value)>> {
        let each = self.directories()?.into_iter().enumerate();
        let pairs = each.map(|(number, (path, mount))| {
            let (name, kind) = (
                format!("host-{number}"),
                match mount {
                    Mount::ReadOnly | Mount::Writable => "Directory",
                    Mount::Created | Mount::Followed => "DirectoryOrCreate",
                },
            );
            let is_read_only = matches!(mount, Mount::ReadOnly | Mount::Followed);
            let mut inside = json!({ "name": name, "mountPath": path, "readOnly": is_read_only });
            if mount == Mount::Followed {
                inside["mountPropagation"] = json!("HostToContainer");
            }
            (inside, json!({ "name": name, "hostPath": { "path": path, "type": kind } }))
        });
        Ok(pairs.collect())
    }

    fn directories(&self) -> Result<BTreeMap<PathBuf, Mount>> {
        let admin = &self.config.admin;
        let mut found = BTreeMap::from([
            (PathBuf::from("/sys/fs/bpf"), Mount::Writable),
            (PathBuf::from("/run/fairlead"), Mount::Created),
            (PathBuf::from("/var/lib/fairlead"), Mount::Created),
        ]);
        let LocalClients { enabled, cgroup, end_in_pods } = &self.config.local_clients;
        if *enabled != Enabled::Never {
            // What a container has there by itself is its own cgroup.
            let cgroup = cgroup.clone().unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup"));
            found.insert(cgroup, Mount::ReadOnly);
        }
        if *end_in_pods {
            found.insert(PathBuf::from("/run/netns"), Mount::Followed);
        }
        let flows = self.config.flow_log.as_ref().and_then(FlowLog::path);
        for file in std::iter::once(&admin.socket).chain(&admin.state_file).chain(flows) {
            found.entry(directory(file)?.to_owned()).or_insert(Mount::Created);
        }
        let tracked = self.config.vrrp.iter().flat_map(|instance| &instance.track.files);
        let read = self.files.read.iter().chain(tracked.map(|file| &file.path));
        for file in read.map(PathBuf::as_path).chain([self.path]) {
            found.entry(directory(file)?.to_owned()).or_insert(Mount::ReadOnly);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
