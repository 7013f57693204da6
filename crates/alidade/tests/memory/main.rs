//! The memory bound is structural: the real binary, on what grows without bound elsewhere.
//!
//! 256 MiB on two cores is the promise (`docs/memory.md`), in maximum RSS as the system accounts it, and so
//! much more for each further core. One test at a time: the system keeps the maximum over all children of
//! this process.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::print_stdout, reason = "what was measured is part of what it says")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use alidade_testkit::server::{Brand, S3Server};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;

/// The bound on two cores, and what each further core may add, in KiB, as the system counts maximum RSS.
const BOUND_KIB: usize = 256 << 10;
const CORE_KIB: usize = 65 << 10;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Where alidade runs: a home of its own, and what is in its environment beside.
struct House<'a> {
    home: &'a Path,
    environment: Vec<(&'static str, String)>,
}

impl<'a> House<'a> {
    /// With a repository in a directory of the home.
    fn at(home: &'a Path) -> Self {
        Self { home, environment: Vec::new() }
    }

    /// With a new repository in a bucket.
    fn before(home: &'a Path, server: &S3Server) -> Self {
        let (id, key) = server.key();
        let environment = vec![
            ("ALIDADE_REPOSITORY", format!("s3:http://{}/bucket/one", server.address())),
            ("ALIDADE_PASSWORD", "secret".to_owned()),
            ("AWS_ACCESS_KEY_ID", id.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", key.to_owned()),
        ];
        let house = Self { home, environment };
        house.alidade(&["init"]);
        house
    }

    /// Runs it, and holds it to the bound.
    fn alidade(&self, words: &[&str]) -> String {
        let run = Command::new(env!("CARGO_BIN_EXE_alidade"))
            .args(words)
            .env_clear()
            .env("HOME", self.home)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{words:?}: {said}");
        let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() as usize;
        println!("{words:?}: maximum RSS so far {} MiB", most >> 10);
        let cores = std::thread::available_parallelism().unwrap().get();
        let bound = BOUND_KIB + CORE_KIB * cores.saturating_sub(2);
        assert!(most <= bound, "{words:?} took {} MiB", most >> 10);
        String::from_utf8_lossy(&run.stdout).into_owned()
    }

    /// Protects twice, lists, compares, checks and restores `source`; gives the second outcome.
    fn all_verbs(&self, source: &Path, target: &Path) -> Value {
        self.all_verbs_on(source.to_str().unwrap(), target)
    }

    /// The same for an entity of any type.
    fn all_verbs_on(&self, source: &str, target: &Path) -> Value {
        let target = target.to_str().unwrap();
        let protect = || -> Value {
            let said = self.alidade(&["-o", "json", "--progress", "none", "protect", source]);
            serde_json::from_str(&said).unwrap()
        };
        let (first, second) = (protect(), protect());
        let snapshot = |outcome: &Value| outcome["snapshot"].as_str().unwrap().to_owned();
        let (first, latest) = (snapshot(&first), snapshot(&second));
        assert!(!self.alidade(&["ls", &latest]).is_empty());
        self.alidade(&["diff", &first, &latest]);
        self.alidade(&["check"]);
        self.alidade(&["check", "--read-data"]);
        self.alidade(&["-q", "restore", source, "--target", target]);
        second
    }
}

/// A server whose memory is not counted with that of this process's children.
fn server() -> S3Server {
    S3Server::start(Brand::Versity).unwaited()
}

/// Two files have the same bytes. Piece by piece: what this process holds at its most is counted with the next
/// child, which begins as a copy of it.
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let len = one.metadata().unwrap().size();
    assert_eq!(len, other.metadata().unwrap().size());
    for at in (0..len).step_by(1 << 20) {
        let piece = |file: &File| {
            let mut bytes = vec![0; (len - at).min(1 << 20) as usize];
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert!(piece(&one) == piece(&other), "they differ from byte {at} on");
    }
}

/// Bytes that do not repeat, and cannot be compressed.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.take(len.div_ceil(8)).flatten().take(len).collect()
    }

    /// Lines of words that compress to about a quarter.
    fn text(&mut self, len: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(len + 16);
        while text.len() < len {
            let word = self.next() % 5_000;
            text.extend_from_slice(format!("{:x}{} ", word * word, word % 7).as_bytes());
        }
        text.truncate(len);
        text
    }
}

/// 800 MiB, of which a fifth is zeros that were written, and a fifth is text.
fn make_image(path: &Path) {
    const PART: usize = 4 << 20;
    let mut image = File::create(path).unwrap();
    let mut noise = Noise(1);
    for part in 0..200 {
        let bytes = match part % 5 {
            0 => vec![0; PART],
            1 => noise.text(PART),
            _ => noise.bytes(PART),
        };
        image.write_all(&bytes).unwrap();
    }
}

/// All verbs on a directory with that image.
fn an_image_stays_within_the_bound(house: &House<'_>, dir: &Path) {
    let source = dir.join("source");
    fs::create_dir(&source).unwrap();
    make_image(&source.join("disk"));
    let target = dir.join("target");
    house.all_verbs(&source, &target);
    let back = target.join(source.strip_prefix("/").unwrap()).join("disk");
    assert_same(&back, &source.join("disk"));
}

