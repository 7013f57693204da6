//! Snapshots into another repository, through the binary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use alidade_testkit::tree::Listing;
use serde_json::Value;

use crate::world::{Run, World};

const PASSWORD: &str = "other secret";

/// A second repository with a password of its own.
struct Other {
    world: World,
}

impl Other {
    fn beside(world: World) -> Self {
        let other = Self { world };
        let made = other.run_in(&["init"]);
        assert_eq!(made.code, Some(0), "{made}");
        other
    }

    fn path(&self) -> String {
        self.world.path("other").display().to_string()
    }

    /// A verb on the second repository.
    fn run_in(&self, arguments: &[&str]) -> Run {
        let mut command = self.world.command(&[arguments, &["-r", &self.path()]].concat());
        World::of(command.env("ALIDADE_PASSWORD", PASSWORD).output().unwrap())
    }

    fn copying(&self, arguments: &[&str]) -> Command {
        let path = self.path();
        let words = [&["copy", "--to", &path][..], arguments].concat();
        let mut command = self.world.command(&words);
        command.env("ALIDADE_TO_PASSWORD", PASSWORD);
        command
    }

    fn copy(&self, arguments: &[&str]) -> Run {
        World::of(self.copying(arguments).output().unwrap())
    }

    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let run = self.copy(&[arguments, &["-o", "json"]].concat());
        assert_eq!(run.code, Some(code), "{run}");
        let doc = serde_json::from_str(&run.out).unwrap();
        crate::schema::check("copy", &doc);
        doc
    }

    fn restic(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(alidade_testkit::peer("restic"));
        command.args(["--no-cache", "-r", &self.path()]).args(arguments);
        command.env_clear().env("RESTIC_PASSWORD", PASSWORD).env("HOME", self.world.path("home"));
        let run = World::of(command.output().unwrap());
        assert_eq!(run.code, Some(0), "restic {arguments:?}: {run}");
        run.out
    }

    fn comes_back(&self, snapshot: &str, target: &str) {
        let restored = self.run_in(&["restore", snapshot, "--target", target, "-q"]);
        assert_eq!(restored.code, Some(0), "{restored}");
        let source = self.world.path("src");
        let back = self.world.path(target).join(source.strip_prefix("/").unwrap());
        Listing::of(&source).assert_equals(&Listing::of(&back), target);
    }
}

#[test]
fn a_snapshot_is_the_same_under_another_key() {
    let world = World::protected();
    world.write("src/more", b"more");
    world.ok(&["protect", "src", "-q"]);
    let stream = ["protect", "--stdin-from-command", "dump", "-q", "--", "seq", "9"];
    world.ok(&stream);
    let other = Other::beside(world);
    let plan = other.json(&["--plan"], 0);
    assert_eq!((&plan["missing"], &plan["copied"]), (&3.into(), &0.into()));
    let first = other.json(&[], 0);
    assert_eq!((&first["copied"], &first["present"]), (&3.into(), &0.into()), "{first}");
    other.comes_back("src", "out");
    let list = |run: Run| -> Vec<String> {
        let doc: Value = serde_json::from_str(&run.out).unwrap();
        let rows = doc["snapshots"].as_array().unwrap();
        rows.iter().map(|row| format!("{} {}", row["entity"], row["id"])).collect()
    };
    let theirs = list(other.run_in(&["snapshots", "--json"]));
    assert_eq!(theirs, list(other.world.run(&["snapshots", "--json"])), "ids survive");
    let again = other.json(&[], 0);
    assert_eq!((&again["copied"], &again["present"]), (&0.into(), &3.into()), "{again}");
    let checked = other.run_in(&["check", "--read-data"]);
    assert_eq!(checked.code, Some(0), "{checked}");
    other.restic(&["check", "--read-data"]);
    let source = other.world.path("src");
    let back = other.world.path("by-restic");
    let path = source.to_str().unwrap();
    other.restic(&["restore", "latest", "--path", path, "--target", back.to_str().unwrap()]);
    let back = back.join(path.trim_start_matches('/'));
    assert_eq!(
        fs::read(back.join("sub/data.bin")).unwrap(),
        fs::read(source.join("sub/data.bin")).unwrap()
    );
}

