//! Damage of every kind, and what `repair` saves of it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Damage, EVERY, REPOSITORY, Scene, complains, files, restored};

fn json(scene: &Scene, repository: &str, words: &[&str], codes: &[i32]) -> Value {
    let output = scene.run(repository, &[words, &["-o", "json"]].concat());
    let code = output.status.code();
    assert!(code.is_some_and(|code| codes.contains(&code)), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{words:?}: {error}: {output:?}"))
}

fn is_whole(scene: &Scene, repository: &str, what: &str) {
    let checked = scene.run(repository, &["check", "--read-data"]);
    assert_eq!(checked.status.code(), Some(0), "{what}: {checked:?}");
}

/// Every file of a repository with its content.
fn state(at: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = files(at);
    all.retain(|path| !path.to_string_lossy().contains("/locks/"));
    all.sort();
    all.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn an_index_is_made_again_whatever_happened_to_it() {
    let scene = Scene::new();
    let count = files(&scene.path(REPOSITORY).join("index")).len();
    for which in 0..count {
        for damage in EVERY {
            let what = format!("{damage:?} index {which}");
            let copy = scene.damaged("index", which, damage);
            let before = state(&scene.path(&copy));
            let plan = json(&scene, &copy, &["repair", "index", "--plan"], &[0]);
            assert_eq!(state(&scene.path(&copy)), before, "{what}: a plan changes nothing");
            let done = json(&scene, &copy, &["repair", "index"], &[0]);
            assert_eq!(plan["packs_found"], done["packs_found"], "{what}");
            is_whole(&scene, &copy, &what);
            assert!(restored(&scene, &copy, "one") && restored(&scene, &copy, "two"), "{what}");
            let again = json(&scene, &copy, &["repair", "index"], &[0]);
            assert_eq!(again["packs_found"].as_array().map(Vec::len), Some(0), "{what}: {again}");
        }
    }
}

#[test]
fn of_damaged_packs_everything_that_is_whole_is_saved() {
    let scene = Scene::new();
    let count = files(&scene.path(REPOSITORY).join("data")).len();
    for which in 0..count {
        for damage in EVERY {
            let what = format!("{damage:?} pack {which}");
            let copy = scene.damaged("data", which, damage);
            let was = [restored(&scene, &copy, "one"), restored(&scene, &copy, "two")];
            json(&scene, &copy, &["repair", "index"], &[0, 20]);
            let packs = json(&scene, &copy, &["repair", "packs"], &[0, 20]);
            if damage == Damage::Flipped {
                let lost: usize = packs["packs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|pack| pack["lost"].as_array().unwrap().len())
                    .sum();
                assert!(lost <= 1, "{what}: one byte is wrong: {packs}");
            }
            let found = json(&scene, &copy, &["repair", "snapshots", "--plan"], &[0, 20]);
            json(&scene, &copy, &["repair", "snapshots", "--forget"], &[0, 20]);
            is_whole(&scene, &copy, &what);
            let touched = found["snapshots"].as_array().unwrap().len();
            let now = [restored(&scene, &copy, "one"), restored(&scene, &copy, "two")];
            assert!(now[0] >= was[0] && now[1] >= was[1], "{what}: {was:?} {now:?}");
            // What is whole after it was repaired is whole for those who made it, too.
            assert_eq!(touched == 0, now == [true, true], "{what}: {found}");
        }
    }
}

#[test]
fn a_snapshot_that_is_not_whole_is_written_again_and_the_old_one_kept() {
    let scene = Scene::new();
    let copy = scene.damaged("data", 0, Damage::Missing);
    json(&scene, &copy, &["repair", "index"], &[20]);
    let before = json(&scene, &copy, &["snapshots"], &[0]);
    let done = json(&scene, &copy, &["repair", "snapshots"], &[20]);
    let repaired = done["snapshots"].as_array().unwrap();
    assert!(!repaired.is_empty(), "{done}");
    assert!(repaired.iter().all(|snapshot| snapshot["lost"].as_u64() > Some(0)), "{done}");
    let after = json(&scene, &copy, &["snapshots"], &[0]);
    let count = |doc: &Value| doc["snapshots"].as_array().unwrap().len();
    let new = repaired.iter().filter(|snapshot| snapshot["repaired"].is_string()).count();
    assert_eq!(count(&after), count(&before) + new, "{after}");
    assert!(after.to_string().contains("repaired"), "they are marked: {after}");
    for snapshot in repaired.iter().filter_map(|snapshot| snapshot["repaired"].as_str()) {
        let target = tempfile::tempdir_in(scene.dir.path()).unwrap();
        let words = ["restore", snapshot, "--target", target.path().to_str().unwrap()];
        let output = scene.run(&copy, &words);
        // What is left comes back, and nobody takes it for everything.
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("repair` kept what was left"), "{said}");
    }
}

#[test]
fn a_disk_that_lost_a_part_has_zeros_there_and_everything_else_in_its_place() {
    const CELL: usize = 256 << 10;
    let scene = Scene::new();
    let noise: Vec<u8> = (0..3_000_000)
        .scan(7_u64, |state, _| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some((*state >> 56) as u8)
        })
        .collect();
    let (image, copy) = (scene.path("image"), "disks");
    fs::write(&image, &noise).unwrap();
    let disk = format!("disk:{}", image.display());
    let init = scene.run(copy, &["init"]);
    assert_eq!(init.status.code(), Some(0), "{init:?}");
    let output = scene.run(copy, &["protect", "--pack-size", "4", &disk]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // One byte in the middle of the largest pack: one cell.
    let pack = &files(&scene.path(copy).join("data"))[0];
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
    json(&scene, copy, &["repair", "packs"], &[20]);
    json(&scene, copy, &["repair", "snapshots", "--forget"], &[20]);
    is_whole(&scene, copy, "a disk");
    let target = scene.path("restored");
    let words = ["restore", &disk, "--target", target.to_str().unwrap()];
    let output = scene.run(copy, &words);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let back = fs::read(&target).unwrap();
    assert_eq!(back.len(), noise.len());
    let differ: Vec<usize> = (0..noise.len().div_ceil(CELL))
        .filter(|n| {
            let range = n * CELL..noise.len().min((n + 1) * CELL);
            back[range.clone()] != noise[range]
        })
        .collect();
    assert_eq!(differ.len(), 1, "{differ:?}");
    let lost = differ[0] * CELL..noise.len().min((differ[0] + 1) * CELL);
    assert!(back[lost].iter().all(|byte| *byte == 0));
}

#[test]
fn a_stream_that_lost_a_part_is_not_given_out_as_one() {
    let scene = Scene::new();
    let copy = "streams";
    assert_eq!(scene.run(copy, &["init"]).status.code(), Some(0));
    let noise = scene.path("one").join("noise");
    let words = ["protect", "--stdin-from-command", "dump", "--", "cat", noise.to_str().unwrap()];
    assert_eq!(scene.run(copy, &words).status.code(), Some(0));
    fs::remove_file(&files(&scene.path(copy).join("data"))[0]).unwrap();
    json(&scene, copy, &["repair", "index"], &[20]);
    json(&scene, copy, &["repair", "snapshots", "--forget"], &[20]);
    let words = ["restore", "stream:dump", "--to-command", "--", "cat"];
    let output = scene.run(copy, &words);
    complains("restore", &output, &[20]);
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn a_check_names_the_files_that_damage_touches() {
    let scene = Scene::new();
    let noise = scene.path("one").join("noise");
    let copy = scene.damaged("data", 0, Damage::Missing);
    let output = scene.run(&copy, &["check"]);
    complains("check", &output, &[20]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let touched: Vec<&str> = said.lines().filter(|line| line.starts_with("touched: ")).collect();
    let other = scene.path("two").join("noise");
    let named = |path: &Path| touched.iter().any(|line| line.contains(path.to_str().unwrap()));
    assert!(named(&noise) || named(&other), "{said}");
    assert!(touched.iter().any(|line| line.contains("of its files and directories")), "{said}");
}

#[test]
fn an_index_that_lies_is_found_and_made_again_of_all_packs() {
    let scene = Scene::new();
    // The index of another repository of the same key would be needed for a lie that decrypts: a pack under
    // another's name is one.
    let copy = scene.damaged("config", 0, Damage::Flipped);
    fs::copy(scene.path(REPOSITORY).join("config"), scene.path(&copy).join("config")).unwrap();
    let packs = files(&scene.path(&copy).join("data"));
    let (one, other) = (&packs[0], &packs[1]);
    let held = scene.path("held");
    fs::rename(one, &held).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(&held, other).unwrap();
    complains("swapped packs", &scene.run(&copy, &["check", "--read-data"]), &[20]);
    json(&scene, &copy, &["repair", "index", "--read-all-packs"], &[0]);
    assert!(restored(&scene, &copy, "one") && restored(&scene, &copy, "two"));
}

#[test]
fn a_repair_refuses_what_it_cannot_do() {
    let scene = Scene::new();
    let id = "0".repeat(64);
    complains("an unknown pack", &scene.run(REPOSITORY, &["repair", "packs", &id]), &[13]);
    complains("no id", &scene.run(REPOSITORY, &["repair", "packs", "xyz"]), &[2]);
    complains("no lock", &scene.run(REPOSITORY, &["repair", "index", "--no-lock"]), &[2]);
    let whole = json(&scene, REPOSITORY, &["repair", "packs"], &[0]);
    assert_eq!(whole["packs"].as_array().map(Vec::len), Some(0));
}
