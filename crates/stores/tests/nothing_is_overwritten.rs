//! What a store promises of one file, on real servers: put once, kept, read, listed, removed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(all(feature = "rest", feature = "sftp"))]

use std::fs;
use std::path::Path;
use std::time::Duration;

use alidade_entity::Cancel;
use alidade_repository::{Body, Error, FileKind, Store};
use alidade_stores::{Settings, open};
use alidade_testkit::server::{RestOptions, RestServer, SftpServer};

/// The hash of `one`.
const NAME: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";

/// A server that kept half of what it was sent has not stored it, whatever it answers to the same sent again.
fn half_of_it_is_not_it(store: &dyn Store, place: &str, directory: &Path) {
    fs::write(directory.join("locks").join(NAME), b"on").unwrap();
    let again = store.put(FileKind::Lock, NAME, Body::Bytes(b"one"));
    assert!(matches!(again, Err(Error::Damaged { .. })), "{place}: {again:?}");
    store.remove(FileKind::Lock, NAME).unwrap();
    // Of a pack it is told when it must be there, and from then on.
    fs::write(directory.join("data").join(&NAME[..2]).join(NAME), b"on").unwrap();
    store.put(FileKind::Pack, NAME, Body::Bytes(b"one")).unwrap();
    for _ in 0..2 {
        let there = store.flush(FileKind::Pack);
        assert!(matches!(there, Err(Error::Damaged { .. })), "{place}: {there:?}");
    }
}

fn keeps(place: &str, sftp_command: Option<String>, directory: &Path) {
    let usual = Settings::new(Cancel::default());
    let settings = Settings { sftp_command, patience: Duration::from_secs(10), ..usual };
    let store = open(&place.parse().unwrap(), &settings).unwrap();
    store.create().unwrap();
    store.put(FileKind::Config, "config", Body::Bytes(b"one")).unwrap();
    // The same again: the answer to it may have been lost.
    store.put(FileKind::Config, "config", Body::Bytes(b"one")).unwrap();
    let other = store.put(FileKind::Config, "config", Body::Bytes(b"two"));
    assert!(matches!(other, Err(Error::Exists { .. })), "{place}: {other:?}");
    assert!(matches!(store.create(), Err(Error::Exists { .. })), "{place}");
    assert_eq!(fs::read(directory.join("config")).unwrap(), b"one", "{place}");
    for kind in [FileKind::Lock, FileKind::Pack] {
        for _ in 0..2 {
            store.put(kind, NAME, Body::Bytes(b"one")).unwrap();
            store.flush(kind).unwrap();
        }
        assert_eq!(store.len(kind, NAME).unwrap(), 3, "{place}");
        let mut end = [0; 2];
        store.read_at(kind, NAME, 1, &mut end).unwrap();
        assert_eq!(&end, b"ne", "{place}");
        let beyond = store.read_at(kind, NAME, 2, &mut end);
        assert!(matches!(beyond, Err(Error::Damaged { .. })), "{place}: {beyond:?}");
        let beyond = store.read_at(kind, NAME, 7, &mut end);
        assert!(matches!(beyond, Err(Error::Damaged { .. })), "{place}: {beyond:?}");
        let mut found = Vec::new();
        let mut each = |name: &str, len: u64| {
            found.push((name.to_owned(), len));
            Ok(())
        };
        store.list(kind, &mut each).unwrap();
        assert_eq!(found, [(NAME.to_owned(), 3)], "{place}");
        store.remove(kind, NAME).unwrap();
        store.remove(kind, NAME).unwrap();
        assert!(matches!(store.len(kind, NAME), Err(Error::NotFound { .. })), "{place}");
        store.list(kind, &mut |name, _| panic!("{place}: {name} is there")).unwrap();
    }
    half_of_it_is_not_it(&*store, place, directory);
    // Nothing is left beside.
    let left = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    assert_eq!(left.filter(|entry| entry.path().is_file()).count(), 1, "{place}");
}

#[test]
fn a_rest_server_keeps_what_it_has() {
    let server = RestServer::start(RestOptions::default());
    let place = format!("rest:http://{}/one", server.address());
    keeps(&place, None, &server.data().join("one"));
}

#[test]
fn an_sftp_server_keeps_what_it_has_with_links_and_without() {
    for server in [SftpServer::start(), SftpServer::start_without_links()] {
        let directory = server.data().join("one");
        keeps(&format!("sftp:store:{}", directory.display()), Some(server.ssh()), &directory);
    }
}
