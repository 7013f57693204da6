//! Listing, opening, freezing, releasing, deleting.

use std::sync::Arc;

use alidade_model::{EntityId, RunId, SnapshotId};

use super::{Promise as P, Report, Suite};
use crate::{Class, Delete, Params, ProtectedEntity};

/// More pages than any type under test has: a listing that is longer does not end.
const PAGES: usize = 10_000;
/// How many of the listed entities are opened.
const OPENED: usize = 20;

pub(super) fn check(suite: &Suite<'_>, report: &mut Report) {
    let whole = list(suite, report, 1_000);
    let single = list(suite, report, 1);
    report.expect(P::ListContinues, whole == single, || {
        format!("{} ids in large pages, {} in pages of one", whole.len(), single.len())
    });
    for id in whole.iter().take(OPENED) {
        let opened = suite.wait(suite.subject.kind.open(&suite.cx, id));
        if let Some(entity) = report.take(P::ListedOpens, "open what was listed", opened) {
            report.expect(P::ListedOpens, entity.id() == id, || {
                format!("{id} calls itself {}", entity.id())
            });
        }
    }
    let absent = suite.wait(suite.subject.kind.open(&suite.cx, &suite.subject.absent));
    report.fails(P::AbsentIsNotFound, "opening what is absent", absent, Class::NotFound);
    release(suite, report, P::ReleaseUnknownIsOk, &run("conformance-unknown"));
    freeze(suite, report);
    delete(suite, report);
}

fn list(suite: &Suite<'_>, report: &mut Report, limit: usize) -> Vec<EntityId> {
    let mut ids: Vec<EntityId> = Vec::new();
    let mut after = None;
    for _ in 0..PAGES {
        let page = suite.wait(suite.subject.kind.list(&suite.cx, after.as_ref(), limit));
        let Some(page) = report.take(P::ListContinues, "list entities", page) else {
            return ids;
        };
        report.expect(P::ListHonoursLimit, page.items.len() <= limit, || {
            format!("{} ids in a page of {limit}", page.items.len())
        });
        ids.extend(page.items);
        after = page.next;
        if after.is_none() {
            let ascends = ids.windows(2).find(|pair| pair[0] >= pair[1]);
            report.expect(P::ListAscends, ascends.is_none(), || format!("{ascends:?}"));
            return ids;
        }
    }
    report.expect(P::ListContinues, false, || format!("no end after {PAGES} pages of {limit}"));
    ids
}

fn release(suite: &Suite<'_>, report: &mut Report, promise: P, run: &RunId) {
    for _ in 0..2 {
        let released = suite.wait(suite.subject.kind.release(&suite.cx, run));
        report.take(promise, "release a run", released);
    }
}

fn freeze(suite: &Suite<'_>, report: &mut Report) {
    let kind = suite.subject.kind;
    let run_id = run("conformance-freeze");
    let params = Params::new();
    let ids = [suite.subject.present.clone()];
    let first = suite.wait(kind.freeze(&suite.cx, &ids, &run_id, &params));
    if !kind.capability().snapshot {
        report.fails(P::UnsupportedIsSaid, "freezing", first, Class::Unsupported);
        return;
    }
    let Some(first) = report.take(P::FreezeIsIdempotent, "freeze", first) else { return };
    let again = suite.wait(kind.freeze(&suite.cx, &ids, &run_id, &params));
    if let Some(again) = report.take(P::FreezeIsIdempotent, "freeze again", again) {
        report.expect(P::FreezeIsIdempotent, first == again && first.len() == 1, || {
            format!("first {first:?}, then {again:?}")
        });
    }
    let ids = [suite.subject.absent.clone()];
    let nothing = suite.wait(kind.freeze(&suite.cx, &ids, &run("conformance-absent"), &params));
    report.fails(P::FreezeAbsentFails, "freezing what is absent", nothing, Class::NotFound);
    for snapshot in &first {
        frozen(suite, report, snapshot);
    }
    release(suite, report, P::ReleaseAfterFreeze, &run_id);
    release(suite, report, P::ReleaseUnknownIsOk, &run("conformance-absent"));
    if kind.capability().delete
        && let Some(entity) = present(suite, report)
    {
        for snapshot in first {
            delete_twice(suite, report, &*entity, &Delete::Snapshot(snapshot.clone()));
            let left = suite.wait(entity.snapshots(&suite.cx));
            if let Some(left) = report.take(P::DeleteDeletes, "list snapshots", left) {
                report.expect(P::DeleteDeletes, !left.contains(&snapshot), || {
                    format!("snapshot {snapshot} is still listed")
                });
            }
        }
    }
}

fn frozen(suite: &Suite<'_>, report: &mut Report, snapshot: &SnapshotId) {
    let Some(entity) = present(suite, report) else { return };
    let listed = suite.wait(entity.snapshots(&suite.cx));
    if let Some(listed) = report.take(P::FrozenOpens, "list snapshots", listed) {
        report.expect(P::FrozenOpens, listed.contains(snapshot), || {
            format!("snapshot {snapshot} is not among {listed:?}")
        });
    }
    let id = entity.id().name.at(snapshot.clone());
    let opened = suite.wait(suite.subject.kind.open(&suite.cx, &id));
    if let Some(opened) = report.take(P::FrozenOpens, "open a native snapshot", opened) {
        report.expect(P::FrozenOpens, *opened.id() == id, || {
            format!("{id} calls itself {}", opened.id())
        });
    }
}

fn delete(suite: &Suite<'_>, report: &mut Report) {
    let Some(entity) = present(suite, report) else { return };
    let absent: SnapshotId =
        "conformance-absent".parse().expect("letters and a dash are a snapshot id");
    let delete = Delete::Snapshot(absent);
    if !suite.subject.kind.capability().delete {
        let refused = suite.wait(entity.delete(&suite.cx, delete));
        report.fails(P::UnsupportedIsSaid, "deleting", refused, Class::Unsupported);
        return;
    }
    delete_twice(suite, report, &*entity, &delete);
    let Some(id) = &suite.subject.disposable else { return };
    let opened = suite.wait(suite.subject.kind.open(&suite.cx, id));
    let Some(entity) = report.take(P::PresentOpens, "open the disposable entity", opened) else {
        return;
    };
    delete_twice(suite, report, &*entity, &Delete::Entity);
    let gone = suite.wait(suite.subject.kind.open(&suite.cx, id));
    report.fails(P::DeleteDeletes, "opening what was deleted", gone, Class::NotFound);
}

fn delete_twice(
    suite: &Suite<'_>,
    report: &mut Report,
    entity: &dyn ProtectedEntity,
    what: &Delete,
) {
    for _ in 0..2 {
        let deleted = suite.wait(entity.delete(&suite.cx, what.clone()));
        report.take(P::DeleteAbsentIsOk, "delete", deleted);
    }
}

/// Opens the entity that exists.
pub(super) fn present(suite: &Suite<'_>, report: &mut Report) -> Option<Arc<dyn ProtectedEntity>> {
    let id = &suite.subject.present;
    let opened = suite.wait(suite.subject.kind.open(&suite.cx, id));
    let entity = report.take(P::PresentOpens, "open what exists", opened)?;
    report.expect(P::PresentOpens, entity.id() == id, || {
        format!("{id} calls itself {}", entity.id())
    });
    Some(entity)
}

fn run(name: &str) -> RunId {
    name.parse().expect("letters and a dash are a run id")
}
