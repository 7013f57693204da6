//! Options that say what of an entity is meant, and when a snapshot is worth having.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::world::{Run, World};

/// Every path of the newest snapshot, below the directory of this test.
fn stored(world: &World) -> Vec<String> {
    let root = format!("{}/", world.path("").display().to_string().trim_end_matches('/'));
    let listed = world.ok(&["ls", "latest"]);
    let mut paths: Vec<String> = listed
        .lines()
        .filter_map(|line| line.strip_prefix(&root))
        .map(|path| path.trim_end_matches('/').to_owned())
        .collect();
    paths.sort();
    paths
}

#[test]
fn a_directory_with_the_marker_is_stored_with_the_marker_alone() {
    let world = World::new();
    for directory in ["src/cache", "src/other"] {
        fs::create_dir(world.path(directory)).unwrap();
        world.write(&format!("{directory}/file"), b"file");
    }
    world.write("src/cache/.nobackup", b"Signature: 1\nmore");
    world.write("src/other/.nobackup", b"something else");
    let everything = "src src/a.txt src/cache src/cache/.nobackup src/cache/file src/link \
                      src/other src/other/.nobackup src/other/file src/sub src/sub/data.bin";
    let without = |left_out: &[&str]| -> Vec<String> {
        let all = everything.split_whitespace().filter(|path| !left_out.contains(path));
        all.map(str::to_owned).collect()
    };
    for (marker, left_out) in [
        (".nobackup", &["src/cache/file", "src/other/file"][..]),
        (".nobackup:Signature: 1", &["src/cache/file"]),
        (".absent", &[]),
    ] {
        let outcome = world.json(&["protect", "src", "--exclude-if-present", marker]);
        assert_eq!(stored(&world), without(left_out), "{marker}");
        assert_eq!(outcome["status"], "done");
        let excluded = outcome["excluded"].as_object().unwrap();
        let counted: u64 = excluded.values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(counted, left_out.len() as u64, "{marker}: {excluded:?}");
    }
}

/// Unmounts at the end, also of a test that fails.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status().unwrap();
        assert!(done.success() || std::thread::panicking());
    }
}

#[test]
fn one_file_system_means_the_mount_point_and_nothing_below_it() {
    assert!(rustix::process::getuid().is_root(), "this test mounts: run it as root");
    let world = World::new();
    let point = world.path("src/mounted");
    fs::create_dir(&point).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&point).status().unwrap();
    assert!(mount.success());
    let _mounted = Mounted(point);
    world.write("src/mounted/inside", b"inside");
    let alone = ["src", "src/a.txt", "src/link", "src/mounted", "src/sub", "src/sub/data.bin"];
    for option in ["-x", "--one-file-system"] {
        let outcome = world.json(&["protect", "src", option]);
        assert_eq!(stored(&world), alone, "{option}");
        assert_eq!(outcome["status"], "done");
        let excluded = outcome["excluded"].as_object().unwrap();
        let rules: Vec<_> =
            excluded.keys().filter(|rule| rule.contains("one-file-system")).collect();
        assert_eq!(rules.len(), 1, "{excluded:?}");
    }
    world.ok(&["protect", "src", "-q"]);
    assert!(stored(&world).contains(&"src/mounted/inside".to_owned()));
    // Named itself, the mounted file system is the one that is stayed on.
    world.ok(&["protect", "src/mounted", "-x", "-q"]);
    assert_eq!(stored(&world), ["src", "src/mounted", "src/mounted/inside"]);
}

#[test]
fn listed_paths_are_taken_with_what_is_below_them_and_nothing_else() {
    let world = World::new();
    world.write("src/b\nc", b"a name of two lines");
    let inside = |name: &str| world.path(name).display().to_string();
    let list = format!("{}\0{}\0", inside("src/sub"), inside("src/b\nc"));
    fs::write(world.path("list"), &list).unwrap();
    world.ok(&["protect", "src", "--files-from0", "list", "-q"]);
    let outcome = world.json(&["show", "latest"]);
    assert!(outcome.is_object());
    world.ok(&["restore", "src", "--target", "out", "-q"]);
    let restored = world.path("out").join(world.path("src").strip_prefix("/").unwrap());
    let mut names: Vec<_> =
        fs::read_dir(&restored).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["b\nc", "sub"]);
    assert!(restored.join("sub/data.bin").is_file());

    let piped = format!(
        "printf '{}\\0' | {} protect src --files-from0 - -q",
        "src/a.txt",
        env!("CARGO_BIN_EXE_alidade")
    );
    let run = world.paste(&piped);
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(stored(&world), ["src", "src/a.txt"]);
}

#[test]
fn a_list_that_cannot_be_meant_is_refused_before_anything_is_made() {
    let world = World::new();
    fs::write(world.path("list"), "/etc/passwd\0").unwrap();
    world.check("list_outside", &world.run(&["protect", "src", "--files-from0", "list"]));
    world.check("list_absent", &world.run(&["protect", "src", "--files-from0", "nothing"]));
    fs::write(world.path("list"), "").unwrap();
    world.check("list_empty", &world.run(&["protect", "src", "--files-from0", "list"]));
    assert!(!world.repository().exists());
}

/// Runs until one of them makes no snapshot: the directories above the entity are stored too, and
/// any program may touch `/tmp` between two runs.
fn skipped(world: &World, arguments: &[&str]) -> Run {
    for _ in 0..100 {
        let before = world.snapshot_files().len();
        let run = world.run(&[&["protect", "src", "--skip-if-unchanged"], arguments].concat());
        assert_eq!(run.code, Some(0), "{run}");
        if world.snapshot_files().len() == before {
            return run;
        }
    }
    panic!("every run made a snapshot");
}

#[test]
fn nothing_new_makes_no_snapshot_where_that_is_asked_for() {
    let world = World::protected();
    world.check("skip_unchanged", &skipped(&world, &[]));
    let document: serde_json::Value =
        serde_json::from_str(&skipped(&world, &["--json"]).out).unwrap();
    assert_eq!((&document["status"], &document["exit_code"]), (&"done".into(), &0.into()));

    let made = |arguments: &[&str]| {
        let before = world.snapshot_files().len();
        world.ok(&[&["protect", "src", "-q"], arguments].concat());
        world.snapshot_files().len() - before
    };
    world.write("src/a.txt", b"hello, now longer\n");
    assert_eq!(made(&["--skip-if-unchanged"]), 1, "another content is a change");
    fs::set_permissions(world.path("src/a.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(made(&["--skip-if-unchanged"]), 1, "another mode is a change");
    assert_eq!(made(&[]), 1, "without the option every run has its snapshot");
}
