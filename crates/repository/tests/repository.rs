//! The repository as a whole: made, opened, its keys, and what damage to its head is called.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod fixture;

use std::fs;
use std::sync::{Arc, Barrier};

use alidade_entity::Cx;
use alidade_model::Time;
use alidade_repository::crypto::MasterKey;
use alidade_repository::envelope::encode_unpacked;
use alidade_repository::key::Made;
use alidade_repository::{
    BlobId, Body, Error, FileId, FileKind, Kdf, KeyFile, KeyOptions, Password, Repository, Result,
    Snapshot,
};
use alidade_testkit::TestCx;
use alidade_testkit::store::{Fault, FaultStore, PowerCutStore};
use fixture::{Fixture, light, names, only, overwrite, password, store};

fn open(made: &Fixture, cx: &Cx) -> Result<Arc<Repository>> {
    Repository::open(cx, store(made.dir.path()), &password())
}

/// What an error is about and what is wrong with it; every other error fails the test.
fn damage<T: std::fmt::Debug>(result: Result<T>) -> (String, String) {
    match result {
        Err(Error::Damaged { what, why }) => (what, why),
        other => panic!("not called damage: {other:?}"),
    }
}

#[test]
fn a_new_repository_opens_with_its_password_and_no_other() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let repo = open(&made, test.cx()).unwrap();
    assert_eq!((repo.id(), repo.version()), (made.repo.id(), 2));
    assert_eq!(repo.location(), made.dir.path().display().to_string());
    assert_eq!(repo.current_key(), made.repo.current_key());
    for wrong in ["", "Secret", "secret\n"] {
        let opened = Repository::open(test.cx(), store(made.dir.path()), &Password::new(wrong));
        let Err(Error::WrongPassword { keys: 1, location }) = opened else { panic!("{opened:?}") };
        assert_eq!(location, repo.location());
    }
}

#[test]
fn the_head_is_private_and_nothing_else_is_there() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    assert_eq!(names(made.dir.path()), ["config", "data", "index", "keys", "locks", "snapshots"]);
    assert_eq!(made.names("keys").len(), 1);
    let config = fs::read(made.path("config")).unwrap();
    let id = made.repo.id().to_string();
    assert!(!config.windows(8).any(|part| part == &id.as_bytes()[..8]), "the config is sealed");
}

#[test]
fn where_none_is_there_is_no_repository() {
    let test = TestCx::seeded(1);
    let dir = tempfile::tempdir().unwrap();
    let places = [dir.path().join("absent"), dir.path().to_owned(), "/dev/null/below".into()];
    for place in places {
        let opened = Repository::open(test.cx(), store(&place), &password());
        let Err(Error::NoRepository { location }) = opened else { panic!("{opened:?}") };
        assert_eq!(location, place.display().to_string());
    }
}

#[test]
fn a_repository_is_never_made_over_another() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let again = Repository::init(test.cx(), store(made.dir.path()), &Password::new("x"), &light());
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    assert_eq!(made.names("keys").len(), 1);
    open(&made, test.cx()).unwrap();
}

#[test]
fn an_empty_password_is_refused() {
    let test = TestCx::seeded(1);
    let dir = tempfile::tempdir().unwrap();
    let init = Repository::init(test.cx(), store(dir.path()), &Password::new(""), &light());
    assert!(matches!(init, Err(Error::Usage(_))), "{init:?}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
    let made = Fixture::new(test.cx());
    let added = made.repo.add_key(test.cx(), &Password::new(""), &light());
    assert!(matches!(added, Err(Error::Usage(_))), "{added:?}");
}

#[test]
fn what_a_killed_init_left_stands_in_nobodys_way() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    fs::remove_file(made.path("config")).unwrap();
    assert_eq!(made.names("keys").len(), 1, "the key of the attempt that was killed");
    let opened = open(&made, test.cx());
    assert!(matches!(opened, Err(Error::NoRepository { .. })), "{opened:?}");
    let again = Repository::init(test.cx(), store(made.dir.path()), &password(), &light()).unwrap();
    assert_eq!(made.names("keys"), [again.current_key().to_string()]);
    assert_eq!(open(&made, test.cx()).unwrap().id(), again.id());
}

