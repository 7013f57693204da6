//! Walks and the things the tests need, by the sockets alone.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use alidade_entity::{
    Cancel, Cx, Ending, OpenFile, ProtectedEntityType, ReadOptions, Result, Source, TreeSource,
    Visit,
};
use alidade_entity_host::{FsType, Limits};
use alidade_model::{ContentName, Entry, Omission, Rule, Selection};

/// A run of this machine.
pub(crate) fn cx() -> Cx {
    Cx::system(Cancel::default())
}

/// Runs control code, which never waits for anything here.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// A walk and what ends it.
pub(crate) struct Walking {
    pub(crate) source: Box<dyn TreeSource>,
    pub(crate) lease: Box<dyn alidade_entity::Lease>,
}

/// How to walk.
#[derive(Default)]
pub(crate) struct How {
    pub(crate) selection: Selection,
    pub(crate) limits: Limits,
}

impl How {
    pub(crate) fn rules(rules: Vec<Rule>) -> Self {
        Self { selection: Selection { rules, ..Selection::default() }, ..Self::default() }
    }

    pub(crate) fn only(paths: &[PathBuf]) -> Self {
        let only = paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
        Self { selection: Selection { only, ..Selection::default() }, ..Self::default() }
    }
}

/// Begins a walk.
pub(crate) fn begin(path: &Path, how: How) -> Result<Walking> {
    let kind = FsType::new(Vec::new()).limited(how.limits);
    let id = kind.id(path).expect("tests use absolute paths");
    let entity = wait(kind.open(&cx(), &id))?;
    let options = ReadOptions { selection: how.selection, ..ReadOptions::default() };
    let reading = wait(entity.read(&cx(), &ContentName::data(), &options))?;
    let Source::Tree(source) = reading.source else { panic!("a file system is a tree") };
    Ok(Walking { source, lease: reading.lease })
}

/// One visit, with the whole path of what it is about.
pub(crate) enum Seen {
    Enter(Entry),
    Leave,
    File(Entry, Box<dyn OpenFile>),
    Leaf(Entry),
    Omit(Omission),
}

/// A whole walk: each visit with its path below the root's parent.
pub(crate) struct Walked {
    pub(crate) trail: Vec<Entry>,
    pub(crate) seen: Vec<(Vec<u8>, Seen)>,
    pub(crate) ending: Ending,
}

/// Walks to the end.
pub(crate) fn walk_with(path: &Path, how: How) -> Result<Walked> {
    let mut walking = begin(path, how)?;
    let mut visits = Vec::new();
    while walking.source.next(&cx(), &mut visits)? {}
    let before = visits.len();
    assert!(!walking.source.next(&cx(), &mut visits)?, "a walk that ended stays ended");
    assert_eq!(visits.len(), before);
    let trail = walking.source.trail().to_vec();
    Ok(Walked { trail, seen: with_paths(visits), ending: walking.lease.finish()? })
}

/// Walks to the end, all of it, which must be possible.
pub(crate) fn walk(path: &Path) -> Walked {
    walk_with(path, How::default()).expect("walk")
}

/// Adds to each visit the path it is about; checks that every directory is left.
pub(crate) fn with_paths(visits: Vec<Visit>) -> Vec<(Vec<u8>, Seen)> {
    let mut stack: Vec<Vec<u8>> = Vec::new();
    let mut seen = Vec::new();
    let join = |stack: &[Vec<u8>], name: &[u8]| match stack.last() {
        Some(above) => [above, b"/".as_slice(), name].concat(),
        None => name.to_vec(),
    };
    for visit in visits {
        let (path, what) = match visit {
            Visit::Enter(entry) => {
                let path = join(&stack, &entry.name);
                stack.push(path.clone());
                (path, Seen::Enter(entry))
            }
            Visit::Leave => (stack.pop().expect("a directory to leave"), Seen::Leave),
            Visit::File(entry, file) => (join(&stack, &entry.name), Seen::File(entry, file)),
            Visit::Leaf(entry) => (join(&stack, &entry.name), Seen::Leaf(entry)),
            Visit::Omit(omission) => (omission.path.clone(), Seen::Omit(omission)),
        };
        seen.push((path, what));
    }
    assert!(stack.is_empty(), "every directory is left");
    seen
}

impl Walked {
    /// Every entry with its path.
    pub(crate) fn entries(&self) -> Vec<(&[u8], &Entry)> {
        self.seen
            .iter()
            .filter_map(|(path, seen)| match seen {
                Seen::Enter(entry) | Seen::File(entry, _) | Seen::Leaf(entry) => {
                    Some((path.as_slice(), entry))
                }
                Seen::Leave | Seen::Omit(_) => None,
            })
            .collect()
    }

    /// The paths of all entries, as text.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.entries().iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect()
    }

    /// The entry at a path.
    pub(crate) fn entry(&self, path: &str) -> &Entry {
        let found = self.entries().into_iter().find(|(at, _)| *at == path.as_bytes());
        found.unwrap_or_else(|| panic!("no entry {path} among {:?}", self.paths())).1
    }

    /// The file at a path.
    pub(crate) fn file(&self, path: &str) -> &dyn OpenFile {
        let found = self.seen.iter().find_map(|(at, seen)| match seen {
            Seen::File(_, file) if at == path.as_bytes() => Some(file),
            _ => None,
        });
        &**found.unwrap_or_else(|| panic!("no file {path}"))
    }

    /// What was omitted while walking.
    pub(crate) fn omitted(&self) -> Vec<&Omission> {
        self.seen
            .iter()
            .filter_map(|(_, seen)| match seen {
                Seen::Omit(omission) => Some(omission),
                _ => None,
            })
            .collect()
    }
}

/// Runs a program that the tests need; a missing one fails them with its name.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("these tests need the program `{program}`: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
    text
}

/// The tests create devices, owners and file systems.
pub(crate) fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests must be run by root: they create device nodes, owners and mounts"
    );
}

/// The same in memory: removing what was synced to a disk takes longer than any test.
pub(crate) fn scratch_in_memory() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir_in("/dev/shm").expect("these tests need a tmpfs on /dev/shm");
    let path = temp.path().to_path_buf();
    (temp, path)
}

/// A directory whose real path holds no symbolic link.
pub(crate) fn scratch() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().expect("a directory for the test");
    let path = temp.path().canonicalize().expect("its real path");
    (temp, path)
}

/// Makes `deep/`, and directories in it, one in the other, with a file in every hundredth.
pub(crate) fn make_deep(top: &Path, levels: usize) {
    use rustix::fs::{Mode, OFlags, openat};
    std::fs::create_dir(top.join("deep")).expect("mkdir");
    let flags = OFlags::DIRECTORY | OFlags::RDONLY;
    let mut at = rustix::fs::open(top.join("deep"), flags, Mode::empty()).expect("open");
    let name = "n".repeat(200);
    for level in 1..=levels {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("mkdirat");
        at = openat(&at, &name, flags, Mode::empty()).expect("openat");
        if level % 100 == 0 {
            let create = OFlags::CREATE | OFlags::WRONLY;
            let file = openat(&at, "z", create, Mode::RUSR | Mode::WUSR).expect("create");
            rustix::io::write(&file, b"deep").expect("write");
        }
    }
}

/// Removes it without recursion in this process.
pub(crate) fn remove_deep(path: &Path) {
    run("rm", &["-rf", &path.to_string_lossy()]);
}

/// An ACL as the kernel stores it: version 2, then tag, permissions and id of each entry.
pub(crate) fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
