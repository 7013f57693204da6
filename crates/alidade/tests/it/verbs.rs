//! Every verb, with the whole of what it prints.

use std::os::unix::fs::PermissionsExt;

use crate::world::{World, same_tree};

#[test]
fn the_first_backup_makes_repository_and_key_and_says_where() {
    let world = World::new();
    world.check("first_protect", &world.run(&["protect", "src"]));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&world.key()), 0o600);
    assert_eq!(mode(world.key().parent().unwrap()), 0o700);
    assert_eq!(std::fs::read(world.key()).unwrap().len(), 65);
}

#[test]
fn the_second_backup_is_incremental_and_says_since_when() {
    let world = World::protected();
    world.write("src/new.txt", b"new\n");
    world.check("second_protect", &world.run(&["protect", "src"]));
}

#[test]
fn a_plan_changes_nothing_not_even_where_there_is_no_repository_yet() {
    let world = World::new();
    world.check("protect_plan_without_repository", &world.run(&["protect", "src", "--plan"]));
    assert!(!world.repository().exists() && !world.key().exists());
    world.ok(&["protect", "src", "-q"]);
    let before = world.files("");
    world.write("src/new.txt", b"new\n");
    let run = world.run(&["protect", "src", "--plan", "--exclude", "*.bin"]);
    world.check("protect_plan", &run);
    assert_eq!(world.files(""), before);
}

#[test]
fn what_is_our_own_is_left_out_by_a_rule_that_the_plan_names() {
    let world = World::new();
    let run = world.run(&["protect", "home"]);
    world.check("protect_own", &run);
    let listed = world.ok(&["ls", "latest"]);
    assert!(!listed.contains("repository") && !listed.contains("alidade/key"), "{listed}");
    assert!(!listed.contains("catalog.sqlite"), "{listed}");
}

#[test]
fn what_is_stored_is_listed() {
    let world = World::protected();
    world.check("list", &world.run(&["list"]));
    world.check("snapshots", &world.run(&["snapshots"]));
    world.check("show", &world.run(&["show", "src"]));
    world.check("types", &world.run(&["types"]));
    world.check("runs", &world.run(&["runs"]));
}

#[test]
fn entries_are_listed_found_and_printed() {
    let world = World::protected();
    let below = format!("latest:{}", world.path("src").display());
    world.check("ls", &world.run(&["ls", &below]));
    world.check("ls_long", &world.run(&["ls", "--long", "src/a.txt"]));
    world.check("find", &world.run(&["find", "*.txt", "--in", "latest"]));
    world.check("find_nothing", &world.run(&["find", "no such name"]));
    assert_eq!(world.ok(&["cat", "src/a.txt"]), "hello\n");
}

#[test]
fn two_snapshots_are_compared() {
    let world = World::protected();
    world.write("src/a.txt", b"hello again\n");
    world.write("src/new.txt", b"new\n");
    std::fs::remove_file(world.path("src/link")).unwrap();
    world.ok(&["protect", "src", "-q"]);
    let files = world.snapshot_files();
    world.check("diff", &world.run(&["diff", &files[0], &files[1]]));
}

#[test]
fn a_restored_tree_is_the_tree_that_was_protected() {
    let world = World::protected();
    world.check("restore_plan", &world.run(&["restore", "src", "--target", "out", "--plan"]));
    assert!(!world.path("out").exists());
    world.check("restore", &world.run(&["restore", "src", "--target", "out", "--read-back"]));
    let root = world.path("src");
    let restored = world.path("out").join(root.strip_prefix("/").unwrap());
    assert!(same_tree(&root, &restored));
}

#[test]
fn a_subtree_comes_out_of_the_stored_directory_that_holds_it() {
    let world = World::protected();
    std::fs::remove_dir_all(world.path("src/sub")).unwrap();
    world.check("restore_subtree", &world.run(&["restore", "src/sub", "--target", "out"]));
    let root = world.path("src");
    let restored = world.path("out").join(root.strip_prefix("/").unwrap());
    assert!(restored.join("sub/data.bin").is_file());
    assert!(!restored.join("a.txt").exists());
}

