//! The walk through a live tree.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use alidade_entity::{Cx, Error, Result, TreeSource, Visit};
use alidade_model::{Entry, Kind, Metadata, Omission, OmissionKind, Sabotage};
use rustix::fs::{Mode, OFlags, Statx, openat, readlinkat};
use rustix::io::Errno;

use super::attributes::{self, Object};
use super::dir::{Dir, LISTING, names_of, shortened};
use super::file::FoundFile;
use super::filter::{Filter, Scope};
use super::inode::keeps_inodes;
use super::level::{Level, Levels};
use super::listing::{Listed, Lister};
use super::marker;
use super::metadata::{device_of, identity_of, kind_of, look, look_at, metadata_of, version_of};
use super::tally::{Tally, unreadable, unreadable_attribute};
use super::workdir::WorkDir;

/// Visits per batch.
const BATCH: usize = 256;

/// Bytes of extended attributes after which a batch is full.
const BATCH_BYTES: usize = 1024 * 1024;

/// What a walk may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for names that were listed and not yet visited, over all levels.
    pub names: usize,
    /// Directories open at once, at least two.
    pub directories: usize,
}

impl Default for Limits {
    /// 16 MiB hold about 250,000 names, so that directories of a million are listed four times;
    /// 128 directories are an eighth of the smallest usual limit of a process.
    fn default() -> Self {
        Self { names: 16 * 1024 * 1024, directories: 128 }
    }
}

/// A name, and the open directory it is in.
type Next = (Listed, Arc<OwnedFd>);

/// Why something was not finished.
pub(crate) enum Stop {
    /// The system refused it.
    Io(Errno),
    /// The run was told to stop.
    Run(Error),
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}

/// A walk through a live tree, depth first, names ascending by byte.
pub(crate) struct Walk {
    tally: Arc<Tally>,
    filter: Filter,
    lister: Lister,
    levels: Levels,
    workdir: WorkDir,
    trail: Vec<Entry>,
    /// Absolute path of the directory that is being visited; empty for `/`.
    path: Vec<u8>,
    anchor: Arc<Dir>,
    root_device: u64,
    /// By file system: whether it keeps inode numbers.
    keeps_inodes: HashMap<u64, bool>,
    /// Bytes of extended attributes in this batch.
    payload: usize,
    /// False until the root was listed: until then a failure is the walk's.
    root_is_met: bool,
    /// True when a file was left out, for [`Sabotage::SkipFile`].
    has_skipped: bool,
    done: bool,
}

impl Walk {
    /// Begins a walk at an absolute path, which must be there.
    pub(crate) fn new(
        path: &[u8],
        filter: Filter,
        limits: Limits,
        tally: Arc<Tally>,
    ) -> Result<Self> {
        let text = String::from_utf8_lossy(path).into_owned();
        let failed = |error: Errno| Error::io(format!("open {text}"), error);
        let names: Vec<&[u8]> = names_of(path).collect();
        let (last, above) = match names.split_last() {
            Some((last, above)) => (Some(*last), above),
            None => (None, names.as_slice()),
        };
        let (anchor, trail) = open_trail(above, &tally).map_err(failed)?;
        let above_path: Vec<u8> = above.iter().flat_map(|name| [b"/", *name].concat()).collect();
        let mut walk = Self {
            levels: Levels::new(limits),
            anchor: Dir::root(anchor, &above_path),
            lister: Lister::new(),
            workdir: WorkDir::default(),
            trail,
            path: above_path,
            root_device: 0,
            keeps_inodes: HashMap::new(),
            payload: 0,
            root_is_met: false,
            has_skipped: false,
            done: false,
            tally,
            filter,
        };
        walk.begin(last, path).map_err(failed)?;
        Ok(walk)
    }

    /// Puts the level on the stack that holds the root: `/` itself, or the directory the root is in,
    /// of which only the root's name is visited.
    fn begin(&mut self, name: Option<&[u8]>, path: &[u8]) -> rustix::io::Result<()> {
        let handle = self.anchor.reach()?;
        let stat = match name {
            Some(name) => look_at(&handle, name)?,
            None => look(&handle)?,
        };
        self.root_device = device_of(&stat);
        let top = look(&handle)?;
        let scope = self.filter.root_scope(path);
        let mut level = Level::new(Arc::clone(&self.anchor), identity_of(&top), scope);
        level.marker = marker::find(&self.filter.markers, &handle);
        level.keeps_inodes = self.keeps_inodes_on(&handle, device_of(&top));
        match name {
            Some(name) => level.visit_only(name, handle),
            None => level.open_with(Arc::new(openat(&handle, c".", LISTING, Mode::empty())?)),
        }
        self.levels.push(level);
        Ok(())
    }

