//! Trees that are written down, to be played through a sink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alidade_model::{
    Component, Consistency, ContentName, EntityId, EntityInfo, Entry, Hole, Kind, Metadata, Shape,
    SnapshotId, Time, Version, Xattr,
};
use async_trait::async_trait;

use super::Fidelity;
use crate::{
    Basis, Class, Cx, Delete, Ending, Error, Lease, OpenFile, Piece, ProtectedEntity, ReadFile,
    ReadOptions, Reading, Result, Shelf, Source, Span, TreeSource, Verdict, Visit,
};

/// Files from this size on are given in spans where the sink takes them.
pub(super) const SPANNED: u64 = 1 << 20;

/// A part of a file's content.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Data(Vec<u8>),
    Hole(u64),
}

impl Part {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::Hole(len) => *len,
        }
    }
}

/// What happens when a file is opened for the n-th time; the last one happens from then on.
#[derive(Clone, Debug)]
pub(super) enum Take {
    Vanished,
    Breaks(Metadata, Vec<Part>),
    Reads(Metadata, Vec<Part>, Verdict),
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Directory(Entry, Vec<Node>),
    File(Entry, Vec<Take>),
    Leaf(Entry),
}

impl Node {
    pub(super) fn entry(&self) -> &Entry {
        match self {
            Self::Directory(entry, _) | Self::File(entry, _) | Self::Leaf(entry) => entry,
        }
    }
}

/// A tree that is written down.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    pub(super) trail: Vec<Entry>,
    pub(super) nodes: Vec<Node>,
}

/// Makes nodes whose metadata the target can keep.
#[derive(Clone, Copy)]
pub(super) struct Pen {
    pub(super) fidelity: Fidelity,
}

impl Pen {
    pub(super) fn entry(&self, name: &[u8], kind: Kind) -> Entry {
        let mut metadata = Metadata::of(kind, if kind == Kind::Directory { 0o755 } else { 0o640 });
        (metadata.uid, metadata.gid) = self.fidelity.owner;
        metadata.mtime = Time::new(1_700_000_000, 123_456_789);
        metadata.ctime = metadata.mtime;
        metadata.atime = metadata.mtime;
        if kind == Kind::Symlink {
            metadata.mode = 0o777;
            metadata.link_target = b"some/where/\xFF else".to_vec();
        }
        if self.fidelity.xattrs && matches!(kind, Kind::File | Kind::Directory) {
            metadata.xattrs = vec![
                Xattr { name: b"user.alidade.a".to_vec(), value: b"\x00\xFFvalue".to_vec() },
                Xattr { name: b"user.alidade.b".to_vec(), value: Vec::new() },
            ];
        }
        Entry { name: name.to_vec(), metadata, version: Version::Unknown }
    }

    pub(super) fn directory(&self, name: &[u8], nodes: Vec<Node>) -> Node {
        Node::Directory(self.entry(name, Kind::Directory), nodes)
    }

    pub(super) fn leaf(&self, name: &[u8], kind: Kind) -> Node {
        Node::Leaf(self.entry(name, kind))
    }

    /// A file that reads the same whenever it is opened.
    pub(super) fn file(&self, name: &[u8], parts: Vec<Part>) -> Node {
        let take = self.take(parts, Verdict::Steady);
        self.played(name, vec![take])
    }

    /// A file whose every opening is written down; it was met with the size of the first.
    pub(super) fn played(&self, name: &[u8], takes: Vec<Take>) -> Node {
        let mut entry = self.entry(name, Kind::File);
        entry.metadata.size = match takes.first() {
            Some(Take::Reads(metadata, ..) | Take::Breaks(metadata, ..)) => metadata.size,
            Some(Take::Vanished) | None => 1,
        };
        Node::File(entry, takes)
    }

    pub(super) fn take(&self, parts: Vec<Part>, verdict: Verdict) -> Take {
        Take::Reads(self.sized(&parts), parts, verdict)
    }

    pub(super) fn breaks(&self, parts: Vec<Part>) -> Take {
        Take::Breaks(self.sized(&parts), parts)
    }

    fn sized(&self, parts: &[Part]) -> Metadata {
        let mut metadata = self.entry(b"x", Kind::File).metadata;
        metadata.size = parts.iter().map(Part::len).sum();
        metadata
    }
}

/// Bytes that are not zero and differ from place to place.
pub(super) fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at * 7 + at / 251 + usize::from(seed)) % 255 + 1).unwrap_or(1))
        .collect()
}

/// An entity that is written down: what sinks are planned from.
pub(super) struct ScriptEntity {
    pub(super) id: EntityId,
    pub(super) content: (ContentName, Shape),
    pub(super) size: u64,
    pub(super) script: Script,
}

#[async_trait]
impl ProtectedEntity for ScriptEntity {
    fn id(&self) -> &EntityId {
        &self.id
    }

    async fn info(&self, _cx: &Cx) -> Result<EntityInfo> {
        Ok(EntityInfo {
            id: self.id.clone(),
            name: "a scripted entity".to_owned(),
            size: Some(self.size),
            contents: vec![self.content.clone()],
        })
    }

    async fn components(&self, _cx: &Cx) -> Result<Vec<Component>> {
        Ok(Vec::new())
    }

    async fn snapshots(&self, _cx: &Cx) -> Result<Vec<SnapshotId>> {
        Ok(Vec::new())
    }

