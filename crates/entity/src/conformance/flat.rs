//! A tree laid flat: what was written and what reads back, side by side.

use std::collections::BTreeMap;

use alidade_model::{Entry, Hole, Kind, Metadata, Time};

use super::script::{Node, Part, Script, Take};
use super::{Fidelity, Promise as P, Report, tree};
use crate::{Class, Cx, Error, OpenFile, Piece, Result, TreeSource, Verdict, Visit};

/// The largest file of any script, generously: what reads back is not read further.
const LARGEST: u64 = 1 << 26;

/// A tree: its entries by path.
pub(super) type Flat = BTreeMap<Vec<u8>, Thing>;

/// One entry of it.
pub(super) struct Thing {
    metadata: Metadata,
    content: Content,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    holes: Vec<Hole>,
}

impl Content {
    fn hole(&mut self, len: u64) {
        let at = self.bytes.len() as u64;
        match self.holes.last_mut() {
            Some(last) if last.at + last.len == at => last.len += len,
            _ => self.holes.push(Hole { at, len }),
        }
        let end = self.bytes.len().saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        self.bytes.resize(end, 0);
    }
}

/// What must be there after a script was copied.
pub(super) fn written(script: &Script) -> Flat {
    let mut flat = Flat::new();
    let mut path = Vec::new();
    for entry in &script.trail {
        path.push(entry.name.clone());
        let content = Content::default();
        flat.insert(path.join(&b'/'), Thing { metadata: entry.metadata.clone(), content });
    }
    for node in &script.nodes {
        write(node, &mut path, &mut flat);
    }
    flat
}

fn write(node: &Node, path: &mut Vec<Vec<u8>>, flat: &mut Flat) {
    path.push(node.entry().name.clone());
    let mut metadata = node.entry().metadata.clone();
    let mut content = Content::default();
    let mut there = true;
    match node {
        Node::Leaf(_) => {}
        Node::Directory(_, nodes) => nodes.iter().for_each(|node| write(node, path, flat)),
        Node::File(_, takes) => match last_take(takes) {
            Some((opened, parts)) => {
                metadata = opened.clone();
                for part in parts {
                    match part {
                        Part::Data(bytes) => content.bytes.extend(bytes),
                        Part::Hole(len) => content.hole(*len),
                    }
                }
            }
            None => there = false,
        },
    }
    if there {
        flat.insert(path.join(&b'/'), Thing { metadata, content });
    }
    path.pop();
}

/// What a file is in the end: a change is read again once; what is not there or breaks is abandoned.
fn last_take(takes: &[Take]) -> Option<(&Metadata, &[Part])> {
    let take = |number: usize| takes.get(number).or(takes.last());
    let take = match take(0) {
        Some(Take::Reads(_, _, Verdict::Changed)) => take(1),
        first => first,
    };
    match take {
        Some(Take::Reads(metadata, parts, _)) => Some((metadata, parts)),
        Some(Take::Vanished | Take::Breaks(..)) | None => None,
    }
}

/// What is there.
pub(super) fn read_back(cx: &Cx, report: &mut Report, source: &mut dyn TreeSource) -> Option<Flat> {
    let (_, visits) = tree::walk(cx, report, source)?;
    let mut flat = Flat::new();
    let mut path: Vec<Vec<u8>> = Vec::new();
    for visit in visits {
        match visit {
            Visit::Leave => {
                path.pop();
            }
            Visit::Omit(omission) => {
                report.expect(P::SinkKeepsEntries, false, || format!("{omission:?}"));
            }
            Visit::Enter(entry) => {
                add(&mut flat, &path, &entry, Content::default());
                path.push(entry.name);
            }
            Visit::Leaf(entry) => add(&mut flat, &path, &entry, Content::default()),
            Visit::File(entry, file) => {
                let content = report.take(P::SinkKeepsContent, "read it back", read(cx, &*file))?;
                add(&mut flat, &path, &entry, content);
            }
        }
    }
    Some(flat)
}

