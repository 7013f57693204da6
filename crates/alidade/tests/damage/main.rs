//! Damage of every kind to every kind of file, as a user meets it: the exit code, an `error:` and a
//! `hint:`, no panic, and everything that is whole still comes back.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod repair;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Missing,
    Empty,
    Truncated,
    Flipped,
}

const EVERY: [Damage; 4] = [Damage::Missing, Damage::Empty, Damage::Truncated, Damage::Flipped];

/// Where the embedded default lies.
const REPOSITORY: &str = "home/.local/share/alidade/repository";

/// A home with a repository that holds two entities.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        for (name, seed) in [("one", 3u32), ("two", 7)] {
            fs::create_dir(scene.path(name)).unwrap();
            let noise: Vec<u8> = (0..2_000_000u32)
                .map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8)
                .collect();
            fs::write(scene.path(name).join("noise"), noise).unwrap();
            fs::write(scene.path(name).join("text"), name).unwrap();
        }
        // The embedded default: its generated key opens at once, a typed password takes half a second.
        for name in ["one", "two"] {
            let source = scene.path(name);
            let output = scene.alidade(&["protect", source.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, repository: &str, words: &[&str]) -> Output {
        let (repository, key) = (self.path(repository), self.path("home/.config/alidade/key"));
        let mut all = vec!["-r", repository.to_str().unwrap()];
        all.extend(["--password-file", key.to_str().unwrap()]);
        all.extend(words);
        self.alidade(&all)
    }

    fn alidade(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_alidade"))
            .args(words)
            .env_clear()
            .env("HOME", self.path("home"))
            // Built to be broken on purpose, it must know how.
            .envs(std::env::var_os("ALIDADE_SABOTAGE").map(|way| ("ALIDADE_SABOTAGE", way)))
            .output()
            .unwrap()
    }

    /// A copy of the repository with the `which`-th file of that folder damaged.
    fn damaged(&self, folder: &str, which: usize, damage: Damage) -> String {
        let name = format!("copy-{}-{which}-{damage:?}", folder.replace('/', "-"));
        let copied = Command::new("cp")
            .args(["-r", "--"])
            .arg(self.path(REPOSITORY))
            .arg(self.path(&name))
            .status()
            .unwrap();
        assert!(copied.success());
        let file = &files(&self.path(&name).join(folder))[which];
        match damage {
            Damage::Missing => fs::remove_file(file).unwrap(),
            Damage::Empty | Damage::Truncated | Damage::Flipped => {
                fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
                let mut bytes = fs::read(file).unwrap();
                match damage {
                    Damage::Empty => bytes.clear(),
                    Damage::Truncated => bytes.truncate(bytes.len() / 2),
                    _ => {
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 1;
                    }
                }
                fs::write(file, bytes).unwrap();
            }
        }
        name
    }
}

/// Every file at or below a path, the largest first.
fn files(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![at.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.push(path);
        }
    }
    found.sort_by_key(|path| (std::cmp::Reverse(fs::metadata(path).unwrap().len()), path.clone()));
    found
}

fn complains(what: &str, output: &Output, codes: &[i32]) {
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(
        code.is_some_and(|code| codes.contains(&code)),
        "{what}: {code:?}, not {codes:?}: {said}"
    );
    assert!(!said.contains("panicked"), "{what}: {said}");
    assert!(said.lines().any(|line| line.starts_with("error: ")), "{what}: no error: in {said}");
    assert!(said.lines().any(|line| line.starts_with("hint: ")), "{what}: no hint: in {said}");
}

#[test]
fn a_damaged_or_missing_config_of_a_repository_that_holds_snapshots_is_damage() {
    let scene = Scene::new();
    for damage in EVERY {
        let copy = scene.damaged("config", 0, damage);
        for words in [["snapshots"].as_slice(), &["check"], &["protect", "/usr/include"]] {
            complains(&format!("{damage:?} config, {words:?}"), &scene.run(&copy, words), &[20]);
        }
    }
}

#[test]
fn a_damaged_key_is_damage_or_opens_with_no_password() {
    let scene = Scene::new();
    for damage in EVERY {
        let copy = scene.damaged("keys", 0, damage);
        complains(&format!("{damage:?} key"), &scene.run(&copy, &["snapshots"]), &[12, 20]);
    }
}

#[test]
fn a_damaged_snapshot_is_named_and_hides_no_other() {
    let scene = Scene::new();
    for damage in EVERY {
        for which in 0..2 {
            let copy = scene.damaged("snapshots", which, damage);
            let checked = scene.run(&copy, &["check"]);
            if damage == Damage::Missing {
                // A snapshot that is gone left nothing that could miss it.
                assert_eq!(checked.status.code(), Some(0), "{checked:?}");
            } else {
                complains(&format!("{damage:?} snapshot"), &checked, &[20]);
            }
            let back = [restored(&scene, &copy, "one"), restored(&scene, &copy, "two")];
            assert_eq!(
                back.iter().filter(|ok| **ok).count(),
                1,
                "{damage:?}: the other one is there"
            );
        }
    }
}

#[test]
fn a_damaged_index_or_pack_is_damage_that_check_finds() {
    let scene = Scene::new();
    for folder in ["index", "data"] {
        let count = files(&scene.path(REPOSITORY).join(folder)).len();
        for which in 0..count {
            for damage in EVERY {
                let what = format!("{damage:?} {folder} file {which}");
                let copy = scene.damaged(folder, which, damage);
                complains(&what, &scene.run(&copy, &["check", "--read-data"]), &[20]);
                let restored = [restored(&scene, &copy, "one"), restored(&scene, &copy, "two")];
                if folder == "data" {
                    assert!(restored.contains(&true), "{what}: the other entity is whole");
                }
                fs::remove_dir_all(scene.path(&copy)).unwrap();
            }
        }
    }
}

/// Restores an entity; true when it came back whole, and then it must be equal. A restore that says it
/// is done and is not is what this is about.
fn restored(scene: &Scene, repository: &str, name: &str) -> bool {
    let source = scene.path(name);
    let target = tempfile::tempdir_in(scene.dir.path()).unwrap();
    let words = ["restore", source.to_str().unwrap(), "--target", target.path().to_str().unwrap()];
    let output = scene.run(repository, &words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    // A snapshot that was repaired: not all is there, and that is no error.
    if output.status.code() == Some(3) {
        return false;
    }
    if output.status.code() != Some(0) {
        complains(&format!("restore {name} from {repository}"), &output, &[13, 20]);
        return false;
    }
    let back = target.path().join(source.strip_prefix("/").unwrap());
    for file in ["noise", "text"] {
        assert_eq!(fs::read(back.join(file)).unwrap(), fs::read(source.join(file)).unwrap());
    }
    true
}