    async fn delete(&self, _cx: &Cx, _what: Delete) -> Result<()> {
        Err(Error::new(Class::Unsupported, "delete a scripted entity"))
    }

    async fn read(&self, _cx: &Cx, what: &ContentName, _how: &ReadOptions) -> Result<Reading> {
        if *what != self.content.0 {
            return Err(Error::new(Class::NotFound, format!("find the content `{what}`")));
        }
        if self.content.1 != Shape::Tree {
            return Err(Error::new(Class::Unsupported, "read a scripted disk or stream"));
        }
        Ok(Reading {
            source: Source::Tree(Box::new(self.script.play())),
            basis: Basis::Full { why: "a script has no base".to_owned() },
            lease: Box::new(NoLease),
        })
    }
}

struct NoLease;

impl Lease for NoLease {
    fn finish(self: Box<Self>) -> Result<Ending> {
        Ok(Ending::of(Consistency::Crash))
    }
}

impl Script {
    /// A source that plays this script, a few visits at a time.
    pub(super) fn play(&self) -> ScriptSource {
        let mut visits = VecDeque::new();
        for node in &self.nodes {
            lay_out(node, &mut visits);
        }
        ScriptSource { trail: self.trail.clone(), visits }
    }
}

fn lay_out(node: &Node, visits: &mut VecDeque<Visit>) {
    match node {
        Node::Directory(entry, nodes) => {
            visits.push_back(Visit::Enter(entry.clone()));
            for node in nodes {
                lay_out(node, visits);
            }
            visits.push_back(Visit::Leave);
        }
        Node::File(entry, takes) => {
            let file =
                ScriptFile { takes: Arc::from(takes.as_slice()), opened: AtomicUsize::new(0) };
            visits.push_back(Visit::File(entry.clone(), Box::new(file)));
        }
        Node::Leaf(entry) => visits.push_back(Visit::Leaf(entry.clone())),
    }
}

pub(super) struct ScriptSource {
    trail: Vec<Entry>,
    visits: VecDeque<Visit>,
}

impl TreeSource for ScriptSource {
    fn trail(&self) -> &[Entry] {
        &self.trail
    }

    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        cx.check()?;
        let some = self.visits.len().min(7);
        out.extend(self.visits.drain(..some));
        Ok(!self.visits.is_empty())
    }
}

struct ScriptFile {
    takes: Arc<[Take]>,
    opened: AtomicUsize,
}

impl OpenFile for ScriptFile {
    fn has_spans(&self) -> bool {
        match &*self.takes {
            [Take::Reads(metadata, _, Verdict::Steady)] => metadata.size >= SPANNED,
            _ => false,
        }
    }

    fn open(&self, cx: &Cx, _shelf: &mut Shelf, span: Span) -> Result<Box<dyn ReadFile>> {
        cx.check()?;
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let (metadata, parts, verdict) = match self.takes.get(number).or(self.takes.last()) {
            None | Some(Take::Vanished) => {
                return Err(Error::new(Class::NotFound, "open a scripted file"));
            }
            Some(Take::Breaks(metadata, parts)) => (metadata, parts, None),
            Some(Take::Reads(metadata, parts, verdict)) => (metadata, parts, Some(*verdict)),
        };
        let parts = clipped(parts, span).into();
        Ok(Box::new(ScriptRead { metadata: metadata.clone(), parts, at: span.from, verdict }))
    }

    fn holes(&self, _cx: &Cx) -> Result<Vec<Hole>> {
        let Some(Take::Reads(_, parts, _)) = self.takes.last() else {
            return Err(Error::new(Class::NotFound, "open a scripted file"));
        };
        let mut holes = Vec::new();
        let mut at = 0;
        for part in parts {
            if let Part::Hole(len) = part {
                holes.push(Hole { at, len: *len });
            }
            at += part.len();
        }
        Ok(holes)
    }
}

/// What of the parts lies in the span.
fn clipped(parts: &[Part], span: Span) -> Vec<Part> {
    let mut at = 0;
    let mut inside = Vec::new();
    for part in parts {
        let (from, to) = (span.from.max(at), span.to.min(at + part.len()));
        if from < to {
            let index = |place: u64| usize::try_from(place - at).unwrap_or(usize::MAX);
            inside.push(match part {
                Part::Hole(_) => Part::Hole(to - from),
                Part::Data(bytes) => Part::Data(bytes[index(from)..index(to)].to_vec()),
            });
        }
        at += part.len();
    }
    inside
}

struct ScriptRead {
    metadata: Metadata,
    parts: VecDeque<Part>,
    at: u64,
    verdict: Option<Verdict>,
}

impl ReadFile for ScriptRead {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn next_piece(&mut self, cx: &Cx, buf: &mut Vec<u8>) -> Result<Option<Piece>> {
        cx.check()?;
        buf.clear();
        let at = self.at;
        let Some(part) = self.parts.pop_front() else {
            return match self.verdict {
                Some(_) => Ok(None),
                None => Err(Error::new(Class::Failed, "read a scripted file")),
            };
        };
        self.at += part.len();
        match part {
            Part::Hole(len) => Ok(Some(Piece::Hole(Hole { at, len }))),
            Part::Data(bytes) => {
                buf.extend(bytes);
                Ok(Some(Piece::Data { at }))
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<Verdict> {
        self.verdict.ok_or_else(|| Error::new(Class::Failed, "finish a scripted file"))
    }
}