#[test]
fn of_many_that_make_a_repository_one_does() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5_u64 {
        let (place, start) = (dir.path().join(round.to_string()), Barrier::new(6));
        let made = std::thread::scope(|scope| {
            let all: Vec<_> = (0..6)
                .map(|n| {
                    let (place, start) = (&place, &start);
                    scope.spawn(move || {
                        let test = TestCx::seeded(round * 100 + n);
                        let store = store(place);
                        start.wait();
                        Repository::init(test.cx(), store, &password(), &light())
                    })
                })
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        let (won, lost): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        for lost in lost {
            assert!(matches!(lost, Err(Error::Exists { .. })), "{lost:?}");
        }
        let won = won.into_iter().next().unwrap().unwrap();
        assert_eq!(names(&place.join("keys")), [won.current_key().to_string()]);
        let opened = Repository::open(TestCx::seeded(0).cx(), store(&place), &password()).unwrap();
        assert_eq!(opened.id(), won.id());
    }
}

#[test]
fn data_without_a_config_is_damage_and_no_place_for_a_new_repository() {
    let test = TestCx::seeded(1);
    for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
        let made = Fixture::new(test.cx());
        made.put(kind, b"something");
        fs::remove_file(made.path("config")).unwrap();
        let (what, why) = damage(open(&made, test.cx()));
        assert_eq!(what, format!("repository at {}", made.dir.path().display()));
        assert_eq!(why, format!("it has {kind} files and no config"));
        damage(Repository::init(test.cx(), store(made.dir.path()), &password(), &light()));
    }
}

#[test]
fn a_damaged_config_is_called_that() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let good = fs::read(made.path("config")).unwrap();
    let mut flipped = good.clone();
    flipped[40] ^= 4;
    let cases: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("one byte", vec![0]),
        ("truncated", good[..good.len() - 1].to_vec()),
        ("longer", [&good[..], &[0]].concat()),
        ("a flipped bit", flipped),
        ("huge", vec![0; 1 << 20]),
    ];
    for (case, bytes) in cases {
        overwrite(&made.path("config"), &bytes);
        let (what, why) = damage(open(&made, test.cx()));
        assert!(what.starts_with("config"), "{case}: {what}: {why}");
    }
    for json in [
        r#"{}"#,
        r#"{"version":2}"#,
        r#"{"version":2,"id":"12","chunker_polynomial":"3304b5f346baf1"}"#,
        &format!(r#"{{"version":2,"id":"{}","chunker_polynomial":"4"}}"#, "0".repeat(64)),
    ] {
        overwrite(&made.path("config"), &made.master.seal(test.cx(), json.as_bytes()).unwrap());
        damage(open(&made, test.cx()));
    }
}

#[test]
fn another_version_is_named() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let json = format!(r#"{{"version":3,"id":"{}"}}"#, "0".repeat(64));
    overwrite(&made.path("config"), &made.master.seal(test.cx(), json.as_bytes()).unwrap());
    let opened = open(&made, test.cx());
    assert!(matches!(opened, Err(Error::UnknownVersion { version: 3, .. })), "{opened:?}");
}