#[test]
fn what_is_copied_is_only_what_is_missing() {
    let world = World::protected();
    let other = Other::beside(world);
    other.json(&["src"], 0);
    other.world.write("src/more", b"more");
    other.world.ok(&["protect", "src", "-q"]);
    let second = other.json(&["src"], 0);
    let item = &second["snapshots"][0];
    assert_eq!(item["status"], "copied", "{second}");
    assert!(item["bytes"].as_u64().unwrap() < 10_000, "only what changed: {second}");
    // A repository that copies back knows them as its own.
    let back = other
        .world
        .command(&["-r", &other.path(), "copy", "--to", other.world.repository().to_str().unwrap()])
        .env("ALIDADE_PASSWORD", PASSWORD)
        .env("ALIDADE_TO_PASSWORD_FILE", other.world.key())
        .output()
        .unwrap();
    let back = World::of(back);
    assert_eq!(back.code, Some(0), "{back}");
    assert!(back.out.contains("there before  2 snapshots"), "{back}");
}

#[test]
fn a_copy_that_was_killed_is_taken_up() {
    let world = World::new();
    let noise: Vec<u8> = {
        use std::io::Read;
        let mut bytes = vec![0; 48 << 20];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        bytes
    };
    world.write("src/noise", &noise);
    world.ok(&["protect", "src", "-q"]);
    let other = Other::beside(world);
    for after in [1, 3, 6] {
        let mut run = other.copying(&["--pack-size", "4", "-q"]).spawn().unwrap();
        while run.try_wait().unwrap().is_none() {
            if packs(&other) >= after {
                run.kill().unwrap();
            }
            std::thread::yield_now();
        }
        run.wait().unwrap();
    }
    let last = other.json(&["--pack-size", "4"], 0);
    assert_eq!(last["failed"], 0, "{last}");
    other.comes_back("src", "out");
    let checked = other.run_in(&["check", "--read-data"]);
    assert_eq!(checked.code, Some(0), "{checked}");
}

fn packs(other: &Other) -> usize {
    let data = other.world.path("other/data");
    let Ok(directories) = fs::read_dir(data) else { return 0 };
    directories
        .map(|directory| fs::read_dir(directory.unwrap().path()).map_or(0, Iterator::count))
        .sum()
}

#[test]
fn a_damaged_snapshot_is_named_and_the_others_are_copied() {
    let world = World::new();
    world.ok(&["protect", "src", "-q"]);
    let good = world.files("data");
    world.write("src/bad", &vec![7; 3000]);
    world.ok(&["protect", "src", "-q"]);
    for pack in world.files("data").iter().filter(|pack| !good.contains(pack)) {
        fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(pack).unwrap();
        bytes[20] ^= 1;
        fs::write(pack, bytes).unwrap();
    }
    let other = Other::beside(world);
    let doc = other.json(&[], 20);
    assert_eq!((&doc["copied"], &doc["failed"]), (&1.into(), &1.into()), "{doc}");
    assert!(
        doc["snapshots"][1]["error"].as_str().is_some_and(|why| why.contains("damaged")),
        "{doc}"
    );
    let checked = other.run_in(&["check", "--read-data"]);
    assert_eq!(checked.code, Some(0), "{checked}");
}

#[test]
fn what_cannot_be_copied_is_refused() {
    let world = World::protected();
    let own = world.repository().display().to_string();
    let other = Other::beside(world);
    let nowhere = other.world.run(&["copy"]);
    assert_eq!(nowhere.code, Some(2), "{nowhere}");
    let itself = other.world.run(&["copy", "--to", &own]);
    assert_eq!(itself.code, Some(21), "{itself}");
    let wrong = other
        .world
        .command(&["copy", "--to", &other.path()])
        .env("ALIDADE_TO_PASSWORD", "not it")
        .output()
        .unwrap();
    let wrong = World::of(wrong);
    assert_eq!(wrong.code, Some(12), "{wrong}");
    assert!(wrong.err.contains("--to-password-file"), "{wrong}");
    let absent = other
        .world
        .command(&["copy", "--to", "absent"])
        .env("ALIDADE_TO_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    let absent = World::of(absent);
    assert_eq!(absent.code, Some(10), "{absent}");
    let part = other.copy(&["src/sub"]);
    assert_eq!(part.code, Some(2), "{part}");
    let unlocked = other.copy(&["--no-lock"]);
    assert_eq!(unlocked.code, Some(2), "{unlocked}");
}