#[test]
fn an_image_of_a_disk_stays_within_the_bound() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    an_image_stays_within_the_bound(&House::at(dir.path()), dir.path());
}

#[test]
fn an_image_of_a_disk_in_a_bucket_stays_within_the_bound() {
    let _alone = ONE_AT_A_TIME.lock();
    let (dir, server) = (tempfile::tempdir_in("/var/tmp").unwrap(), server());
    an_image_stays_within_the_bound(&House::before(dir.path(), &server), dir.path());
}

const FILES: u32 = 20_000;

fn mixed_file(n: u32) -> String {
    format!("{}/{}/file-{n}", n % 40, n / 40 % 25)
}

/// Most files are small, and most bytes are in the large ones: about 600 MB, a third of it text.
fn make_mixed_files(source: &Path) {
    let mut noise = Noise(2);
    for n in 0..FILES {
        let path = source.join(mixed_file(n));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let len = match n {
            _ if n % 4_000 == 0 => 40 << 20,
            _ if n % 200 == 0 => 2 << 20,
            _ => (noise.next() % 20_000) as usize,
        };
        let bytes = if n % 3 == 0 { noise.bytes(len) } else { noise.text(len) };
        fs::write(path, bytes).unwrap();
    }
}

/// All verbs on those files.
fn mixed_files_stay_within_the_bound(house: &House<'_>, dir: &Path) {
    let source = dir.join("source");
    make_mixed_files(&source);
    let target = dir.join("target");
    let second = house.all_verbs(&source, &target);
    assert_eq!(second["counts"]["unchanged"], FILES);
    let back = target.join(source.strip_prefix("/").unwrap());
    for n in [0, 1, 200, 19_999] {
        let file = mixed_file(n);
        assert_same(&back.join(&file), &source.join(&file));
    }
}

#[test]
fn a_tree_of_mixed_files_stays_within_the_bound() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    mixed_files_stay_within_the_bound(&House::at(dir.path()), dir.path());
}

#[test]
fn a_tree_of_mixed_files_in_a_bucket_stays_within_the_bound() {
    let _alone = ONE_AT_A_TIME.lock();
    let (dir, server) = (tempfile::tempdir_in("/var/tmp").unwrap(), server());
    mixed_files_stay_within_the_bound(&House::before(dir.path(), &server), dir.path());
}

#[test]
fn a_directory_of_a_million_entries_stays_within_the_bound() {
    const ENTRIES: u32 = 1_000_000;
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    for n in 0..ENTRIES {
        let mut file = File::create(source.join(format!("entry-{n:07}-of-a-million"))).unwrap();
        if n % 20 == 0 {
            write!(file, "the content of number {n}").unwrap();
        }
    }
    let target = dir.path().join("target");
    let second = House::at(dir.path()).all_verbs(&source, &target);
    assert_eq!(second["counts"]["unchanged"], ENTRIES);
    let back = target.join(source.strip_prefix("/").unwrap());
    assert_eq!(fs::read_dir(&back).unwrap().count(), ENTRIES as usize);
    let one = fs::read_to_string(back.join("entry-0999980-of-a-million")).unwrap();
    assert_eq!(one, "the content of number 999980");
}

#[test]
fn a_sparse_file_of_four_tebibytes_stays_within_the_bound() {
    const SIZE: u64 = 4 << 40;
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let file = File::create(source.join("disk")).unwrap();
    file.set_len(SIZE).unwrap();
    for at in [0, SIZE / 2 + 12_345, SIZE - 4] {
        file.write_all_at(b"data", at).unwrap();
    }
    let target = dir.path().join("target");
    House::at(dir.path()).all_verbs(&source, &target);
    let back = File::open(target.join(source.strip_prefix("/").unwrap()).join("disk")).unwrap();
    let (was, is) = (file.metadata().unwrap(), back.metadata().unwrap());
    assert_eq!((is.size(), is.blocks()), (was.size(), was.blocks()));
    for at in [0, SIZE / 2 + 12_345, SIZE - 4] {
        let mut four = [0; 4];
        back.read_exact_at(&mut four, at).unwrap();
        assert_eq!(&four, b"data");
    }
}

#[test]
fn a_disk_of_four_tebibytes_that_holds_one_gibibyte_stays_within_the_bound() {
    const SIZE: u64 = 4 << 40;
    const PART: u64 = 16 << 20;
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = dir.path().join("disk.img");
    let file = File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    let mut noise = Noise(3);
    let places = |part: u64| part * (SIZE / 64) + part * 4096;
    for part in 0..64 {
        let bytes =
            if part % 4 == 0 { noise.text(PART as usize) } else { noise.bytes(PART as usize) };
        file.write_all_at(&bytes, places(part)).unwrap();
    }
    let file = File::open(&path).unwrap();
    let target = dir.path().join("back.img");
    let second = House::at(dir.path()).all_verbs_on(&format!("disk:{}", path.display()), &target);
    assert_eq!(second["bytes"]["total"], SIZE);
    let back = File::open(&target).unwrap();
    assert_eq!(back.metadata().unwrap().size(), SIZE);
    for part in 0..64 {
        let read = |file: &File| {
            let mut bytes = vec![0; PART as usize + 8192];
            let at = places(part).saturating_sub(4096);
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert!(read(&back) == read(&file), "{part}");
    }
}
