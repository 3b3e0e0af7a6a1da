use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::admin::model::{Admin, BackendChange};

fn some() -> Overrides {
    drained("cp1")
}

fn drained(backend: &str) -> Overrides {
    let mut overrides = Overrides::default();
    let change = BackendChange { admin: Some(Admin::Draining), ..BackendChange::default() };
    let name = ("api".to_owned(), backend.to_owned());
    overrides.change(name, &change, "2026-01-02T03:04:05.006Z", None).unwrap();
    overrides
}

#[test]
fn what_is_saved_is_loaded_and_nothing_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/overrides.json");
    assert_eq!(load(&path), (Overrides::default(), None));
    save(&path, &Overrides::default()).unwrap();
    save(&path, &some()).unwrap();
    assert_eq!(load(&path), (some(), None));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    save(&path, &Overrides::default()).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_damaged_file_is_put_aside_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("overrides.json");
    for damage in [&b"{"[..], b"", b"\xff\0"] {
        fs::write(&path, damage).unwrap();
        let (overrides, trouble) = load(&path);
        let trouble = trouble.unwrap();
        assert!(overrides.is_empty());
        assert!(trouble.contains("is damaged") && trouble.contains(".damaged"), "{trouble}");
        let aside = directory.path().join("overrides.json.damaged");
        assert_eq!(fs::read(&aside).unwrap(), damage);
        assert!(!path.exists());
    }
    // Neither is a directory in its place the end.
    fs::create_dir(&path).unwrap();
    assert!(load(&path).1.is_some());
}

#[test]
fn a_half_written_successor_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("overrides.json");
    save(&path, &some()).unwrap();
    fs::write(directory.path().join("overrides.json.new"), "{\"vers").unwrap();
    assert_eq!(load(&path), (some(), None));
    save(&path, &drained("cp2")).unwrap();
    assert_eq!(load(&path), (drained("cp2"), None));
}

#[test]
fn controllers_with_sockets_of_their_own_have_files_of_their_own() {
    let admin = |socket: &str, state_file: Option<&str>| config::Admin {
        socket: PathBuf::from(socket),
        state_file: state_file.map(PathBuf::from),
        ..config::Admin::default()
    };
    let name = |admin: &config::Admin| path(admin).file_name().unwrap().to_owned();
    assert_eq!(name(&config::Admin::default()), "overrides.json");
    assert_eq!(name(&admin("/tmp/a/b.sock", None)), "overrides-tmp-a-b.sock.json");
    assert_ne!(path(&admin("/tmp/a.sock", None)), path(&admin("/tmp/b.sock", None)));
    assert_eq!(path(&admin("/tmp/a.sock", Some("/x/y"))), Path::new("/x/y"));
    assert_eq!(first(&OsString::from("/var/lib/a:/var/lib/b")), Some(PathBuf::from("/var/lib/a")));
    assert_eq!(first(&OsString::from("")), None);
}

#[tokio::test]
async fn the_last_of_many_is_what_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("overrides.json");
    let writer = Writer::start(path.clone());
    let answers: Vec<_> =
        (0..20).map(|number| writer.write(drained(&number.to_string()))).collect();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(writer.trouble(), None);
    let last = writer.write(some());
    writer.finish().await;
    last.await.unwrap().unwrap();
    assert_eq!(load(&path), (some(), None));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_said_and_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("absent/overrides.json");
    // A file where the directory should be.
    fs::write(directory.path().join("absent"), "").unwrap();
    let writer = Writer::start(path.clone());
    let error = writer.write(some()).await.unwrap().unwrap_err();
    assert!(error.contains("absent"), "{error}");
    assert_eq!(writer.trouble(), Some(error));
    fs::remove_file(directory.path().join("absent")).unwrap();
    let mut trouble = writer.trouble.clone();
    trouble.wait_for(Option::is_none).await.unwrap();
    assert_eq!(load(&path), (some(), None));
}
