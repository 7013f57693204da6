//! A set-up with something wrong, and what is said about it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::world::World;

/// The state and the hint of one look.
fn look(doc: &Value, about: &str) -> (String, String) {
    let looks = doc["looks"].as_array().unwrap();
    let look = looks
        .iter()
        .find(|look| look["about"] == about)
        .unwrap_or_else(|| panic!("{about}: {doc}"));
    let text = |field: &str| look[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("hint"))
}

fn seen(world: &World, arguments: &[&str], code: i32) -> Value {
    let run = world.run(&[&["doctor", "-o", "json"], arguments].concat());
    assert_eq!(run.code, Some(code), "{run}");
    let doc = serde_json::from_str(&run.out).unwrap();
    crate::schema::check("doctor", &doc);
    doc
}

#[test]
fn a_sound_set_up_has_no_problems() {
    let world = World::protected();
    let doc = seen(&world, &[], 0);
    assert_eq!(doc["problems"], 0, "{doc}");
    for about in ["place", "permissions", "room", "store", "key", "locks", "clock", "catalog"] {
        assert_eq!(look(&doc, about).0, "ok", "{about}: {doc}");
    }
    assert!(world.ok(&["doctor"]).contains("ok       store"));
}

#[test]
fn every_problem_has_its_code_and_the_next_command() {
    let world = World::new();
    let doc = seen(&world, &[], 10);
    assert!(look(&doc, "store").1.contains("init"), "{doc}");
    let world = World::protected();
    let key = fs::read(world.key()).unwrap();
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(look(&seen(&world, &[], 1), "key").1.contains("chmod 600"));
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(world.key()).unwrap();
    let doc = seen(&world, &[], 12);
    assert_eq!(look(&doc, "key").0, "problem", "{doc}");
    assert_eq!(look(&doc, "locks").0, "unknown", "{doc}");
    fs::write(world.key(), key).unwrap();
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o600)).unwrap();
    let wrong = world.command(&["doctor"]).env("ALIDADE_PASSWORD", "wrong").output().unwrap();
    assert_eq!(wrong.status.code(), Some(12), "{wrong:?}");
    fs::write(world.path("home/.local/share/alidade/catalog.sqlite"), b"no catalog").unwrap();
    assert!(look(&seen(&world, &[], 1), "catalog").1.contains("catalog rebuild"));
}

#[test]
fn a_store_that_does_not_answer_is_named() {
    let world = World::new();
    let place = format!("s3:http://{}/bucket", alidade_testkit::server::free());
    let mut command = world.command(&["doctor", "-r", &place, "--retry-store", "1s", "-o", "json"]);
    command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    let run = World::of(command.output().unwrap());
    assert_eq!(run.code, Some(14), "{run}");
    let doc: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(look(&doc, "store").0, "problem", "{doc}");
}
