//! `/.alidade/lost`: what a repair had to leave out of a snapshot.

use std::io::Read as _;
use std::sync::Arc;

use alidade_entity::Cx;
use alidade_model::{Omission, OmissionKind, Omissions, Origin, Sabotage, Selection};
use alidade_repository::{BlobId, Dress, Dressing, FileId, Indexed, Snapshot, Touched};

use crate::disk_layout::{CELL, STRETCH};
use crate::filter::{Filter, Verdict};
use crate::identity::{OWN_DIR, StoredSnapshot, is_repaired, renamed, stored_path};
use crate::record::OmissionsDoc;
use crate::stored_entity::{Blobs, StoredEntity, own_file};
use crate::{Error, Result, name};

/// The record; its name is the last one of the records.
const FILE: &str = "repaired";

/// Why something is missing.
const REASON: &str =
    "lost when the repository was damaged; `alidade repair` kept what was left of it";

const UNREACHED: &str =
    "the run that stored it did not come to its end: what it had not come to is not there";

/// Says of snapshots that a repair writes again what they are.
pub(crate) struct Marks<'a> {
    pub(crate) cx: &'a Cx,
}

impl Dress for Marks<'_> {
    fn records(&self) -> &str {
        OWN_DIR
    }

    fn dressing(
        &mut self,
        indexed: &Arc<Indexed>,
        (file, old): (FileId, &Snapshot),
        lost: &Touched,
    ) -> alidade_repository::Result<Dressing> {
        let mut all =
            recorded(self.cx, indexed, old.tree).or_else(unless_it_is_lost)?.unwrap_or_default();
        for path in &lost.named {
            let kind = OmissionKind::Unreadable;
            all.add(Omission { path: path.clone(), kind, reason: REASON.to_owned() });
        }
        all.add_unnamed(OmissionKind::Unreadable, lost.count - lost.named.len() as u64);
        let json = serde_json::to_vec(&OmissionsDoc::from(&all));
        let json = json.map_err(|error| system(format!("write the record {FILE}: {error}")))?;
        let stored = StoredSnapshot::read(file, old.clone());
        let is_disk = stored
            .is_ok_and(|stored| StoredEntity::new(stored, Arc::clone(indexed)).is_disk(self.cx));
        let cells = if is_disk { vec![CELL, STRETCH] } else { Vec::new() };
        Ok(Dressing { record: (FILE.to_owned(), json), cells })
    }

    fn dress(&mut self, new: &mut Snapshot) -> alidade_repository::Result<()> {
        let id = name::snapshot(self.cx).map_err(|error| system(error.to_string()))?;
        renamed(new, &id);
        Ok(())
    }
}

/// What a stored entity lacks of a selection, and a sentence about it when that is not known.
///
/// # Errors
/// When the record is there and does not read.
pub(crate) fn lacks(
    cx: &Cx,
    indexed: &Arc<Indexed>,
    stored: &StoredSnapshot,
    selection: &Selection,
) -> Result<(Omissions, Option<String>)> {
    let snapshot = &stored.snapshot;
    if stored.origin == Origin::Partial {
        let (path, kind) = (stored_path(&stored.entity), OmissionKind::Unreadable);
        let mut rest = Omissions::default();
        rest.add(Omission { path, kind, reason: UNREACHED.to_owned() });
        return Ok((rest, None));
    }
    if !is_repaired(snapshot) || Sabotage::HideRepair.is_on() {
        return Ok((Omissions::default(), None));
    }
    let Some(all) = recorded(cx, indexed, snapshot.tree)? else {
        let note = "this snapshot was repaired, and does not say what it lacks";
        return Ok((Omissions::default(), Some(note.to_owned())));
    };
    let (filter, mut chosen) = (Filter::of(selection)?, Omissions::default());
    if filter.takes_everything() {
        return Ok((all, None));
    }
    let named = all.named().iter();
    for omission in named.filter(|it| !matches!(filter.look(&it.path, true), Verdict::No(_))) {
        chosen.add(omission.clone());
    }
    let unnamed = all.total() - all.named().len() as u64;
    let note = (unnamed > 0).then(|| {
        format!("{unnamed} more parts of this snapshot were lost; whether chosen ones is not known")
    });
    Ok((chosen, note))
}

/// What the record of a snapshot with that tree says; `None` when there is none.
fn recorded(cx: &Cx, indexed: &Arc<Indexed>, tree: BlobId) -> Result<Option<Omissions>> {
    let Some(content) = own_file(cx, indexed, tree, FILE)? else { return Ok(None) };
    let mut blobs = Blobs::new(cx.clone(), Arc::clone(indexed), content);
    let mut text = Vec::new();
    let read = blobs.by_ref().take(64 << 20).read_to_end(&mut text);
    read.map_err(|error| blobs.explain(&error))?;
    let what = format!("{OWN_DIR}/{FILE}");
    let doc: OmissionsDoc =
        serde_json::from_slice(&text).map_err(|source| Error::Record { what, source })?;
    doc.read().map(Some)
}

/// A record that is itself lost says nothing; every other failure is one.
fn unless_it_is_lost(error: Error) -> alidade_repository::Result<Option<Omissions>> {
    use alidade_repository::Error as Failed;
    match error {
        Error::Repository(Failed::Damaged { .. } | Failed::NotFound { .. }) => Ok(None),
        Error::Repository(error) => Err(error),
        error => Err(system(error.to_string())),
    }
}

fn system(attempt: String) -> alidade_repository::Error {
    alidade_repository::Error::System { attempt }
}
