//! Writing a tree below a directory that is new or empty.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alidade_entity::{
    Carrier, Class, Cx, EntryEnd, EntryNo, Error, Piece, Place, Result, SinkEnding, TreeSink,
    Verdict, Want,
};
use alidade_model::{Checks, Counts, Entry, Kind, Metadata, Omission, OmissionKind, Omissions};
use rustix::fs::{
    Advice, AtFlags, FileType, Mode, fadvise, fdatasync, fsync, linkat, mkdirat, mknodat, openat,
    symlinkat, syncfs,
};
use rustix::io::Errno;

use super::content::hash_of;
use super::dir::{Dir, LISTING};
use super::dress::{Refusal, Target, bequeaths, disinherit, dress, undressed};
use super::links::{First, Links};
use super::part::{Part, State, copy_content, open_to_read, write_parts};
use super::slots::{OpenDirs, OpenParts};
use super::tally::words;
use super::walk::Stop;

/// How to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Care {
    /// Each file is on disk before it is complete.
    pub(crate) fsync: bool,
    /// Each entry is read again and compared.
    pub(crate) read_back: bool,
}

/// A tree being written.
pub(crate) struct FsSink {
    root: Arc<Dir>,
    care: Care,
    /// True when the target gives ACLs of its own to what is created in it.
    bequeaths: bool,
    dirs: OpenDirs,
    parts: OpenParts,
    tree: Mutex<Tree>,
    report: Mutex<Report>,
}

/// What was begun and is not done yet.
#[derive(Default)]
struct Tree {
    folders: HashMap<EntryNo, Arc<Folder>>,
    files: HashMap<EntryNo, Arc<Part>>,
    names: HashMap<EntryNo, Arc<Name>>,
    links: Links,
}

/// A directory that is not left yet.
struct Folder {
    dir: Arc<Dir>,
    metadata: Metadata,
    /// True when the target did not take it; then it takes nothing in it.
    is_lost: bool,
}

/// A further name of an inode, to be made when the first is settled.
struct Name {
    dir: Arc<Dir>,
    name: Vec<u8>,
    metadata: Metadata,
    first: First,
}

#[derive(Default)]
struct Report {
    omissions: Omissions,
    sparse: u64,
    read_back: u64,
}

