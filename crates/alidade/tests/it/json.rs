//! With `-o json`, every verb prints one document, and it is what its schema says.

use serde_json::Value;

use crate::schema;
use crate::world::World;

#[test]
fn every_verb_prints_the_document_of_its_schema() {
    let world = World::new();
    let check = |name: &str, arguments: &[&str]| schema::check(name, &world.json(arguments));
    check("version", &["version"]);
    check("types", &["types"]);
    check("protect-plan", &["protect", "src", "--plan"]);
    check("init", &["init", "--plan"]);
    check("init", &["init"]);
    check("outcome", &["protect", "src", "--exclude", "*.bin", "--tag", "one"]);
    world.write("src/a.txt", b"more\n");
    check("outcome", &["protect", "src"]);
    check("protect-plan", &["protect", "src", "--plan"]);
    check("list", &["list"]);
    check("snapshots", &["snapshots", "--evidence"]);
    check("ls", &["ls", "latest"]);
    check("find", &["find", "*.txt"]);
    let files = world.snapshot_files();
    check("diff", &["diff", &files[0], &files[1]]);
    check("restore-plan", &["restore", "src", "--target", "out", "--plan"]);
    check("outcome", &["restore", "src", "--target", "out"]);
    check("check", &["check"]);
    check("check", &["check", "--read-data"]);
    check("show", &["show", "src"]);
    for what in ["index", "packs", "snapshots"] {
        check(&format!("repair-{what}"), &["repair", what, "--plan"]);
        check(&format!("repair-{what}"), &["repair", what]);
    }
    check("runs", &["runs"]);
    let runs = world.json(&["runs"]);
    check("run", &["runs", runs["runs"][0]["run"].as_str().unwrap()]);
    check("keys", &["key", "list"]);
    world.write("new", b"second\n");
    check("key-change", &["key", "add", "--new-password-file", "new", "--plan"]);
    check("key-change", &["key", "add", "--new-password-file", "new"]);
    check("unlock", &["unlock"]);
    check("catalog-rebuild", &["catalog", "rebuild"]);
}

#[test]
fn an_error_is_a_document_too() {
    let world = World::protected();
    for (arguments, code) in [
        (&["show", "nowhere"][..], 13),
        (&["protect", "nowhere"], 13),
        (&["protect", "src", "--no-lock"], 2),
        (&["snapshots", "-r", "elsewhere"], 10),
        (&["no-such-verb"], 2),
        (&["cat", "src/a.txt"], 2),
    ] {
        let document = world.json(arguments);
        schema::check("error", &document);
        assert_eq!(document["error"]["code"], code, "{arguments:?}");
    }
}

#[test]
fn a_list_that_breaks_off_says_so_and_is_still_one_document() {
    let world = World::protected();
    let document = world.json(&["ls", "latest:/nowhere"]);
    schema::check("ls", &document);
    assert_eq!(document["error"]["code"], 13);
    assert_eq!(document.get("total"), None);
}

#[test]
fn the_outcome_says_what_was_counted() {
    let world = World::new();
    let outcome = world.json(&["protect", "src"]);
    let root_and_sub = 2;
    assert_eq!(outcome["counts"]["files"], 2);
    assert_eq!(outcome["counts"]["directories"], root_and_sub);
    assert_eq!(outcome["counts"]["symlinks"], 1);
    assert_eq!(outcome["bytes"]["total"], 200_006);
    assert_eq!(outcome["bytes"]["read"], 200_006);
    assert_eq!(outcome["exit_code"], 0);
    assert_eq!(outcome["omissions"]["total"], 0);
    assert_eq!(outcome["digest"].as_str().unwrap().len(), 64);
    let again = world.json(&["protect", "src"]);
    assert_eq!(again["counts"]["unchanged"], 2);
    assert_eq!(again["bytes"]["read"], 0);
    assert_eq!(again["digest"], outcome["digest"], "nothing changed");
    assert_eq!(again["parent"], outcome["snapshot"]);
}

#[test]
fn progress_is_one_document_per_line_on_standard_error() {
    let world = World::new();
    let bytes = vec![7; 1 << 20];
    for n in 0..40_u8 {
        world.write(&format!("src/{n}"), &[&bytes[..], &[n]].concat());
    }
    let run = world.run(&["protect", "src", "-o", "json"]);
    assert_eq!(run.code, Some(0), "{run}");
    let lines: Vec<Value> =
        run.err.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(!lines.is_empty());
    lines.iter().for_each(|line| schema::check("progress", line));
    assert!(lines.iter().any(|line| line.get("note").is_some()), "{}", run.err);
}
