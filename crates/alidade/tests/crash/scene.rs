//! An engine in this process, the state from which every case starts, and what must hold after it.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use alidade_model::{Origin, Outcome, Status};
use alidade_protect::{Error, ProtectOptions, StoredSnapshot};
use alidade_repository::{FileKind, LocalStore, Store};
use alidade_testkit::store::PowerCutStore;
use alidade_testkit::tree::{Content, Dress, Fill, Listing, Make, Plan, Thing};
use alidade_testkit::{Lab, TestCx, peer};

/// A source, a repository that may hold an earlier state of it, and what both states look like.
pub(crate) struct Scene {
    pub(crate) test: TestCx,
    pub(crate) lab: Lab,
    /// The repository at the start of every case, when it is in memory; else it is a directory.
    base: Option<Arc<PowerCutStore>>,
    /// What the first snapshot holds, where there is one.
    before: Option<Listing>,
    /// What the source holds.
    now: Listing,
    targets: Cell<u32>,
}

impl Scene {
    /// With the repository in memory; it holds a first snapshot when `parent`.
    pub(crate) fn in_memory(parent: bool) -> Self {
        crate::scratch_in_memory();
        let test = TestCx::seeded(1);
        let base = Arc::new(PowerCutStore::new());
        let lab = Lab::on(test.cx(), Arc::clone(&base) as Arc<dyn Store>);
        Self::begin(test, lab, Some(base), parent)
    }

    /// With the repository in a directory.
    pub(crate) fn in_directory(parent: bool) -> Self {
        crate::scratch_in_memory();
        let test = TestCx::seeded(1);
        let lab = Lab::new(test.cx());
        Self::begin(test, lab, None, parent)
    }

    fn begin(test: TestCx, lab: Lab, base: Option<Arc<PowerCutStore>>, parent: bool) -> Self {
        let source = lab.source();
        fs::remove_dir(&source).unwrap();
        plan().build(&source);
        lab.init().unwrap();
        let now = Listing::of(&source);
        let mut scene = Self { test, lab, base, before: None, now, targets: Cell::new(0) };
        if parent {
            scene.protect().unwrap();
            change(&source);
            scene.before = Some(std::mem::replace(&mut scene.now, Listing::of(&source)));
        } else {
            // The catalog comes to be with the first engine.
            drop(scene.lab.engine().unwrap());
        }
        scene.keep_catalog("start");
        scene
    }

    /// The state at the start, on its own: in memory.
    pub(crate) fn memory(&self) -> Arc<PowerCutStore> {
        self.use_catalog("start");
        let base = self.base.as_ref().expect("this scene is in memory");
        Arc::new(base.fork())
    }

    /// The same in a directory.
    pub(crate) fn directory(&self) -> (Arc<LocalStore>, PathBuf) {
        self.use_catalog("start");
        let case = self.lab.path("case");
        if case.exists() {
            fs::remove_dir_all(&case).unwrap();
        }
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(self.lab.path("repository")).arg(&case).status().unwrap();
        assert!(copied.success(), "copy the repository: {copied}");
        (Arc::new(LocalStore::new(&case)), case)
    }

    /// Writes down what this machine knows.
    pub(crate) fn keep_catalog(&self, name: &str) {
        fs::copy(self.lab.path("catalog.sqlite"), self.lab.path(name)).unwrap();
    }

    /// From here on this machine knows what was written down.
    pub(crate) fn use_catalog(&self, name: &str) {
        for end in ["-wal", "-shm"] {
            let beside = self.lab.path(&format!("catalog.sqlite{end}"));
            assert!(!beside.exists(), "the catalog was not closed");
        }
        fs::copy(self.lab.path(name), self.lab.path("catalog.sqlite")).unwrap();
    }

    /// Protects the source, in packs as small as they may be.
    pub(crate) fn protect(&self) -> Result<Outcome, Error> {
        self.test.clock().advance(Duration::from_secs(60));
        let how = ProtectOptions { pack_size: 4 << 20, ..ProtectOptions::standard() };
        self.lab.protect_entity(&self.lab.engine()?, &self.lab.entity(), &how)
    }

    /// Every snapshot of the source, oldest first.
    pub(crate) fn snapshots(&self) -> Vec<StoredSnapshot> {
        let listing = self.lab.engine().unwrap().snapshots().unwrap();
        assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
        let ours = |stored: &StoredSnapshot| stored.origin != Origin::Evidence;
        listing.snapshots.into_iter().filter(ours).collect()
    }

    /// What must hold in a healthy store after whatever happened: no damage, the first snapshot
    /// restores, the next run succeeds, everything reads back, all that is complete restores, and
    /// no lock is left.
    pub(crate) fn survives(&mut self, store: Arc<dyn Store>, what: &str) {
        let seen = Arc::clone(&store);
        self.lab.look_through(store);
        assert_eq!(self.damage(false), Vec::<String>::new(), "{what}: damage");
        if self.before.is_some() {
            self.restores_all(Some(1), what);
        }
        let next = self.protect().unwrap_or_else(|error| panic!("{what}: the next run: {error:?}"));
        assert_eq!(next.status, Status::Done, "{what}: the next run: {next:?}");
        assert_eq!(self.damage(true), Vec::<String>::new(), "{what}: damage after the next run");
        let complete = self.restores_all(None, what);
        assert!(complete > usize::from(self.before.is_some()), "{what}: {complete} snapshots");
        assert_eq!(locks(&*seen), Vec::<String>::new(), "{what}: locks");
    }

