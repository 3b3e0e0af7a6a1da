use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const HAPROXY: &str = "listen api\n bind 10.0.0.100:6443\n server cp1 10.0.0.11:6443\n";

fn arguments(folder: &Path, haproxy: &str, force: bool) -> Arguments {
    let path = folder.join("haproxy.cfg");
    fs::write(&path, haproxy).unwrap();
    Arguments {
        haproxy: Some(path),
        keepalived: None,
        output: Some(folder.join("fairlead.yaml")),
        force,
        json: true,
        config_id: None,
    }
}

#[test]
fn a_file_is_overwritten_by_force_only() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("fairlead.yaml");
    fs::write(&output, "mine").unwrap();
    let error = run(&arguments(folder.path(), HAPROXY, false)).unwrap_err();
    assert!(format!("{error:#}").contains("--force overwrites it"), "{error:#}");
    assert_eq!(fs::read_to_string(&output).unwrap(), "mine");
    run(&arguments(folder.path(), HAPROXY, true)).unwrap();
    assert!(fs::read_to_string(&output).unwrap().contains("name: api"));
}

#[test]
fn what_is_written_is_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    run(&arguments(folder.path(), HAPROXY, false)).unwrap();
    let mode = fs::metadata(folder.path().join("fairlead.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_lacks_something_is_written_and_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let text = HAPROXY.replace("10.0.0.100:", "*:");
    let error = run(&arguments(folder.path(), &text, false)).unwrap_err().to_string();
    assert!(error.contains("not complete"), "{error}");
    let text = fs::read_to_string(folder.path().join("fairlead.yaml")).unwrap();
    assert!(text.contains("TO DO"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(&arguments(folder.path(), "listen a\n bind :x\n", false)).unwrap_err();
    assert!(error.to_string().contains("haproxy.cfg:2:7: `x` is no port"), "{error}");
    assert!(!folder.path().join("fairlead.yaml").exists());
    let missing = Arguments {
        haproxy: Some(folder.path().join("none.cfg")),
        ..arguments(folder.path(), HAPROXY, false)
    };
    assert!(format!("{:#}", run(&missing).unwrap_err()).contains("reading "));
}
