use super::*;
use crate::config;

const SCHEMA: &str = include_str!("../pod.schema.json");

const FILE: &str = "interfaces: [eth0]
services:
  - name: api
    vips: [10.0.0.100]
    port: 6443
    backends: [{ name: cp1, address: 10.0.0.11 }]
    health: { type: tcp }
vrrp:
  - { name: api, interface: eth0, vrid: 51, priority: 100, advert_interval: 2s, vips: [10.0.0.100] }
admin: { socket: /run/lb/admin.sock }
";

fn pod(handover: bool) -> Value {
    pod_of(FILE, handover)
}

fn pod_of(file: &str, handover: bool) -> Value {
    let config = config::parse(file, Path::new("f.yaml")).unwrap();
    let files = Files { read: ["/etc/kubernetes/pki/ca.crt".into()].into(), ..Files::default() };
    let path = Path::new("/etc/fairlead/fairlead.yaml");
    let pod = Pod { config: &config, path, files: &files, image: "fairlead:1", handover };
    // As the kubelet reads it.
    let yaml = pod.yaml().unwrap();
    serde_saphyr::from_str(&yaml).unwrap()
}

/// Unknown fields included, which the kubelet would ignore: a probe that is misspelt is none.
#[test]
fn the_pod_is_one_for_kubernetes() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for handover in [false, true] {
        let pod = pod(handover);
        let faults: Vec<_> = validator.iter_errors(&pod).map(|it| it.to_string()).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
    let mut misspelt = pod(false);
    misspelt["spec"]["containers"][0]["livenessprobe"] = json!({});
    assert!(!validator.is_valid(&misspelt));
    let mut wrong = pod(false);
    wrong["spec"]["hostNetwork"] = json!("yes");
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn what_the_configuration_names_is_mounted_where_it_is() {
    let pod = pod(true);
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let found: Vec<_> = mounts
        .iter()
        .zip(volumes)
        .map(|(mount, volume)| {
            assert_eq!(mount["name"], volume["name"]);
            assert_eq!(mount["mountPath"], volume["hostPath"]["path"]);
            (mount["mountPath"].as_str().unwrap(), mount["readOnly"].as_bool().unwrap())
        })
        .collect();
    let expected = [
        ("/etc/fairlead", true),
        ("/etc/kubernetes/pki", true),
        ("/run/fairlead", false),
        ("/run/lb", false),
        ("/sys/fs/bpf", false),
        ("/sys/fs/cgroup", true),
        ("/var/lib/fairlead", false),
    ];
    assert_eq!(found, expected);
}

#[test]
fn who_ends_connections_in_pods_may_enter_their_namespaces() {
    let keys = format!("{FILE}local_clients: {{ end_in_pods: true }}\n");
    let (without, with) = (pod(false), pod_of(&keys, false));
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&with));
    let adds = |pod: &Value| {
        let container = &pod["spec"]["containers"][0];
        container["securityContext"]["capabilities"]["add"].as_array().unwrap().clone()
    };
    assert!(!adds(&without).contains(&json!("SYS_ADMIN")));
    assert!(adds(&with).contains(&json!("SYS_ADMIN")));
    let mounts = with["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    let found = mounts.iter().find(|mount| mount["mountPath"] == "/run/netns").unwrap();
    assert_eq!(found["mountPropagation"], "HostToContainer");
    assert_eq!(found["readOnly"], true);
    assert!(!without.to_string().contains("/run/netns"));
}

#[test]
fn it_is_asked_and_ended_by_its_socket() {
    let pod = pod(true);
    let container = &pod["spec"]["containers"][0];
    let command = |of: &Value| of["exec"]["command"].clone();
    let ask = json!(["/usr/sbin/fairlead", "status", "--socket", "/run/lb/admin.sock"]);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(command(&container[probe]), ask);
    }
    let stop = &command(&container["lifecycle"]["preStop"])[2];
    assert_eq!(*stop, "--handover");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 40);
    assert_eq!(PROGRAM, container["command"][0]);
}

#[test]
fn a_file_in_the_root_directory_is_refused() {
    let refused = directory(Path::new("/ca.crt")).unwrap_err();
    assert_eq!(refused.to_string(), "/ca.crt is in the root directory; move it");
}
