//! An entity: what it says about itself, and its contents.

use std::collections::BTreeSet;

use alidade_model::{ContentName, Shape};

use super::{Promise as P, Report, Suite, control, disk, stream, tree};
use crate::{Base, Basis, Class, Lease, ProtectedEntity, ReadOptions, Reading, Result, Source};

pub(super) fn check(suite: &Suite<'_>, report: &mut Report) {
    let Some(entity) = control::present(suite, report) else { return };
    let info = suite.wait(entity.info(&suite.cx));
    let Some(info) = report.take(P::InfoSpeaksOfItself, "ask for the info", info) else { return };
    let names: BTreeSet<_> = info.contents.iter().map(|(name, _)| name).collect();
    let itself = info.id == *entity.id() && names.len() == info.contents.len();
    report.expect(P::InfoSpeaksOfItself, itself, || format!("{info:?} of {}", entity.id()));
    components(suite, report, &*entity);
    let unknown = suite.wait(entity.read(
        &suite.cx,
        &ContentName::new("conformance-unknown"),
        &ReadOptions::default(),
    ));
    report.fails(P::UnknownContentIsNotFound, "reading it", unknown, Class::NotFound);
    for (name, shape) in &info.contents {
        let content = Content { suite, entity: &*entity, name };
        unknown_base(&content, report);
        match shape {
            Shape::Tree => tree::check(&content, report),
            Shape::Disk => disk::check(&content, report),
            Shape::Stream => stream::check(&content, report),
        }
    }
}

fn components(suite: &Suite<'_>, report: &mut Report, entity: &dyn ProtectedEntity) {
    let parts = suite.wait(entity.components(&suite.cx));
    let Some(parts) = report.take(P::ComponentsAreOthers, "discover components", parts) else {
        return;
    };
    let others: BTreeSet<_> = parts.iter().map(|part| &part.id).collect();
    let held = others.len() == parts.len() && !others.contains(entity.id());
    report.expect(P::ComponentsAreOthers, held, || format!("{parts:?}"));
}

fn unknown_base(content: &Content<'_>, report: &mut Report) {
    let base = Base(b"conformance: no source ever gave this base".to_vec());
    let read = content.read(Some(base));
    let Some(reading) = report.take(P::UnknownBaseReadsFull, "read since it", read) else { return };
    let full = matches!(&reading.basis, Basis::Full { why } if !why.is_empty());
    report.expect(P::UnknownBaseReadsFull, full, || format!("{:?}", reading.basis));
}

/// One content under test.
pub(super) struct Content<'a> {
    pub(super) suite: &'a Suite<'a>,
    entity: &'a dyn ProtectedEntity,
    pub(super) name: &'a ContentName,
}

impl Content<'_> {
    /// Opens it.
    pub(super) fn read(&self, base: Option<Base>) -> Result<Reading> {
        let how = ReadOptions { base, ..ReadOptions::default() };
        self.suite.wait(self.entity.read(&self.suite.cx, self.name, &how))
    }

    /// Opens all of it and notes whether that worked.
    pub(super) fn open(&self, report: &mut Report) -> Option<Reading> {
        report.take(P::ContentsAreReadable, "open a content", self.read(None))
    }
}

/// Notes that a content came in another shape than the info gave.
pub(super) fn misshapen(report: &mut Report, found: &Source) {
    let shape = match found {
        Source::Tree(_) => Shape::Tree,
        Source::Disk(_) => Shape::Disk,
        Source::Stream(_) => Shape::Stream,
    };
    report.expect(P::ContentsAreReadable, false, || format!("it is a {}", shape.word()));
}

/// Ends a reading and notes whether that worked.
pub(super) fn finish(report: &mut Report, lease: Box<dyn Lease>) -> Option<crate::Ending> {
    report.take(P::LeaseFinishes, "end the reading", lease.finish())
}