    /// The same after a power cut, which can bring back a lock that was removed long ago: whose it
    /// was is forgotten, and `unlock` removes it once it is old.
    pub(crate) fn survives_without_power(&mut self, store: Arc<dyn Store>, what: &str) {
        self.lab.look_through(Arc::clone(&store));
        if !locks(&*store).is_empty() {
            self.test.clock().advance(Duration::from_secs(3600));
            let engine = self.lab.engine().unwrap();
            let options = engine.lock_options(Duration::ZERO);
            let unlocked = engine.repository().unlock(self.test.cx(), &options, false);
            unlocked.unwrap_or_else(|error| panic!("{what}: unlock: {error:?}"));
        }
        self.survives(store, what);
    }

    /// What a check finds that cannot be restored.
    pub(crate) fn damage(&self, read_data: bool) -> Vec<String> {
        self.lab.check(read_data).unwrap()
    }

    /// Restores every snapshot, or the first few, and compares; says how many.
    pub(crate) fn restores_all(&self, first: Option<usize>, what: &str) -> usize {
        let snapshots = self.snapshots();
        for (number, stored) in snapshots.iter().take(first.unwrap_or(usize::MAX)).enumerate() {
            let expected = match &self.before {
                Some(before) if number == 0 => before,
                _ => &self.now,
            };
            self.targets.set(self.targets.get() + 1);
            let target = self.lab.path(&format!("target-{}", self.targets.get()));
            let restored = self.lab.restore(stored, &target);
            let restored = restored.unwrap_or_else(|e| panic!("{what}: restore {number}: {e:?}"));
            assert_eq!(restored.status, Status::Done, "{what}: restore {number}: {restored:?}");
            let back = target.join(self.lab.source().strip_prefix("/").unwrap());
            expected.assert_equals(&Listing::of(&back), &format!("{what}: snapshot {number}"));
            fs::remove_dir_all(&target).unwrap();
        }
        snapshots.len()
    }
}

fn locks(store: &dyn Store) -> Vec<String> {
    let mut locks = Vec::new();
    let listed = store.list(FileKind::Lock, &mut |name, _| {
        locks.push(name.to_owned());
        Ok(())
    });
    listed.unwrap();
    locks
}

/// Stock restic on a repository with that password.
pub(crate) fn restic(repository: &Path, password: &str, arguments: &[&str]) -> String {
    let ran = Command::new(peer("restic"))
        .arg("-r")
        .arg(repository)
        .arg("--no-cache")
        .args(arguments)
        .env("RESTIC_PASSWORD", password)
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(ran.status.success(), "restic {arguments:?}: {}\n{said}", ran.status);
    said
}

/// The same on the repository of a lab.
pub(crate) fn restic_in_lab(repository: &Path, arguments: &[&str]) -> String {
    restic(repository, "lab", arguments)
}

/// Files for several packs, and one of each other thing that moves on its own.
fn plan() -> Plan {
    let thing = |parent: usize, name: &str, make: Make| Thing {
        parent,
        name: name.as_bytes().to_vec(),
        make,
        dress: Dress::default(),
    };
    let noise = |size: u64, seed: u64| Make::File(Content::new(size, Fill::Random(seed)));
    let sparse =
        Content { holes: vec![(1 << 20, 2 << 20)], ..Content::new(4 << 20, Fill::Text(5)) };
    let things = vec![
        thing(0, "a", Make::Directory),
        thing(1, "b", Make::Directory),
        thing(2, "noise", noise(5 << 20, 1)),
        thing(1, "more", noise(4 << 20, 2)),
        thing(1, "sparse", Make::File(sparse)),
        thing(0, "empty", Make::File(Content::new(0, Fill::Zeros))),
        thing(0, "gone", Make::File(Content::new(40_000, Fill::Text(3)))),
        thing(2, "linked", Make::HardLink(1)),
        thing(2, "sym", Make::Symlink(b"../more".to_vec())),
        thing(0, "fifo", Make::Fifo),
    ];
    Plan { root: Dress::default(), things }
}

/// What happens between the first snapshot and the next.
fn change(source: &Path) {
    fs::remove_file(source.join("gone")).unwrap();
    let noise: Vec<u8> = noise(7, 6 << 20);
    fs::write(source.join("a/b/noise"), noise).unwrap();
    fs::create_dir(source.join("a/new")).unwrap();
    fs::write(source.join("a/new/file"), "new").unwrap();
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let chance = alidade_testkit::TestChance::seeded(seed);
    let mut bytes = vec![0; len];
    for piece in bytes.chunks_mut(8) {
        piece.copy_from_slice(&chance.next().to_le_bytes()[..piece.len()]);
    }
    bytes
}
