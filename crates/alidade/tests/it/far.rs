//! What is kept on this machine of a repository that is far: its snapshot files are read once.

use std::fs;
use std::path::PathBuf;

use alidade_testkit::proxy::Proxy;
use alidade_testkit::server::Brand;

use crate::bucket::{Bucket, noise};

/// A repository in a bucket, and who counts what is asked of it.
struct Far {
    bucket: Bucket,
    proxy: Proxy,
}

impl Far {
    fn new() -> Self {
        let (bucket, proxy) = Bucket::proxied(Brand::Versity);
        bucket.world.write("src/noise", &noise(1));
        Self { bucket, proxy }
    }

    /// How many snapshot files a command reads.
    fn reads(&self, arguments: &[&str]) -> usize {
        self.proxy.forget();
        self.bucket.ok(arguments);
        let seen = self.proxy.seen();
        let is_read = |target: &str| {
            target.split_once("/snapshots/").is_some_and(|(_, name)| name.len() >= 64)
        };
        seen.iter().filter(|seen| seen.method == "GET" && is_read(&seen.target)).count()
    }

    /// The same on another machine, with a cache of its own.
    fn reads_elsewhere(&self, arguments: &[&str]) -> usize {
        let cache = self.bucket.world.path("other-cache");
        self.reads(&[arguments, &["--cache-dir", cache.to_str().unwrap()]].concat())
    }

    /// The snapshot files that are kept.
    fn kept(&self) -> Vec<PathBuf> {
        let cache = self.bucket.world.path("home/.cache/alidade");
        let folders = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
        let files = folders
            .filter_map(|folder| fs::read_dir(folder.join("snapshots")).ok())
            .flat_map(|files| files.map(|entry| entry.unwrap().path()));
        files.collect()
    }

    /// The snapshot files in the repository, as the server has them.
    fn stored(&self) -> Vec<PathBuf> {
        let directory = self.bucket.server.data().join("backups/one/snapshots");
        let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file()).collect()
    }

    /// Another snapshot, of what was changed.
    fn change(&self, number: u64) -> [&'static str; 3] {
        self.bucket.world.write("src/noise", &noise(100 + number));
        ["protect", "src", "-q"]
    }
}

#[test]
fn snapshot_files_that_are_far_are_read_once_by_a_machine() {
    let far = Far::new();
    for number in 0..4 {
        let protect = far.change(number);
        assert_eq!(far.reads(&protect), 0, "backup {number}: this machine wrote all there are");
    }
    assert_eq!(far.reads(&["snapshots"]), 0);
    let protect = far.change(10);
    assert_eq!(far.reads_elsewhere(&protect), 4, "it knows none yet");
    let protect = far.change(11);
    assert_eq!(far.reads_elsewhere(&protect), 0);
    let protect = &["protect", "src", "-q"][..];
    for (arguments, reads) in [(protect, 2), (protect, 0), (&["list", "-q"], 0)] {
        assert_eq!(far.reads(arguments), reads, "{arguments:?}");
    }
    let protect = far.change(12);
    assert_eq!(far.reads_elsewhere(&protect), 2, "those that the first machine made meanwhile");
    far.bucket.comes_back("out");
}

#[test]
fn who_looks_for_damage_reads_snapshot_files_from_the_store() {
    let far = Far::new();
    for number in 0..3 {
        far.bucket.ok(&far.change(number));
    }
    let all = far.stored().len();
    assert_eq!(all, 3);
    for arguments in
        [&["doctor"][..], &["repair", "snapshots", "--plan"], &["snapshots", "--no-cache"]]
    {
        assert_eq!(far.reads(arguments), all, "{arguments:?}");
    }
    // Once more each time, with the snapshot of its own that is the proof.
    assert_eq!(far.reads(&["check"]), all);
    assert_eq!(far.reads(&["snapshots"]), 0);
    // What is damaged there is noticed by who looks, whatever is kept here.
    let damaged = far.stored().remove(0);
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, vec![0; bytes.len()]).unwrap();
    assert_eq!(far.reads(&["snapshots"]), 0);
    let check = far.bucket.run(&["check"]);
    assert_eq!(check.code, Some(20), "{check}");
}

#[test]
fn snapshot_files_that_are_kept_may_be_lost_or_damaged_and_go_with_their_own() {
    let far = Far::new();
    for number in 0..3 {
        far.bucket.ok(&far.change(number));
    }
    let listed = far.bucket.ok(&["snapshots"]);
    assert_eq!(far.kept().len(), 3);
    let kept = far.kept().remove(0);
    for bytes in [&b""[..], b"damaged", &[0; 100_000]] {
        fs::write(&kept, bytes).unwrap();
        assert_eq!((far.reads(&["snapshots"]), far.reads(&["snapshots"])), (1, 0));
    }
    assert_eq!(far.bucket.ok(&["snapshots"]), listed);
    let gone =
        far.bucket.server.data().join("backups/one/snapshots").join(kept.file_name().unwrap());
    fs::remove_file(gone).unwrap();
    assert_eq!(far.reads(&["snapshots"]), 0);
    assert_eq!(far.kept().len(), 2);
    assert!(!kept.exists());
}