#[test]
fn the_command_that_protect_prints_restores_when_pasted() {
    let world = World::new();
    std::fs::rename(world.path("src"), world.path("it's a $(tree)\n")).unwrap();
    let outcome = world.json(&["protect", "it's a $(tree)\n"]);
    let pasted = world.paste(outcome["restore"].as_str().unwrap());
    assert_eq!(pasted.code, Some(0), "{pasted}");
    let short = &outcome["snapshot"].as_str().unwrap()[..8];
    let root = world.path("it's a $(tree)\n");
    let restored = world.path(&format!("restored-{short}")).join(root.strip_prefix("/").unwrap());
    assert!(same_tree(&root, &restored));
}

#[test]
fn a_sound_repository_passes_both_checks() {
    let world = World::protected();
    world.check("check", &world.run(&["check"]));
    world.check("check_read_data", &world.run(&["check", "--read-data"]));
}

#[test]
fn passwords_are_added_listed_and_removed() {
    let world = World::protected();
    world.check("key_list", &world.run(&["key", "list"]));
    world.write("new", b"second password\n");
    world.check("key_add", &world.run(&["key", "add", "--new-password-file", "new"]));
    let by_new = world.json(&["key", "list", "--password-file", "new"]);
    let keys = by_new["keys"].as_array().unwrap();
    let old = keys.iter().find(|key| key["current"] == false).unwrap();
    let old = old["id"].as_str().unwrap();
    let remove = ["key", "remove", &old[..10], "--password-file", "new"];
    world.check("key_remove", &world.run(&remove));
    assert_eq!(world.run(&["snapshots"]).code, Some(12), "the old key opens nothing now");
    let last = world.run(&[
        "key",
        "remove",
        &keys[0]["id"].as_str().unwrap()[..10],
        "--password-file",
        "new",
    ]);
    assert_ne!(last.code, Some(0), "the last key stays: {last}");
}

#[test]
fn a_deleted_catalog_comes_back_from_the_repository() {
    let world = World::protected();
    world.ok(&["restore", "src", "--target", "out", "-q"]);
    let runs = world.json(&["runs"])["runs"].as_array().unwrap().len();
    for end in ["", "-wal", "-shm"] {
        let path = world.path(&format!("home/.local/share/alidade/catalog.sqlite{end}"));
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }
    world.check("catalog_rebuild", &world.run(&["catalog", "rebuild"]));
    assert_eq!(world.json(&["runs"])["runs"].as_array().unwrap().len(), runs);
}

#[test]
fn there_is_nothing_to_unlock_in_a_repository_nobody_uses() {
    let world = World::protected();
    world.check("unlock", &world.run(&["unlock"]));
}

#[test]
fn version_and_completions_need_no_repository() {
    let world = World::new();
    world.check("version", &world.run(&["version"]));
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.ok(&["completions", shell]).contains("catalog"), "{shell}");
    }
    assert!(!world.path("home/.local").exists(), "nothing was made");
}

#[test]
fn a_password_of_ones_own_makes_and_opens_a_repository_elsewhere() {
    let world = World::new();
    world.write("pw", b"my own\n");
    let with = ["-r", "elsewhere", "--password-file", "pw"];
    let run = |verb: &[&str]| world.run(&[verb, &with].concat());
    world.check("init_plan", &run(&["init", "--plan"]));
    assert!(!world.path("elsewhere").exists());
    world.check("init", &run(&["init"]));
    assert_eq!(run(&["protect", "src"]).code, Some(0));
    assert!(!world.key().exists(), "no key is generated");
    let out = world
        .command(&["snapshots", "--restic-env", "-q"])
        .env("RESTIC_REPOSITORY", world.path("elsewhere"))
        .env("RESTIC_PASSWORD_COMMAND", "cat pw")
        .output()
        .unwrap();
    assert_eq!(World::of(out).code, Some(0));
}

#[test]
fn a_reader_that_goes_away_ends_the_list_quietly() {
    let world = World::protected();
    for n in 0..5000 {
        std::fs::write(world.path(&format!("src/sub/{n:0100}")), b"").unwrap();
    }
    world.ok(&["protect", "src", "-q"]);
    let bin = env!("CARGO_BIN_EXE_alidade");
    let run = world.paste(&format!("set -o pipefail; {bin} ls latest | head -1"));
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!((run.out.as_str(), run.err.as_str()), ("/tmp\n", ""));
}
