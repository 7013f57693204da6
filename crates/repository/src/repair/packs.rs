//! What is whole in damaged packs, into new ones.

use std::collections::HashSet;
use std::sync::Arc;

use alidade_entity::Cx;

use crate::index_file::PackInIndex;
use crate::{
    BlobId, BlobKind, Error, FileId, FileKind, Indexed, Lock, Repository, Result, Writer,
    WriterOptions,
};

/// A damaged pack, and what of it can be saved.
#[derive(Debug)]
pub struct Salvage {
    /// The pack.
    pub pack: FileId,
    /// Blobs that are whole.
    pub whole: Vec<(BlobKind, BlobId)>,
    /// Blobs that are not whole here and nowhere else, and why.
    pub lost: Vec<(BlobKind, BlobId, String)>,
    /// Blobs that are not whole here, and are in another pack.
    pub elsewhere: u64,
}

/// What becomes of damaged packs.
#[derive(Debug)]
pub struct PackRepair {
    /// The packs.
    pub packs: Vec<Salvage>,
    indexed: Arc<Indexed>,
}

impl PackRepair {
    /// True when there is nothing to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }
}

impl Repository {
    /// Reads packs blob by blob and says what of them is whole. Nothing is written.
    ///
    /// # Errors
    /// [`Error::NotFound`] when no index names a pack; when the store fails; when the run was told to stop.
    pub fn plan_pack_repair(self: &Arc<Self>, cx: &Cx, packs: &[FileId]) -> Result<PackRepair> {
        let mut named: Vec<PackInIndex> = Vec::new();
        let indexed = Indexed::load_each(Arc::clone(self), cx, &mut |_, loaded| {
            match loaded {
                Ok(pack) if packs.contains(&pack.id) && named.iter().all(|it| it.id != pack.id) => {
                    named.push(pack.clone());
                }
                Ok(_) | Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        if let Some(unknown) = packs.iter().find(|id| named.iter().all(|pack| pack.id != **id)) {
            let what = format!("pack {unknown} in the index");
            return Err(Error::NotFound { what });
        }
        let indexed = Arc::new(indexed);
        let mut salvages = Vec::new();
        for pack in &named {
            salvages.push(salvage(cx, &indexed, pack, packs)?);
        }
        Ok(PackRepair { packs: salvages, indexed })
    }

    /// Stores what is whole of the packs again, makes the index name it there, and removes the packs. Killed
    /// anywhere, what was whole is named, and the repair can be run again.
    ///
    /// # Errors
    /// When the lock, which must be exclusive, does not hold; when the store fails.
    pub fn repair_packs(
        self: &Arc<Self>,
        cx: &Cx,
        lock: &Lock,
        plan: &PackRepair,
        options: WriterOptions,
    ) -> Result<()> {
        let gone: HashSet<FileId> = plan.packs.iter().map(|salvage| salvage.pack).collect();
        // Without these packs: what only they hold is new.
        let without = Indexed::load_without(Arc::clone(self), cx, &gone)?;
        let writer = Writer::new(Arc::new(without), lock, options)?;
        let mut plain = Vec::new();
        for (kind, id) in plan.packs.iter().flat_map(|salvage| &salvage.whole) {
            if *kind == BlobKind::Tree {
                let (mut json, _) = plan.indexed.tree_json(cx, *id)?;
                writer.save_tree_json(cx, *id, &mut *json)?;
                continue;
            }
            plan.indexed.read_blob(cx, *kind, id, &mut plain)?;
            writer.guarded(|| writer.save(cx, *kind, *id, &plain))?;
        }
        writer.abandon(cx)?;
        lock.check(cx)?;
        for pack in &gone {
            self.store().remove(FileKind::Pack, &pack.to_string())?;
        }
        // Now they are missing, and the index that names them goes.
        let rest = self.plan_index_repair(cx, false)?;
        self.repair_index(cx, lock, &rest)
    }
}

/// Reads every blob of a pack.
fn salvage(cx: &Cx, indexed: &Indexed, pack: &PackInIndex, damaged: &[FileId]) -> Result<Salvage> {
    let (whole, lost) = (Vec::new(), Vec::new());
    let mut salvage = Salvage { pack: pack.id, whole, lost, elsewhere: 0 };
    for blob in &pack.blobs {
        match indexed.check_copy(cx, &pack.id, blob) {
            Ok(()) => salvage.whole.push((blob.kind, blob.id)),
            Err(Error::Damaged { .. } | Error::NotFound { .. })
                if indexed.is_elsewhere(cx, blob, damaged) =>
            {
                salvage.elsewhere += 1;
            }
            Err(Error::Damaged { why, .. }) => salvage.lost.push((blob.kind, blob.id, why)),
            Err(Error::NotFound { what }) => {
                salvage.lost.push((blob.kind, blob.id, format!("{what} was not found")));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(salvage)
}
