//! The socket's file: who may connect, and what is in its place.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn only_the_owner_may_connect() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/admin.sock");
    let listener = bind(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()) & !0o755, 0);
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    drop(net::UnixListener::bind(&path).unwrap());
    let listener = bind(&path).unwrap();
    let error = bind(&path).unwrap_err().to_string();
    assert!(error.contains("answers at"), "{error}");
    net::UnixStream::connect(&path).unwrap();
    drop(listener);
}

#[test]
fn what_is_no_socket_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let link = directory.path().join("link");
    symlink(&file, &link).unwrap();
    for path in [&file, &link, &directory.path().to_owned()] {
        let error = bind(path).unwrap_err().to_string();
        assert!(error.contains("is no socket") || error.contains("cannot be"), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(bind(&file.join("admin.sock")).is_err());
    assert!(bind(&directory.path().join("a".repeat(200))).is_err());
}

#[test]
fn the_socket_of_a_successor_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let first = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}