/// Key files that open nothing, and a word each says about itself.
fn damaged_keys(good: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = String::from_utf8(good.to_vec()).unwrap();
    let absurd = text.replace(r#""N":128"#, r#""N":1073741824"#);
    let mut flipped = good.to_vec();
    flipped[100] ^= 1;
    vec![
        ("empty", Vec::new(), "empty"),
        ("truncated", good[..good.len() / 2].to_vec(), "hash"),
        ("a flipped bit", flipped, "hash"),
        ("huge", vec![b' '; 1 << 20], "allowed"),
        ("absurd scrypt parameters", absurd.into_bytes(), "too much work"),
        ("another derivation", text.replace("scrypt", "argon2").into_bytes(), "not scrypt"),
        ("no JSON", b"key".to_vec(), "JSON"),
        (
            "a short salt",
            text.replace(r#""salt":""#, r#""salt":"AA=","x":""#).into_bytes(),
            "base64",
        ),
    ]
}

#[test]
fn a_damaged_key_is_called_that_and_stands_in_no_good_ones_way() {
    let test = TestCx::seeded(1);
    let reference = Fixture::new(test.cx());
    let good = fs::read(only(&reference.path("keys"))).unwrap();
    for (case, bytes, word) in damaged_keys(&good) {
        let made = Fixture::new(test.cx());
        let second = made.repo.add_key(test.cx(), &Password::new("other"), &light()).unwrap();
        // Where the damage is not what the hash says, the file lies under the hash it has.
        let id = match word {
            "hash" | "empty" => second,
            _ => FileId::of(&bytes),
        };
        fs::remove_file(made.path("keys").join(second.to_string())).unwrap();
        fs::write(made.path("keys").join(id.to_string()), &bytes).unwrap();
        open(&made, test.cx()).unwrap();

        let keys = made.repo.keys(test.cx()).unwrap();
        assert_eq!(keys.iter().filter(|entry| entry.key.is_err()).count(), 1, "{case}");

        let none = Repository::open(test.cx(), store(made.dir.path()), &Password::new("x"));
        let (what, why) = damage(none);
        assert_eq!(what, format!("key {id}"), "{case}");
        assert!(why.contains(word), "{case}: {why}");
        assert!(why.ends_with("opens none of the other keys"), "{case}: {why}");

        fs::remove_file(made.path("keys").join(made.repo.current_key().to_string())).unwrap();
        let (what, why) = damage(open(&made, test.cx()));
        assert_eq!(what, format!("key {id}"), "{case}");
        assert!(why.contains(word) && !why.contains("other keys"), "{case}: {why}");
    }
}

#[test]
fn a_repository_without_keys_is_damaged() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    fs::remove_dir_all(made.path("keys")).unwrap();
    let (_, why) = damage(open(&made, test.cx()));
    assert_eq!(why, "it has no key files");
}

#[test]
fn a_key_to_another_repository_does_not_hide_the_right_one() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    // Several, so that one of them is tried before the right one.
    for _ in 0..8 {
        let other = MasterKey::generate(test.cx()).unwrap();
        let by = Made { username: "me", hostname: "here", kdf: Kdf::LIGHT };
        let file = KeyFile::create(test.cx(), &other, b"secret", by).unwrap().encode();
        made.put(FileKind::Key, &file);
    }
    assert_eq!(open(&made, test.cx()).unwrap().id(), made.repo.id());
    fs::remove_file(made.path("keys").join(made.repo.current_key().to_string())).unwrap();
    let (what, _) = damage(open(&made, test.cx()));
    assert!(what.starts_with("config"), "{what}");
}

#[test]
fn every_password_opens_and_a_removed_one_does_not() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let options = KeyOptions { host: "there".into(), username: "you".into(), ..light() };
    let second = made.repo.add_key(test.cx(), &Password::new("other"), &options).unwrap();
    let other =
        Repository::open(test.cx(), store(made.dir.path()), &Password::new("other")).unwrap();
    assert_eq!((other.id(), other.current_key()), (made.repo.id(), second));

    let keys = made.repo.keys(test.cx()).unwrap();
    assert_eq!(keys.len(), 2);
    for entry in keys {
        let key = entry.key.unwrap();
        let want = if entry.current { ("here", "me") } else { ("there", "you") };
        assert_eq!((key.hostname.as_str(), key.username.as_str()), want);
        assert_eq!(entry.current, entry.id != second);
    }

    let in_use = made.repo.remove_key(&made.repo.current_key());
    assert!(matches!(in_use, Err(Error::Usage(_))), "{in_use:?}");
    let absent = made.repo.remove_key(&FileId::of(b"absent"));
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");

    other.remove_key(&made.repo.current_key()).unwrap();
    let opened = open(&made, test.cx());
    assert!(matches!(opened, Err(Error::WrongPassword { keys: 1, .. })), "{opened:?}");
    // The first is gone by another's hand, so that the second is the last.
    let last = made.repo.remove_key(&second);
    assert!(matches!(last, Err(Error::Usage(_))), "{last:?}");
    Repository::open(test.cx(), store(made.dir.path()), &Password::new("other")).unwrap();
}