impl FsSink {
    /// A sink below an empty directory.
    pub(crate) fn new(target: OwnedFd, care: Care) -> Self {
        Self {
            bequeaths: bequeaths(&target),
            root: Dir::root(target, b""),
            care,
            dirs: OpenDirs::default(),
            parts: OpenParts::default(),
            tree: Mutex::default(),
            report: Mutex::default(),
        }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> (&OpenDirs, &OpenParts) {
        (&self.dirs, &self.parts)
    }

    fn omit(&self, path: Vec<u8>, kind: OmissionKind, reason: String) {
        self.report().omissions.add(Omission { path, kind, reason });
    }

    fn refuse(&self, dir: &Dir, name: &[u8], refusals: Vec<Refusal>) {
        for refusal in refusals {
            self.omit(dir.path_of(name), OmissionKind::Unwritable, refusal.reason);
        }
    }

    /// Ends the copy, or, when it is about this entry alone, leaves the entry out.
    fn fail_or_omit(&self, dir: &Dir, name: &[u8], attempt: &str, error: Errno) -> Result<()> {
        let path = dir.path_of(name);
        if is_fatal(error) {
            return Err(Error::io(format!("{attempt} {}", String::from_utf8_lossy(&path)), error));
        }
        self.omit(path, OmissionKind::Unwritable, format!("{attempt}: {}", words(error)));
        Ok(())
    }

    fn begin_directory(&self, no: EntryNo, parent: &Arc<Dir>, entry: &Entry) -> Result<()> {
        let name = entry.name.as_slice();
        let made = self.dirs.reach(parent).and_then(|fd| mkdirat(&fd, name, Mode::RWXU));
        let dir = parent.child(name);
        let made = made.and_then(|()| self.disinherit_directory(parent, &dir));
        let is_lost = made.is_err();
        if let Err(error) = made {
            self.fail_or_omit(parent, name, "create directory", error)?;
        }
        let folder = Folder { dir, metadata: entry.metadata.clone(), is_lost };
        self.tree().folders.insert(no, Arc::new(folder));
        Ok(())
    }

    /// Directories just below the target may have inherited an ACL; those below them then do not.
    fn disinherit_directory(&self, parent: &Arc<Dir>, dir: &Dir) -> rustix::io::Result<()> {
        if self.bequeaths && Arc::ptr_eq(parent, &self.root) {
            let fd = openat(self.dirs.reach(dir)?, c".", LISTING, Mode::empty())?;
            disinherit(Target::Open(fd.as_fd()))?;
        }
        Ok(())
    }

    fn begin_leaf(&self, parent: &Arc<Dir>, entry: &Entry) -> Result<()> {
        let (name, metadata) = (entry.name.as_slice(), &entry.metadata);
        let made = self.dirs.reach(parent).and_then(|fd| make_leaf(&fd, name, metadata));
        match made {
            Ok(()) => self.finish_leaf(parent, entry),
            Err(error) => {
                let attempt = format!("create {}", metadata.kind.word());
                self.fail_or_omit(parent, name, &attempt, error)
            }
        }
    }

    fn finish_leaf(&self, parent: &Arc<Dir>, entry: &Entry) -> Result<()> {
        let name = entry.name.as_slice();
        let failed = |error| self.failed("write", parent, name, error);
        let fd = self.dirs.reach(parent).map_err(failed)?;
        let target = Target::Named(fd.as_fd(), name);
        if self.bequeaths && Arc::ptr_eq(parent, &self.root) {
            disinherit(target).map_err(failed)?;
        }
        let mut refusals = dress(target, &entry.metadata);
        if self.care.read_back {
            refusals.extend(undressed(target, &entry.metadata, &refusals).map_err(failed)?);
        }
        self.refuse(parent, name, refusals);
        Ok(())
    }

    fn failed(&self, attempt: &str, dir: &Dir, name: &[u8], error: Errno) -> Error {
        Error::io(format!("{attempt} {}", String::from_utf8_lossy(&dir.path_of(name))), error)
    }

    /// Begins another name of an inode; `None` when it is the first.
    fn begin_name(&self, no: EntryNo, parent: &Arc<Dir>, entry: &Entry) -> Result<Option<Want>> {
        let Some(first) = self.tree().links.first_of(&entry.metadata) else { return Ok(None) };
        let (name, metadata) = (entry.name.clone(), entry.metadata.clone());
        let name = Name { dir: Arc::clone(parent), name, metadata, first };
        if entry.metadata.kind == Kind::File {
            self.tree().names.insert(no, Arc::new(name));
        } else {
            self.make_name(&name)?;
        }
        Ok(Some(Want::Nothing))
    }

    fn make_name(&self, name: &Name) -> Result<()> {
        let first = &name.first;
        if first.part.as_ref().is_some_and(|part| !part.is_there()) {
            let text = first.dir.path_of(&first.name);
            let reason = format!("its first name {} is missing", String::from_utf8_lossy(&text));
            self.omit(name.dir.path_of(&name.name), OmissionKind::Unreadable, reason);
            return Ok(());
        }
        let linked = self.dirs.reach(&first.dir).and_then(|from| {
            let to = self.dirs.reach(&name.dir)?;
            linkat(&from, first.name.as_slice(), &to, name.name.as_slice(), AtFlags::empty())
        });
        match linked {
            Ok(()) => Ok(()),
            Err(error) if name.metadata.kind == Kind::File && !is_fatal(error) => {
                self.copy_name(name, error)
            }
            Err(error) => self.fail_or_omit(&name.dir, &name.name, "create hard link", error),
        }
    }

    /// Gives a name a content of its own, where the target has no hard links or no more of them.
    fn copy_name(&self, name: &Name, refused: Errno) -> Result<()> {
        let failed = |error| self.failed("copy to", &name.dir, &name.name, error);
        let dir = self.dirs.reach(&name.first.dir).map_err(failed)?;
        let from = open_to_read(&dir, &name.first.name).map_err(failed)?;
        let part = Part::new(Arc::clone(&name.dir), &name.name, false);
        let mut state = part.lock();
        let mut refusals = Vec::new();
        self.on_file(&part, &mut state, "create file", |state| {
            let to = part.open(state, self.open())?;
            copy_content(&from, &to)?;
            refusals = dress(Target::Open(to.as_fd()), &name.metadata);
            Ok(())
        })?;
        part.close(&mut state, &self.parts);
        if !state.is_lost {
            let reason =
                format!("create hard link: {}; it is kept as a file of its own", words(refused));
            let path = name.dir.path_of(&name.name);
            self.omit(path, OmissionKind::Unwritable, reason);
            self.refuse(&name.dir, &name.name, refusals);
        }
        Ok(())
    }

    /// Runs a step of writing a file; what fails for it alone gives it up.
    fn on_file(
        &self,
        part: &Arc<Part>,
        state: &mut State,
        attempt: &str,
        step: impl FnOnce(&mut State) -> rustix::io::Result<()>,
    ) -> Result<()> {
        if state.is_lost {
            return Ok(());
        }
        match step(state) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.fail_or_omit(&part.dir, &part.name, attempt, error)?;
                self.lose(part, state)
            }
        }
    }

    fn lose(&self, part: &Arc<Part>, state: &mut State) -> Result<()> {
        part.lose(state, self.open())
            .map_err(|error| self.failed("remove", &part.dir, &part.name, error))
    }

    /// Gives a file whose content is whole its size and metadata.
    fn complete_file(
        &self,
        cx: &Cx,
        (part, state): (&Arc<Part>, &mut State),
        metadata: &Metadata,
        verdict: Verdict,
    ) -> Result<()> {
        let size = state.written;
        if verdict != Verdict::Changed && size != metadata.size {
            let reason = format!("its content has {size} bytes, its entry says {}", metadata.size);
            self.omit(part.dir.path_of(&part.name), OmissionKind::Unreadable, reason);
            return self.lose(part, state);
        }
        let mut refusals = Vec::new();
        self.on_file(part, state, "write file", |state| {
            let fd = part.open(state, self.open())?;
            Part::extend(state, &fd)?;
            let target = Target::Open(fd.as_fd());
            if self.bequeaths && Arc::ptr_eq(&part.dir, &self.root) {
                disinherit(target)?;
            }
            refusals = dress(target, metadata);
            if self.care.fsync { fsync(&fd) } else { Ok(()) }
        })?;
        if state.is_lost {
            return Ok(());
        }
        if self.care.read_back {
            refusals.extend(self.read_back(cx, part, state, (metadata, &refusals))?);
        }
        self.refuse(&part.dir, &part.name, refusals);
        self.report().sparse += u64::from(state.has_holes);
        part.close(state, &self.parts);
        Ok(())
    }

    /// Reads a file from the disk again and compares content and metadata.
    fn read_back(
        &self,
        cx: &Cx,
        part: &Arc<Part>,
        state: &mut State,
        (metadata, refused): (&Metadata, &[Refusal]),
    ) -> Result<Vec<Refusal>> {
        let failed = |error| self.failed("read back", &part.dir, &part.name, error);
        let fd = part.open(state, self.open()).map_err(failed)?;
        // What is still in memory only would compare with itself.
        fdatasync(&fd).map_err(failed)?;
        fadvise(&fd, 0, None, Advice::DontNeed).map_err(failed)?;
        let found = hash_of(cx, &fd).map_err(|stop| match stop {
            Stop::Io(error) => failed(error),
            Stop::Run(error) => error,
        })?;
        if state.hash.take().is_some_and(|hash| hash.finish() != found) {
            let path = part.dir.path_of(&part.name);
            let path = String::from_utf8_lossy(&path);
            let attempt = format!("read back {path}, whose content is not what was written");
            return Err(Error::new(Class::Damaged, attempt));
        }
        let missing = undressed(Target::Open(fd.as_fd()), metadata, refused).map_err(failed)?;
        self.report().read_back += 1;
        Ok(missing)
    }

    fn part(&self, no: EntryNo) -> Result<Arc<Part>> {
        self.tree().files.get(&no).cloned().ok_or_else(|| unknown(no))
    }

    fn parent(&self, place: Place) -> Result<Arc<Folder>> {
        match place.parent {
            Some(no) => self.tree().folders.get(&no).cloned().ok_or_else(|| unknown(no)),
            None => Ok(Arc::new(Folder {
                dir: Arc::clone(&self.root),
                metadata: Metadata::of(Kind::Directory, 0o700),
                is_lost: false,
            })),
        }
    }

    fn leave_folder(&self, folder: &Folder) -> Result<()> {
        let (dir, name) = (folder.dir.parent().unwrap_or(&self.root), folder.dir.name());
        let failed = |error| self.failed("close directory", dir, name, error);
        let fd = self.dirs.reach(&folder.dir).map_err(failed)?;
        let fd = openat(&fd, c".", LISTING, Mode::empty()).map_err(failed)?;
        let target = Target::Open(fd.as_fd());
        let mut refusals = dress(target, &folder.metadata);
        if self.care.fsync {
            fsync(&fd).map_err(failed)?;
        }
        if self.care.read_back {
            refusals.extend(undressed(target, &folder.metadata, &refusals).map_err(failed)?);
        }
        self.refuse(dir, name, refusals);
        Ok(())
    }
}

