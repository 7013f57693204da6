//! What every store promises, on every server that there is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;

use alidade_entity::Cancel;
use alidade_repository::{Body, Error, FileKind, Store};
use alidade_stores::{Settings, open};
use alidade_testkit::emulator::{AzureServer, GoogleServer};
use alidade_testkit::server::S3Server;
use alidade_testkit::store::conforms;

fn store(place: &str, environment: &[(&str, &str)]) -> Arc<dyn Store> {
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let environment = environment.collect();
    let settings = Settings { environment, ..Settings::new(Cancel::default()) };
    open(&place.parse().unwrap(), &settings).unwrap()
}

fn in_s3(server: &S3Server, prefix: &str) -> Arc<dyn Store> {
    let (id, key) = server.key();
    let keys = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", key)];
    store(&format!("s3:http://{}/bucket/{prefix}", server.address()), &keys)
}

fn in_azure(server: &AzureServer, prefix: &str) -> Arc<dyn Store> {
    let (account, key) = server.key();
    let url = format!("http://{}/{account}", server.address());
    let said = [
        ("AZURE_ACCOUNT_NAME", account),
        ("AZURE_ACCOUNT_KEY", &key),
        ("AZURE_STORAGE_ENDPOINT", &url),
    ];
    store(&format!("azure:bucket:/{prefix}"), &said)
}

fn in_google(server: SocketAddr, prefix: &str) -> Arc<dyn Store> {
    let server = server.to_string();
    store(&format!("gs:bucket:/{prefix}"), &[("STORAGE_EMULATOR_HOST", &server)])
}

/// Of two who put a file of one name with another content each, one is told that it is there.
fn one_of_two_wins(stores: &[Arc<dyn Store>; 2]) {
    let put = |store: &Arc<dyn Store>, content: &[u8]| {
        store.put(FileKind::Config, "config", Body::Bytes(content))
    };
    let contents = [b"one".as_slice(), b"two".as_slice()];
    let ended: Vec<_> = std::thread::scope(|scope| {
        let begin = |at: usize| {
            let store = &stores[at];
            scope.spawn(move || put(store, contents[at]))
        };
        let both = [begin(0), begin(1)];
        both.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let winners: Vec<usize> = (0..2).filter(|at| ended[*at].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{ended:?}");
    let lost = &ended[1 - winners[0]];
    assert!(matches!(lost, Err(Error::Exists { .. })), "{lost:?}");
    let mut found = [0; 3];
    for store in stores {
        store.read_at(FileKind::Config, "config", 0, &mut found).unwrap();
        assert_eq!(found, contents[winners[0]]);
    }
}

#[test]
fn a_bucket_of_s3_keeps_the_promises() {
    for brand in S3Server::BRANDS {
        let server = S3Server::start(brand);
        conforms(&*in_s3(&server, "a/b"));
        for round in 0..5 {
            let prefix = format!("two/{round}");
            one_of_two_wins(&[in_s3(&server, &prefix), in_s3(&server, &prefix)]);
        }
    }
}

#[test]
fn a_container_of_azure_keeps_the_promises() {
    let server = AzureServer::start();
    conforms(&*in_azure(&server, "a/b"));
    for round in 0..5 {
        let prefix = format!("two/{round}");
        one_of_two_wins(&[in_azure(&server, &prefix), in_azure(&server, &prefix)]);
    }
}

#[test]
fn a_bucket_of_google_keeps_the_promises() {
    let server = GoogleServer::start();
    conforms(&*in_google(server.address(), "a/b"));
    for round in 0..5 {
        let prefix = format!("two/{round}");
        let one = || in_google(server.address(), &prefix);
        one_of_two_wins(&[one(), one()]);
    }
}
