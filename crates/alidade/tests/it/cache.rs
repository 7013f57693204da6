//! What is kept of the index: it saves reading, and can be lost, damaged, or out of reach.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{World, same_tree};

/// Index files that say nothing any more, under names that are still there: who reads one fails.
struct Unreadable(Vec<(PathBuf, Vec<u8>)>);

impl Unreadable {
    fn make(world: &World) -> Self {
        let files = world.files("index").into_iter().map(|path| {
            let before = fs::read(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&path, vec![0; before.len()]).unwrap();
            (path, before)
        });
        Self(files.collect())
    }

    fn undo(self) {
        for (path, before) in self.0 {
            fs::write(path, before).unwrap();
        }
    }
}

fn cache(world: &World) -> PathBuf {
    world.path("home/.cache/alidade")
}

/// The files in which the index is kept.
fn kept(world: &World) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in fs::read_dir(cache(world)).unwrap().map(|entry| entry.unwrap().path()) {
        if folder.is_dir() {
            files.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    files
}

#[test]
fn after_the_first_backup_no_index_file_is_read_but_by_check() {
    let world = World::protected();
    let unreadable = Unreadable::make(&world);
    assert_eq!(unreadable.0.len(), 1);
    let listed = world.ok(&["ls", "src"]);
    assert!(listed.contains("data.bin"), "{listed}");
    world.ok(&["restore", "src", "--target", "out"]);
    let root = world.path("src");
    assert!(same_tree(&root, &world.path("out").join(root.strip_prefix("/").unwrap())));
    world.write("src/new.txt", b"new\n");
    world.ok(&["protect", "src", "-q"]);
    world.ok(&["show", "src"]);
    let files = world.snapshot_files();
    world.ok(&["diff", &files[0], &files[1]]);
    for reads_them in [&["check"][..], &["ls", "src", "--no-cache"]] {
        let run = world.run(reads_them);
        assert_eq!(run.code, Some(20), "{run}");
    }
    unreadable.undo();
    let before = world.files("index").len();
    world.ok(&["check", "--read-data"]);
    // Its proof is stored with an index file of its own, and that one is kept, too.
    assert_eq!(world.files("index").len(), before + 1);
    let unreadable = Unreadable::make(&world);
    world.ok(&["ls", "src"]);
    unreadable.undo();
}

#[test]
fn a_cache_that_is_lost_or_damaged_is_made_again_and_changes_nothing() {
    let world = World::protected();
    let listed = world.ok(&["ls", "src"]);
    let damages: [fn(&World); 4] = [
        |world| fs::remove_dir_all(cache(world)).unwrap(),
        |world| kept(world).iter().for_each(|path| fs::write(path, b"damaged").unwrap()),
        |world| {
            for path in kept(world) {
                let mut bytes = fs::read(&path).unwrap();
                bytes[100] ^= 1;
                fs::write(path, bytes).unwrap();
            }
        },
        |world| {
            for path in kept(world) {
                let folder = path.parent().unwrap().to_owned();
                fs::remove_dir_all(&folder).unwrap();
                fs::write(folder, b"a file").unwrap();
            }
        },
    ];
    for (at, damage) in damages.into_iter().enumerate() {
        damage(&world);
        assert_eq!(world.ok(&["ls", "src"]), listed, "{at}");
        if at < 3 {
            let unreadable = Unreadable::make(&world);
            assert_eq!(world.ok(&["ls", "src"]), listed, "{at}");
            unreadable.undo();
        }
    }
    world.ok(&["protect", "src", "-q"]);
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_cache_that_can_only_be_read_is_read_and_never_in_the_way() {
    let world = World::protected();
    let listed = world.ok(&["ls", "src"]);
    let chmod = |mode: &str, path: &Path| {
        assert!(Command::new("chmod").args(["-R", mode]).arg(path).status().unwrap().success());
    };
    chmod("a+rX", &world.path("home"));
    chmod("a-w", &cache(&world));
    let unreadable = Unreadable::make(&world);
    let run = world.run_unprivileged(&["ls", "src", "--no-lock"]);
    assert!(run.code == Some(0) && run.out == listed, "{run}");
    unreadable.undo();
    world.write("src/new.txt", b"new\n");
    world.ok(&["protect", "src", "-q", "--no-cache"]);
    chmod("a+rX", &world.repository());
    let before = kept(&world);
    let run = world.run_unprivileged(&["ls", "src", "--no-lock"]);
    assert!(run.code == Some(0) && run.out.contains("new.txt"), "{run}");
    assert_eq!(kept(&world), before);
    chmod("u+w", &cache(&world));
}

#[test]
fn runs_at_the_same_time_share_a_cache() {
    let world = World::protected();
    fs::remove_dir_all(cache(&world)).unwrap();
    for round in 0..4_u8 {
        world.write("src/new.txt", &[round; 3000]);
        let lines: [&[&str]; 5] = [
            &["protect", "src", "-q"],
            &["ls", "src", "-q"],
            &["protect", "src/sub", "-q"],
            &["find", "a.txt", "--in", "latest", "-q"],
            &["ls", "src", "-q"],
        ];
        let running: Vec<_> = lines.iter().map(|line| world.spawn(line)).collect();
        for child in running {
            let run = World::of(child.wait_with_output().unwrap());
            assert_eq!(run.code, Some(0), "{run}");
        }
    }
    world.ok(&["ls", "src"]);
    let unreadable = Unreadable::make(&world);
    world.ok(&["ls", "src"]);
    unreadable.undo();
    assert!(kept(&world).iter().all(|path| path.extension().is_none()), "{:?}", kept(&world));
    world.ok(&["check", "--read-data"]);
}