impl TreeSink for FsSink {
    fn begin(&self, cx: &Cx, place: Place, entry: &Entry) -> Result<Want> {
        cx.check()?;
        let folder = self.parent(place)?;
        let (dir, metadata) = (&folder.dir, &entry.metadata);
        check_name(dir, &entry.name)?;
        let is_file = metadata.kind == Kind::File;
        if folder.is_lost {
            let reason = "its directory could not be created".to_owned();
            self.omit(dir.path_of(&entry.name), OmissionKind::Unwritable, reason);
            if metadata.kind == Kind::Directory {
                let dir = dir.child(&entry.name);
                let lost = Folder { dir, metadata: metadata.clone(), is_lost: true };
                self.tree().folders.insert(place.no, Arc::new(lost));
            }
            return Ok(Want::Nothing);
        }
        if metadata.kind == Kind::Directory {
            self.begin_directory(place.no, dir, entry)?;
            return Ok(Want::Nothing);
        }
        if metadata.is_hard_linked()
            && let Some(want) = self.begin_name(place.no, dir, entry)?
        {
            return Ok(want);
        }
        let part = is_file.then(|| Part::new(Arc::clone(dir), &entry.name, self.care.read_back));
        if metadata.is_hard_linked() {
            let mut first = First::new(dir, &entry.name, metadata);
            first.part.clone_from(&part);
            self.tree().links.add(metadata, first);
        }
        let Some(part) = part else {
            self.begin_leaf(dir, entry)?;
            return Ok(Want::Nothing);
        };
        self.tree().files.insert(place.no, part);
        Ok(Want::Content)
    }