    /// Goes one step on: lists, visits a name, or leaves.
    fn step(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<()> {
        let Some(level) = self.levels.top() else {
            self.done = true;
            return self.report_paths_not_met();
        };
        if level.is_used_up() {
            self.leave(out);
            return Ok(());
        }
        match self.next_name(cx) {
            Ok(Some((listed, fd))) => self.visit(&listed, &fd, out),
            Ok(None) => Ok(()),
            Err(Stop::Run(error)) => Err(error),
            Err(Stop::Io(error)) => {
                self.levels.give_up_top();
                let omission = unreadable(self.here(), "list the directory", error);
                self.fail_or_omit(omission, error, out)
            }
        }
    }

    /// The next name of the directory on top and a descriptor of it; `None` when it was only listed.
    fn next_name(&mut self, cx: &Cx) -> std::result::Result<Option<Next>, Stop> {
        let fd = self.levels.open_top()?;
        if self.levels.list_top(cx, &mut self.lister)? {
            self.root_is_met = true;
            return Ok(None);
        }
        Ok(self.levels.next_name().map(|name| (name, fd)))
    }

    fn leave(&mut self, out: &mut Vec<Visit>) {
        if let Some(level) = self.levels.pop()
            && level.announced
        {
            out.push(Visit::Leave);
            self.path.truncate(level.path_length);
        }
    }

    fn visit(&mut self, listed: &Listed, fd: &Arc<OwnedFd>, out: &mut Vec<Visit>) -> Result<()> {
        let length = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(&listed.name);
        let depth = self.levels.depth();
        let visited = self.consider(listed, fd, out);
        if self.levels.depth() == depth {
            self.path.truncate(length);
        } else if let Some(level) = self.levels.top_mut() {
            level.path_length = length;
        }
        visited
    }

    /// Decides about a name, looks at it, and visits it.
    fn consider(&mut self, listed: &Listed, fd: &Arc<OwnedFd>, out: &mut Vec<Visit>) -> Result<()> {
        let name = &*listed.name;
        let Some(level) = self.levels.top() else { return Ok(()) };
        let (directory, marked) = (level.scope, level.marker);
        if let Some(marker) = marked.map(|at| &self.filter.markers[at])
            && marker.name != name
        {
            self.tally.exclude(self.filter.rule_name(marker.rule));
            return Ok(());
        }
        let scope = self.filter.scope(&self.path, directory);
        if scope == Scope::Outside {
            return Ok(());
        }
        if let Some(rule) = self.filter.excludes_path(&self.path) {
            self.tally.exclude(&rule);
            return Ok(());
        }
        if listed.is_directory && self.filter.includes(&self.path, true) {
            // One look is enough, at what was opened. What does not open is looked at by its name.
            if let Ok(opened) = self.open_directory(fd, name) {
                self.entered(name, opened, scope, out);
                return Ok(());
            }
        }
        let stat = match look_at(fd, name) {
            Ok(stat) => stat,
            Err(error) => {
                let omission = unreadable(self.here(), "look at it", error);
                return self.fail_or_omit(omission, error, out);
            }
        };
        let Some(kind) = kind_of(&stat) else {
            let reason = "it is of a kind that no tree holds".to_owned();
            let kind = OmissionKind::Unrepresentable;
            out.push(Visit::Omit(Omission { path: self.here(), kind, reason }));
            return Ok(());
        };
        if !self.filter.includes(&self.path, kind == Kind::Directory) {
            return Ok(());
        }
        if kind == Kind::Directory {
            return self.enter(name, fd, (&stat, scope), out);
        }
        // A path that is meant leads through it, and it is no directory: reported at the end.
        if scope == Scope::Inside {
            self.visit_leaf(name, fd, (&stat, kind), out);
        }
        Ok(())
    }

    /// Visits anything but a directory.
    fn visit_leaf(
        &mut self,
        name: &[u8],
        fd: &Arc<OwnedFd>,
        (stat, kind): (&Statx, Kind),
        out: &mut Vec<Visit>,
    ) {
        let elsewhere = device_of(stat) != self.root_device;
        let rule = self.filter.one_file_system().filter(|_| elsewhere);
        let too_large = || self.filter.excludes_size(stat.stx_size);
        let rule = rule.or_else(|| if kind == Kind::File { too_large() } else { None });
        if let Some(rule) = rule {
            self.tally.exclude(self.filter.rule_name(rule));
            return;
        }
        let mut metadata = metadata_of(stat, kind, &self.tally.owners);
        if kind == Kind::Symlink {
            match readlinkat(fd, name, Vec::new()) {
                Ok(target) => metadata.link_target = target.into_bytes(),
                Err(error) => {
                    out.push(Visit::Omit(unreadable(self.here(), "read the symbolic link", error)));
                    return;
                }
            }
        }
        let is_here = self.workdir.enter(fd);
        let object = if is_here { Object::Here(name) } else { Object::Named(fd.as_fd(), name) };
        let failed = self.read_attributes(object, &mut metadata);
        let Some(level) = self.levels.top() else { return };
        let keeps = level.keeps_inodes && level.identity.0 == device_of(stat);
        let version = version_of(&metadata, keeps);
        let entry = Entry { name: name.to_vec(), metadata, version };
        if Sabotage::SkipFile.is_on() && kind == Kind::File && !self.has_skipped {
            self.has_skipped = true;
            return;
        }
        out.push(if kind == Kind::File {
            let file = FoundFile::new(&level.dir, name, failed, &self.tally);
            Visit::File(entry, Box::new(file))
        } else {
            Visit::Leaf(entry)
        });
    }

    /// Visits a directory and, when it can be opened, puts it on the stack.
    fn enter(
        &mut self,
        name: &[u8],
        parent: &Arc<OwnedFd>,
        (stat, scope): (&Statx, Scope),
        out: &mut Vec<Visit>,
    ) -> Result<()> {
        match self.open_directory(parent, name) {
            Ok(opened) => {
                self.entered(name, opened, scope, out);
                Ok(())
            }
            Err(error) => {
                let omission = unreadable(self.here(), "open the directory", error);
                if matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) {
                    let gone = Omission { kind: OmissionKind::Vanished, ..omission };
                    return self.fail_or_omit(gone, error, out);
                }
                if !self.root_is_met {
                    return self.fail_or_omit(omission, error, out);
                }
                let entry = self.directory_entry(name, stat, Object::Named(parent.as_fd(), name));
                out.push(Visit::Enter(entry));
                let omitted = self.fail_or_omit(omission, error, out);
                out.push(Visit::Leave);
                omitted
            }
        }
    }

