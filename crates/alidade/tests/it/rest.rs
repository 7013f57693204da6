//! Repositories on restic's own server of its REST protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alidade_testkit::proxy::{Fault, Proxy, Seen};
use alidade_testkit::server::{RestOptions, RestServer, free};
use serde_json::Value;

use crate::away::Away;
use crate::bucket::certificate;
use crate::world::World;

const APPEND_ONLY: RestOptions<'static> =
    RestOptions { append_only: true, login: false, tls: None };

fn away(server: &RestServer) -> Away {
    Away::at(format!("rest:http://{}/backups/one/", server.address()))
}

/// A repository behind a proxy, and a source of some packs.
fn proxied() -> (RestServer, Away, Proxy) {
    let server = RestServer::start(RestOptions::default());
    let proxy = Proxy::before(server.address());
    let away = Away::at(format!("rest:http://{}/one", proxy.address())).with_noise(12);
    away.ok(&["init"]);
    proxy.forget();
    (server, away, proxy)
}

#[test]
fn a_repository_on_a_rest_server_is_as_good_as_one_in_a_directory() {
    let server = RestServer::start(RestOptions::default());
    away(&server).with_noise(6).is_as_good_as_a_directory();
}

#[test]
fn who_asks_is_told_in_the_place_or_in_the_environment() {
    let server = RestServer::start(RestOptions { login: true, ..RestOptions::default() });
    let (user, password) = RestServer::login();
    let with = |variables: &[(&'static str, &str)]| {
        let mut away = away(&server);
        away.variables =
            variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        away
    };
    let nobody = with(&[]).run(&["init"]);
    assert_eq!(nobody.code, Some(1), "{nobody}");
    assert!(nobody.err.contains("hint: the store refuses these credentials"), "{nobody}");
    with(&[("RESTIC_REST_USERNAME", user), ("RESTIC_REST_PASSWORD", password)])
        .with_noise(6)
        .is_as_good_as_a_directory();
    let ours = [("ALIDADE_REST_USERNAME", user), ("ALIDADE_REST_PASSWORD", password)];
    with(&[&ours[..], &[("RESTIC_REST_PASSWORD", "wrong")]].concat()).ok(&["snapshots"]);
    let wrong = with(&[ours[0], ("ALIDADE_REST_PASSWORD", "wrong")]).run(&["snapshots"]);
    assert_eq!(wrong.code, Some(1), "{wrong}");
    let host = format!("{}/backups/one", server.address());
    let mut named = with(&[]);
    named.place = format!("rest:http://anna:p%40ss%3Aw%2F1@{host}");
    let run = named.run(&["protect", "src"]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.err.contains(&format!("rest:http://anna:***@{host}/")), "{run}");
}

#[test]
fn a_password_in_the_place_is_never_printed() {
    let world = World::new();
    let place = format!("rest:http://anna:hidden@{}/", free());
    for place in [place.as_str(), "rest:http://anna:hidden@host/?x", "rest:x://anna:hidden@host/"] {
        for verb in
            [&["snapshots"][..], &["protect", "src", "-v"], &["doctor"], &["init", "--json"]]
        {
            let options = ["-r", place, "--retry-store", "100ms"];
            let mut command = world.command(&[verb, &options].concat());
            let run = World::of(command.env("ALIDADE_PASSWORD", "secret").output().unwrap());
            assert_ne!(run.code, Some(0), "{run}");
            assert!(!format!("{run}").contains("hidden"), "{place}: {run}");
        }
    }
}

#[test]
fn a_rest_server_behind_tls_is_trusted_by_its_certificate() {
    let world = World::new();
    let (certificate, key) = certificate(&world.path("home"));
    let tls = Some((certificate.as_path(), key.as_path()));
    let server = RestServer::start(RestOptions { tls, ..RestOptions::default() });
    let mut away = Away::at(format!("rest:https://{}/", server.address())).with_noise(6);
    let unknown = away.run(&["init"]);
    assert_eq!(unknown.code, Some(14), "{unknown}");
    assert!(unknown.err.contains("--cacert"), "{unknown}");
    let trusted = ["--cacert".to_owned(), certificate.to_str().unwrap().to_owned()];
    away.options = trusted.to_vec();
    away.restic_options = trusted.to_vec();
    away.is_as_good_as_a_directory();
}

#[test]
fn an_append_only_server_takes_and_gives_and_keeps() {
    let mut server = RestServer::start(APPEND_ONLY);
    let away = away(&server).with_noise(6);
    away.ok(&["init"]);
    away.ok(&["protect", "src", "-q"]);
    away.comes_back("out");
    away.ok(&["check", "--read-data"]);
    let (_, odd) = crate::away::files(server.data());
    assert!(odd.is_empty(), "{odd:?}");
    // Locks are removed there.
    let locks = server.data().join("backups/one/locks");
    assert_eq!(std::fs::read_dir(&locks).unwrap().count(), 0);
    let other = ["--new-password-command", "echo other", "-o", "json"];
    let added = away.ok(&[&["key", "add"], &other[..]].concat());
    let added: Value = serde_json::from_str(&added).unwrap();
    let key = added["added"].as_str().unwrap();
    let refused = away.run(&["key", "remove", key]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.err.contains("append-only"), "{refused}");
    assert!(refused.err.contains("hint: only who runs the server"), "{refused}");
    server.restart(RestOptions::default());
    away.ok(&["key", "remove", key]);
}

#[test]
fn requests_to_a_rest_server_are_counted_and_few() {
    let (_server, away, proxy) = proxied();
    for arguments in [&["protect", "src"][..], &["protect", "src"], &["check", "--read-data"]] {
        proxy.forget();
        let doc = away.json(arguments);
        let seen = proxy.seen();
        let doc = doc.get("outcome").unwrap_or(&doc);
        let requests = doc["traffic"]["requests"].as_object().unwrap();
        let counted: u64 = requests.values().map(|count| count.as_u64().unwrap()).sum();
        let all: Vec<_> = seen.iter().map(|seen| (&seen.method, &seen.target)).collect();
        assert_eq!(counted, seen.len() as u64, "{arguments:?}: {requests:?} {all:#?}");
        let of = |kind: &str| requests.get(kind).and_then(Value::as_u64).unwrap_or(0);
        let by = |method: &str| seen.iter().filter(|seen| seen.method == method).count() as u64;
        assert_eq!((of("put"), of("head"), of("delete")), (by("POST"), by("HEAD"), by("DELETE")));
        assert_eq!(of("list") + of("get"), by("GET"), "{requests:?}");
        assert!(of("list") <= 5 || arguments[0] == "check", "{requests:?}");
        let sent: u64 = seen.iter().map(|request| request.len).sum();
        assert_eq!(doc["traffic"]["sent"].as_u64(), Some(sent), "{arguments:?}");
        let version = "application/vnd.x.restic.rest.v2";
        assert!(seen.iter().all(|seen| seen.head.contains(version)), "{all:#?}");
    }
}

/// Every request of a kind fails once, then passes.
fn survives(fault: &Fault, is_meant: fn(&Seen) -> bool) {
    let (_server, away, proxy) = proxied();
    let count = Arc::new(AtomicU64::new(0));
    let (mut known, counted, own) =
        (std::collections::BTreeSet::new(), Arc::clone(&count), fault.clone());
    proxy.decide(move |seen| {
        if is_meant(seen) && known.insert((seen.method.clone(), seen.target.clone())) {
            counted.fetch_add(1, Ordering::Relaxed);
            own.clone()
        } else {
            Fault::None
        }
    });
    let outcome = away.json(&["protect", "src", "--pack-size", "4"]);
    assert_eq!(outcome["status"], "done", "{fault:?}");
    away.comes_back("out");
    away.ok(&["check", "--read-data", "--no-cache"]);
    assert!(count.load(Ordering::Relaxed) > 3, "{fault:?}: nothing failed");
}

#[test]
fn a_rest_server_that_is_busy_is_asked_again() {
    survives(&Fault::Answer(503, "busy".into()), |_| true);
}

#[test]
fn what_breaks_off_on_its_way_to_a_rest_server_or_back_goes_again() {
    survives(&Fault::CutRequest(1000), |seen| seen.method == "POST");
    survives(&Fault::CutAnswer(50), |seen| seen.method == "GET");
}

#[test]
fn an_answer_of_a_rest_server_that_is_lost_after_the_deed_changes_nothing() {
    survives(&Fault::LoseAnswer, |seen| matches!(&*seen.method, "POST" | "DELETE"));
}

#[test]
fn an_answer_that_is_lost_while_a_repository_is_made_changes_nothing() {
    let server = RestServer::start(RestOptions::default());
    let proxy = Proxy::before(server.address());
    let mut known = std::collections::BTreeSet::new();
    proxy.decide(move |seen| {
        let is_first = seen.method == "POST" && known.insert(seen.target.clone());
        if is_first { Fault::LoseAnswer } else { Fault::None }
    });
    let away = Away::at(format!("rest:http://{}/one", proxy.address()));
    away.ok(&["init"]);
    away.ok(&["protect", "src", "-q"]);
    away.comes_back("out");
}

#[test]
fn bytes_of_a_rest_server_that_are_wrong_on_the_way_are_read_again() {
    survives(&Fault::FlipAnswer, |seen| seen.method == "GET" && !seen.target.ends_with('/'));
}

#[test]
fn a_rest_server_that_goes_away_ends_the_run_with_14_and_the_next_one_goes_on() {
    let (_server, away, proxy) = proxied();
    for fault in [Fault::Hang(Duration::from_secs(20)), Fault::Answer(503, String::new())] {
        let mut packs = 0;
        proxy.decide(move |seen| {
            packs += u32::from(seen.method == "POST" && seen.target.contains("/data/"));
            if packs > 1 { fault.clone() } else { Fault::None }
        });
        let run = away.run(&["protect", "src", "--pack-size", "4", "--retry-store", "2s"]);
        assert_eq!(run.code, Some(14), "{run}");
        assert!(run.err.contains("error: ") && run.err.contains("hint: "), "{run}");
        proxy.decide(|_| Fault::None);
    }
    away.ok(&["protect", "src", "-q"]);
    away.comes_back("out");
    away.ok(&["check", "--read-data"]);
}

#[test]
fn a_server_without_room_is_not_asked_again() {
    let (_server, away, proxy) = proxied();
    proxy.decide(|seen| {
        let is_pack = seen.method == "POST" && seen.target.contains("/data/");
        if is_pack { Fault::Answer(507, String::new()) } else { Fault::None }
    });
    let run = away.run(&["protect", "src"]);
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.err.contains("hint: make room on the server"), "{run}");
}

#[test]
fn a_large_pack_goes_to_a_rest_server_in_one_request() {
    let (_server, away, proxy) = proxied();
    let away = away.with_noise(70);
    away.ok(&["protect", "src", "-q", "--pack-size", "128"]);
    let seen = proxy.seen();
    assert!(seen.iter().any(|seen| seen.method == "POST" && seen.len > 64 << 20), "no large pack");
    away.comes_back("out");
    away.restic(&["check", "--read-data"]);
}

#[test]
fn a_rest_server_that_is_not_there_is_14() {
    let away = Away::at(format!("rest:http://{}/", free()));
    for verb in [&["init"][..], &["snapshots"], &["protect", "src"]] {
        let run = away.run(&[verb, &["--retry-store", "1s"]].concat());
        assert_eq!(run.code, Some(14), "{run}");
        assert!(run.err.contains("error: ") && run.err.contains("hint: "), "{run}");
    }
}