    fn carrier(&self) -> Result<Box<dyn Carrier + '_>> {
        Ok(Box::new(FsCarrier { sink: self, current: None }))
    }

    fn takes_spans(&self) -> bool {
        // What is read back is compared with a hash over the content in its order.
        !self.care.read_back
    }

    fn settle(&self, _cx: &Cx, no: EntryNo) -> Result<()> {
        let name = {
            let mut tree = self.tree();
            tree.files.remove(&no);
            tree.names.remove(&no)
        };
        name.map_or(Ok(()), |name| self.make_name(&name))
    }

    fn leave(&self, _cx: &Cx, no: EntryNo) -> Result<()> {
        let folder = self.tree().folders.remove(&no).ok_or_else(|| unknown(no))?;
        if folder.is_lost { Ok(()) } else { self.leave_folder(&folder) }
    }

    fn omit(&self, _cx: &Cx, _omission: &Omission) -> Result<()> {
        // A file system has no place for it; the outcome does.
        Ok(())
    }

    fn finish(&self, cx: &Cx) -> Result<SinkEnding> {
        cx.check()?;
        let failed = |error| Error::io("write the target to its disk", error);
        let root = self.root.reach().map_err(failed)?;
        let root = openat(&root, c".", LISTING, Mode::empty()).map_err(failed)?;
        syncfs(&root).map_err(failed)?;
        let report = self.report();
        Ok(SinkEnding {
            omissions: report.omissions.clone(),
            checks: Checks { read_back: report.read_back, ..Checks::default() },
            counts: Counts { sparse: report.sparse, ..Counts::default() },
            ..SinkEnding::default()
        })
    }
}

/// One thread's way into the files that are written.
struct FsCarrier<'a> {
    sink: &'a FsSink,
    /// The file written to last, and where its next piece begins.
    current: Option<(EntryNo, Arc<Part>, u64)>,
}