#[test]
fn a_prefix_names_one_file_or_says_why_not() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    for last in ["0", "1"] {
        let name = format!("ab{}{last}", "0".repeat(61));
        made.repo.store().put(FileKind::Snapshot, &name, Body::Bytes(b"x")).unwrap();
    }
    let one = format!("ab{}1", "0".repeat(61));
    assert_eq!(made.repo.find_snapshot(&one).unwrap().to_string(), one);
    let found = made.repo.find_snapshot("ab");
    assert!(matches!(found, Err(Error::Ambiguous { kind: "snapshot", .. })), "{found:?}");
    for absent in ["", "ac", "AB", "../x", &"a".repeat(100)] {
        let found = made.repo.find_snapshot(absent);
        assert!(matches!(found, Err(Error::NotFound { .. })), "`{absent}`: {found:?}");
    }
    let key = made.repo.current_key();
    assert_eq!(made.repo.find_key(&key.to_string()[..8]).unwrap(), key);
}

#[test]
fn nothing_secret_is_printed() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let printed = format!("{:?} {:?}", made.repo, made.repo.keys(test.cx()).unwrap());
    for secret in ["secret", "polynomial", "salt", "data"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[test]
fn a_damaged_snapshot_hides_no_other() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let good = |n: i64| {
        let mut snapshot = Snapshot::new(Time::new(n, 0), BlobId::of(b"tree"));
        snapshot.hostname = format!("host {n}");
        made.put(
            FileKind::Snapshot,
            &encode_unpacked(&made.master, test.cx(), &snapshot.encode()).unwrap(),
        )
    };
    let (first, second) = (good(1), good(2));
    let sealed = encode_unpacked(&made.master, test.cx(), b"{}").unwrap();
    let mut bad = vec![made.put(FileKind::Snapshot, &sealed), made.put(FileKind::Snapshot, b"x")];
    let bomb = vec![b' '; 65 << 20];
    let bomb = encode_unpacked(&made.master, test.cx(), &bomb).unwrap();
    bad.push(made.put(FileKind::Snapshot, &bomb));
    let misnamed = FileId::of(b"another name");
    fs::write(made.path("snapshots").join(misnamed.to_string()), &sealed).unwrap();
    bad.push(misnamed);
    let empty = FileId::of(b"empty");
    fs::write(made.path("snapshots").join(empty.to_string()), b"").unwrap();
    bad.push(empty);

    let all = made.repo.snapshots(test.cx()).unwrap();
    assert_eq!(all.len(), 7);
    for (id, snapshot) in all {
        if id == first || id == second {
            assert!(snapshot.unwrap().hostname.starts_with("host "));
        } else {
            assert!(bad.contains(&id));
            assert_eq!(damage(snapshot).0, format!("snapshot {id}"));
            assert_eq!(damage(made.repo.snapshot(&id)).0, format!("snapshot {id}"));
        }
    }
    assert_eq!(made.repo.snapshot(&first).unwrap().hostname, "host 1");
    let absent = made.repo.snapshot(&FileId::of(b"absent"));
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
    test.cancel();
    assert!(matches!(made.repo.snapshots(test.cx()), Err(Error::Cancelled)));
}

#[test]
fn an_init_killed_anywhere_is_done_or_can_be_done_again() {
    for fault in [Fault::Before, Fault::After] {
        for n in 0.. {
            let (test, memory) = (TestCx::seeded(n), Arc::new(PowerCutStore::new()));
            let at = usize::try_from(n).unwrap();
            let dying = Arc::new(FaultStore::stopping_at(memory.clone(), at, fault));
            let first = Repository::init(test.cx(), dying.clone(), &password(), &light());
            if !dying.has_stopped() {
                first.unwrap();
                assert!(n > 4, "there is something to kill: {n}");
                break;
            }
            first.unwrap_err();
            for seed in 0..20 {
                let after: Arc<PowerCutStore> = Arc::new(memory.fork());
                after.cut(seed);
                let opened = Repository::open(test.cx(), after.clone(), &password());
                let repo = match opened {
                    Ok(repo) => repo,
                    Err(Error::NoRepository { .. }) => {
                        Repository::init(test.cx(), after.clone(), &password(), &light()).unwrap()
                    }
                    Err(error) => panic!("killed at {n} ({fault:?}), cut {seed}: {error}"),
                };
                let again = Repository::open(test.cx(), after.clone(), &password()).unwrap();
                assert_eq!(again.id(), repo.id());
            }
        }
    }
}