    /// Visits a directory that was opened, and puts it on the stack.
    fn entered(
        &mut self,
        name: &[u8],
        (fd, stat): (OwnedFd, Statx),
        scope: Scope,
        out: &mut Vec<Visit>,
    ) {
        let entry = self.directory_entry(name, &stat, Object::Open(fd.as_fd()));
        out.push(Visit::Enter(entry));
        let rule = self.filter.one_file_system();
        if let Some(rule) = rule.filter(|_| device_of(&stat) != self.root_device) {
            self.tally.exclude(self.filter.rule_name(rule));
            out.push(Visit::Leave);
            return;
        }
        let Some(above) = self.levels.top() else { return };
        let mut level = Level::new(above.dir.child(name), identity_of(&stat), scope);
        level.announced = true;
        level.marker = marker::find(&self.filter.markers, &fd);
        level.keeps_inodes = self.keeps_inodes_on(&fd, device_of(&stat));
        level.open_with(Arc::new(fd));
        self.levels.push(level);
    }

    /// Opens a directory to list it, without a trace of that where the system permits it, and looks
    /// at it.
    fn open_directory(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
    ) -> rustix::io::Result<(OwnedFd, Statx)> {
        loop {
            let opened = match openat(parent, name, LISTING | OFlags::NOATIME, Mode::empty()) {
                Err(Errno::PERM) => openat(parent, name, LISTING, Mode::empty()),
                opened => opened,
            };
            match opened {
                Err(Errno::MFILE | Errno::NFILE) if self.levels.close_one() => {}
                opened => return opened.and_then(|fd| look(&fd).map(|stat| (fd, stat))),
            }
        }
    }