impl FsCarrier<'_> {
    /// The file and, when this carrier wrote to it last, where its next piece begins.
    fn part(&self, no: EntryNo) -> Result<(Arc<Part>, Option<u64>)> {
        match &self.current {
            Some((current, part, at)) if *current == no => Ok((Arc::clone(part), Some(*at))),
            _ => Ok((self.sink.part(no)?, None)),
        }
    }

    /// Writes a piece, whose bytes come in parts.
    fn take(&mut self, cx: &Cx, no: EntryNo, piece: Piece, parts: &[&[u8]]) -> Result<()> {
        cx.check()?;
        let sink = self.sink;
        let (part, due) = self.part(no)?;
        let (at, len) = match piece {
            Piece::Data { at } => (at, parts.iter().map(|part| part.len() as u64).sum()),
            Piece::Hole(hole) => (hole.at, hole.len),
            Piece::Kept(_) => {
                let attempt = format!("keep a part of entry {}, which is new", no.0);
                return Err(Error::new(Class::Failed, attempt));
            }
        };
        if due.is_some_and(|due| due != at) {
            let attempt = format!("write entry {} at {at}, after {}", no.0, due.unwrap_or(0));
            return Err(Error::new(Class::Failed, attempt));
        }
        let end = at.checked_add(len);
        let fd = {
            let mut state = part.lock();
            let mut opened = None;
            sink.on_file(&part, &mut state, "write file", |state| {
                opened = Some(part.open(state, sink.open())?);
                Part::came(state, piece, end.ok_or(Errno::FBIG)?, parts);
                Ok(())
            })?;
            opened
        };
        // The lock is free meanwhile: other spans of the file are written at the same time.
        if let (Some(fd), Piece::Data { at }) = (fd, piece)
            && let Err(error) = write_parts(&fd, parts, at)
        {
            sink.on_file(&part, &mut part.lock(), "write file", |_state| Err(error))?;
        }
        self.current = Some((no, part, end.unwrap_or(u64::MAX)));
        Ok(())
    }
}

impl Carrier for FsCarrier<'_> {
    fn write(&mut self, cx: &Cx, no: EntryNo, piece: Piece, data: &[u8]) -> Result<()> {
        self.take(cx, no, piece, &[data])
    }

    fn write_parts(&mut self, cx: &Cx, no: EntryNo, at: u64, parts: &[&[u8]]) -> Result<()> {
        self.take(cx, no, Piece::Data { at }, parts)
    }

    fn restart(&mut self, cx: &Cx, no: EntryNo) -> Result<()> {
        cx.check()?;
        let (part, _) = self.part(no)?;
        self.current = None;
        let mut state = part.lock();
        self.sink.on_file(&part, &mut state, "write file again", |state| {
            part.open(state, self.sink.open())?;
            part.restart(state)
        })
    }

    fn end_span(&mut self, cx: &Cx, _no: EntryNo, _from: u64) -> Result<()> {
        self.current = None;
        cx.check()
    }

    fn complete(&mut self, cx: &Cx, no: EntryNo, end: EntryEnd) -> Result<()> {
        let (part, _) = self.part(no)?;
        self.current = None;
        let mut state = part.lock();
        if state.is_lost {
            return Ok(());
        }
        match end {
            EntryEnd::Whole(metadata, verdict) => {
                self.sink.complete_file(cx, (&part, &mut state), &metadata, verdict)
            }
            EntryEnd::Abandoned => self.sink.lose(&part, &mut state),
        }
    }

    fn flush(&mut self, cx: &Cx) -> Result<()> {
        cx.check()
    }
}

fn make_leaf(dir: &OwnedFd, name: &[u8], metadata: &Metadata) -> rustix::io::Result<()> {
    let kind = match metadata.kind {
        Kind::Symlink => return symlinkat(metadata.link_target.as_slice(), dir, name),
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::File | Kind::Directory => return Err(Errno::INVAL),
    };
    mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, metadata.rdev)
}

/// Refuses what is no single name: nothing outside of its directory may be reached by it.
fn check_name(dir: &Dir, name: &[u8]) -> Result<()> {
    let is_path = name.contains(&b'/') || name.contains(&0);
    if name.is_empty() || name == b"." || name == b".." || is_path {
        let (dir, name) = (dir.path(), String::from_utf8_lossy(name));
        let attempt = format!(
            "restore an entry of {} under the name `{name}`",
            String::from_utf8_lossy(&dir)
        );
        return Err(Error::new(Class::Damaged, attempt));
    }
    Ok(())
}

/// True for what will not go away with the next entry: a full or failing disk, or one that became
/// read-only.
fn is_fatal(error: Errno) -> bool {
    !matches!(
        error,
        Errno::EXIST
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::PERM
            | Errno::ACCESS
            | Errno::OPNOTSUPP
            | Errno::ILSEQ
            | Errno::LOOP
            | Errno::MLINK
            | Errno::OVERFLOW
            | Errno::FBIG
            | Errno::NOENT
            | Errno::NOTDIR
            | Errno::XDEV
    )
}

fn unknown(no: EntryNo) -> Error {
    Error::new(Class::Failed, format!("find entry {}, which was not begun or is settled", no.0))
}
