//! A content of any shape as the tree that it is stored as.

use alidade_entity::{Basis, Class, Cx, DiskSource, Error, Result, Source, TreeSource};
use alidade_model::{ContentName, Counts, EntityName, Omissions, Shape};

use crate::copy::Copied;
use crate::disk_layout::name_of;
use crate::disk_tree::{DiskTree, Unreadable};
use crate::identity::stored_path;
use crate::placed::placed;
use crate::stored_sink::Cut;
use crate::stream_tree::{StreamTree, Vouched};

/// A content on its way in.
pub(crate) struct StoredForm {
    pub(crate) source: Box<dyn TreeSource>,
    pub(crate) cut: Cut,
    pub(crate) shape: Shape,
    /// Where it lies in the snapshot.
    pub(crate) path: Vec<u8>,
    found: Found,
}

/// What is known only when everything was read.
enum Found {
    Nothing,
    /// Of a disk: what did not read.
    Unreadable(Unreadable),
    /// Of a stream: whether its producer vouches for it.
    Vouched(Vouched),
}

impl StoredForm {
    /// The form in which an entity's content `data` is stored.
    pub(crate) fn of(entity: &EntityName, source: Source, basis: &Basis) -> Self {
        let content = ContentName::data();
        let below = |name: &[u8]| [&stored_path(entity), &b"/"[..], name].concat();
        match source {
            Source::Tree(tree) => Self {
                source: placed(entity, tree),
                cut: Cut::Content,
                shape: Shape::Tree,
                path: stored_path(entity),
                found: Found::Nothing,
            },
            Source::Disk(disk) => {
                let path = below(&name_of(&content, disk.size()));
                let since = matches!(basis, Basis::Since(_));
                let (tree, unreadable) = DiskTree::new(disk, since, &content, path.clone());
                Self {
                    source: placed(entity, Box::new(tree)),
                    cut: Cut::Cells { since },
                    shape: Shape::Disk,
                    path,
                    found: Found::Unreadable(unreadable),
                }
            }
            Source::Stream(stream) => {
                let (tree, vouched) = StreamTree::new(stream, &content);
                Self {
                    source: placed(entity, Box::new(tree)),
                    cut: Cut::Content,
                    shape: Shape::Stream,
                    path: below(content.as_str().as_bytes()),
                    found: Found::Vouched(vouched),
                }
            }
        }
    }

    /// False for a stream that nobody vouches for.
    pub(crate) fn is_vouched(&self) -> bool {
        match &self.found {
            Found::Vouched(vouched) => vouched.is_vouched(),
            Found::Nothing | Found::Unreadable(_) => true,
        }
    }

    /// What to say of what was copied: the files of a disk are one thing, and it is there whole or not at
    /// all, as a stream.
    ///
    /// # Errors
    /// When a content that must be whole is not.
    pub(crate) fn conclude(&self, copied: &mut Copied) -> Result<Omissions> {
        if self.shape == Shape::Tree {
            return Ok(Omissions::default());
        }
        if let Some(omission) = copied.omissions.named().first() {
            return Err(Error::new(Class::Failed, omission.reason.clone()));
        }
        let counts = copied.sink.counts;
        let is_new = counts.changed + counts.unchanged == 0;
        let is_same = counts.changed + counts.new == 0;
        copied.counts = Counts { files: 1, ..Counts::default() };
        if self.shape == Shape::Stream {
            // Nobody knew before how long it is.
            copied.bytes.total = copied.bytes.read;
        }
        copied.sink.counts = Counts {
            new: u64::from(is_new),
            changed: u64::from(!is_new && !is_same),
            unchanged: u64::from(is_same),
            ..Counts::default()
        };
        Ok(match &self.found {
            Found::Unreadable(unreadable) => unreadable.omissions(),
            Found::Nothing | Found::Vouched(_) => Omissions::default(),
        })
    }
}

/// The bytes of a disk that would be read.
///
/// # Errors
/// When the source cannot say.
pub(crate) fn to_read(cx: &Cx, disk: &dyn DiskSource) -> Result<u64> {
    let (mut bytes, mut from, mut extents) = (0, 0, Vec::new());
    loop {
        extents.clear();
        disk.extents(cx, from, &mut extents)?;
        let Some(last) = extents.last() else { return Ok(bytes) };
        from = last.at + last.len;
        let data = extents.iter().filter(|extent| extent.allocated);
        bytes += data.map(|extent| extent.len).sum::<u64>();
    }
}