    fn directory_entry(&mut self, name: &[u8], stat: &Statx, object: Object<'_>) -> Entry {
        let mut metadata = metadata_of(stat, Kind::Directory, &self.tally.owners);
        self.read_attributes(object, &mut metadata);
        let version = version_of(&metadata, false);
        Entry { name: name.to_vec(), metadata, version }
    }

    /// Adds the extended attributes; returns the names of those that could not be read.
    fn read_attributes(&mut self, object: Object<'_>, metadata: &mut Metadata) -> Vec<Vec<u8>> {
        let read = attributes::read(object);
        self.payload += read.found.iter().map(|x| x.name.len() + x.value.len()).sum::<usize>();
        metadata.xattrs = read.found;
        read.failed
            .into_iter()
            .map(|(name, error)| {
                self.tally.omit(unreadable_attribute(self.here(), &name, error));
                name
            })
            .collect()
    }

    fn keeps_inodes_on(&mut self, fd: &OwnedFd, device: u64) -> bool {
        // A file system that cannot be asked is not vouched for.
        *self.keeps_inodes.entry(device).or_insert_with(|| keeps_inodes(fd).unwrap_or(false))
    }

    /// Reports an entry that cannot be read; when it is the root, the walk fails.
    fn fail_or_omit(&self, omission: Omission, error: Errno, out: &mut Vec<Visit>) -> Result<()> {
        if self.root_is_met {
            let denied = omission.kind == OmissionKind::PermissionDenied;
            if !(denied && Sabotage::SwallowPermissionError.is_on()) {
                out.push(Visit::Omit(omission));
            }
            return Ok(());
        }
        Err(Error::io(format!("read {}", String::from_utf8_lossy(&omission.path)), error))
    }

    /// The path that is being visited, for reports.
    fn here(&self) -> Vec<u8> {
        if self.path.is_empty() { b"/".to_vec() } else { shortened(self.path.clone()) }
    }

    /// Reports paths that were meant by name and that no walk can meet.
    fn report_paths_not_met(&self) -> Result<()> {
        let top = self.anchor.path();
        for only in self.filter.only() {
            let names: Vec<&[u8]> = names_of(only).collect();
            let skip = names_of(&top).count();
            let Some((last, above)) = names.split_last().filter(|_| names.len() > skip) else {
                continue;
            };
            let dir =
                above[skip..].iter().fold(Arc::clone(&self.anchor), |dir, name| dir.child(name));
            let looked = dir.reach().and_then(|fd| look_at(&*fd, last));
            // What may not be entered was reported where the walk met it.
            if let Err(error) = looked
                && error != Errno::ACCESS
            {
                let path = shortened(only.clone());
                self.tally.omit(unreadable(path, "look for what was named", error));
            }
        }
        Ok(())
    }
}

impl TreeSource for Walk {
    fn trail(&self) -> &[Entry] {
        &self.trail
    }

    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        cx.check()?;
        self.payload = 0;
        let begin = out.len();
        let mut stepped = Ok(());
        while stepped.is_ok()
            && !self.done
            && out.len() - begin < BATCH
            && self.payload < BATCH_BYTES
        {
            stepped = self.step(cx, out);
        }
        self.workdir.leave();
        stepped.map(|()| !self.done)
    }
}

/// Opens the directories that lead to the root, following symbolic links, and describes each.
fn open_trail(names: &[&[u8]], tally: &Tally) -> rustix::io::Result<(OwnedFd, Vec<Entry>)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(c"/", flags, Mode::empty())?;
    let mut trail = Vec::new();
    let mut path = Vec::new();
    for name in names {
        at = openat(&at, *name, flags, Mode::empty())?;
        path.extend_from_slice(&[b"/", *name].concat());
        let stat = look(&at)?;
        let mut metadata = metadata_of(&stat, Kind::Directory, &tally.owners);
        let read = attributes::read(Object::Named(at.as_fd(), b"."));
        for (attribute, error) in read.failed {
            tally.omit(unreadable_attribute(shortened(path.clone()), &attribute, error));
        }
        metadata.xattrs = read.found;
        let version = version_of(&metadata, false);
        trail.push(Entry { name: name.to_vec(), metadata, version });
    }
    Ok((at, trail))
}