fn add(flat: &mut Flat, path: &[Vec<u8>], entry: &Entry, content: Content) {
    let path: Vec<_> = path.iter().chain([&entry.name]).cloned().collect();
    flat.insert(path.join(&b'/'), Thing { metadata: entry.metadata.clone(), content });
}

fn read(cx: &Cx, file: &dyn OpenFile) -> Result<Content> {
    let mut open = file.open_whole(cx)?;
    let mut content = Content::default();
    let mut buf = Vec::new();
    while let Some(piece) = open.next_piece(cx, &mut buf)? {
        match piece {
            Piece::Data { .. } => content.bytes.extend(&buf),
            Piece::Hole(hole) => content.hole(hole.len.min(LARGEST)),
            Piece::Kept(_) => {
                let attempt = "read a file whole, a part of which is only kept";
                return Err(Error::new(Class::Failed, attempt));
            }
        }
        if content.bytes.len() as u64 > LARGEST {
            break;
        }
    }
    open.finish()?;
    Ok(content)
}

/// Which promises a difference breaks, and what is not compared.
pub(super) struct Promises {
    pub(super) entries: P,
    pub(super) content: P,
    pub(super) fidelity: Fidelity,
}

/// Compares what was written with what is there.
pub(super) fn compare(
    report: &mut Report,
    name: &str,
    promises: &Promises,
    (written, found): (&Flat, &Flat),
) {
    for path in found.keys().filter(|path| !written.contains_key(*path)) {
        report.expect(promises.entries, false, || format!("{name}: {} is there", shown(path)));
    }
    for (path, thing) in written {
        let Some(other) = found.get(path) else {
            report.expect(promises.entries, false, || format!("{name}: {} is gone", shown(path)));
            continue;
        };
        let (meant, is) = (plain(thing, promises.fidelity), plain(other, promises.fidelity));
        report.expect(promises.entries, meant == is, || {
            format!("{name}: {}: {is:?}, not {meant:?}", shown(path))
        });
        let same = thing.content.bytes == other.content.bytes;
        report.expect(promises.content, same, || {
            let (wrote, read) = (thing.content.bytes.len(), other.content.bytes.len());
            format!("{name}: {}: {wrote} bytes became {read} others", shown(path))
        });
        if promises.fidelity.holes {
            let (wrote, read) = (&thing.content.holes, &other.content.holes);
            report.expect(P::SinkKeepsHoles, wrote == read, || {
                format!("{name}: {}: holes {wrote:?} became {read:?}", shown(path))
            });
        }
    }
    links(report, name, written, found);
}

/// Names of one inode stay names of one inode, where the target has inodes.
fn links(report: &mut Report, name: &str, written: &Flat, found: &Flat) {
    let mut inodes: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for (path, thing) in written.iter().filter(|(_, thing)| thing.metadata.is_hard_linked()) {
        let Some(other) = found.get(path) else { continue };
        if other.metadata.inode != 0 {
            let key = (thing.metadata.device, thing.metadata.inode);
            let first = *inodes.entry(key).or_insert(other.metadata.inode);
            report.expect(P::SinkKeepsEntries, first == other.metadata.inode, || {
                format!("{name}: {} is no longer a hard link", shown(path))
            });
        }
    }
}

/// The metadata that is compared.
fn plain(thing: &Thing, fidelity: Fidelity) -> Metadata {
    let mut metadata = thing.metadata.clone();
    if metadata.kind == Kind::Symlink {
        // Linux has no modes for symlinks.
        metadata.mode = 0o777;
    }
    (fidelity.erase)(&mut metadata);
    Metadata {
        inode: 0,
        device: 0,
        links: 1,
        atime: Time::default(),
        ctime: Time::default(),
        ..metadata
    }
}

fn shown(path: &[u8]) -> String {
    format!("`{}`", path.escape_ascii())
}
