//! A plug that breaks one promise at a time: the suite must say which.

mod sinks;
mod sources;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alidade_entity::conformance::{Promise as P, Report};
use alidade_entity::{
    Basis, Cancel, Capability, Class, CopyOptions, Cursor, Cx, Delete, Ending, Error, Lease, Page,
    Params, ProtectedEntity, ProtectedEntityType, ReadOptions, Reading, RestorePlan, Result, Sink,
};
use alidade_model::{Component, ContentName, EntityId, EntityInfo, RunId, SnapshotId, TypeName};
use alidade_testkit::TestCx;
use alidade_testkit::plug::Producer;
use async_trait::async_trait;

use crate::plugs;

/// A good plug and the promise it is made to break; `None` breaks nothing.
struct Broken<T> {
    plug: T,
    breaks: Option<P>,
    calls: Arc<AtomicU64>,
}

impl<T> Broken<T> {
    fn new(plug: T, breaks: Option<P>) -> Self {
        Self { plug, breaks, calls: Arc::new(AtomicU64::new(0)) }
    }

    fn is(&self, promise: P) -> bool {
        self.breaks == Some(promise)
    }
}

fn broken(class: Class) -> Error {
    Error::new(class, "keep a promise that is broken on purpose")
}

/// A context that nobody cancels.
fn deaf() -> Cx {
    TestCx::seeded(0).cx().cancelled_by(Cancel::default())
}

#[async_trait]
impl<T: ProtectedEntityType> ProtectedEntityType for Broken<T> {
    fn name(&self) -> &TypeName {
        self.plug.name()
    }

    fn capability(&self) -> Capability {
        self.plug.capability()
    }

    async fn list(&self, cx: &Cx, after: Option<&Cursor>, limit: usize) -> Result<Page<EntityId>> {
        let limit = limit + usize::from(self.is(P::ListHonoursLimit));
        let mut page = self.plug.list(cx, after, limit).await?;
        if self.is(P::ListAscends) {
            page.items.reverse();
        }
        if self.is(P::ListContinues) {
            page.next = None;
        }
        Ok(page)
    }

    async fn open(&self, cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        let opened = self.plug.open(cx, id).await;
        match self.breaks {
            Some(P::ListedOpens | P::PresentOpens) => Err(broken(Class::NotFound)),
            Some(P::AbsentIsNotFound) => opened.map_err(|_| broken(Class::Failed)),
            breaks => {
                Ok(Arc::new(BrokenEntity { entity: opened?, breaks, calls: self.calls.clone() }))
            }
        }
    }

    async fn freeze(
        &self,
        cx: &Cx,
        ids: &[EntityId],
        run: &RunId,
        params: &Params,
    ) -> Result<Vec<SnapshotId>> {
        match self.breaks {
            Some(P::FreezeIsIdempotent) => {
                let call = self.calls.fetch_add(1, Ordering::Relaxed);
                let run = format!("{run}-{call}").parse().unwrap();
                self.plug.freeze(cx, ids, &run, params).await
            }
            Some(P::FreezeAbsentFails) => {
                self.plug.freeze(cx, ids, run, params).await.map_err(|_| broken(Class::Failed))
            }
            Some(P::UnsupportedIsSaid) => Ok(Vec::new()),
            _ => self.plug.freeze(cx, ids, run, params).await,
        }
    }

    async fn release(&self, cx: &Cx, run: &RunId) -> Result<()> {
        // Whatever the answer, nothing may stay frozen: the subject is written to later on.
        for call in 0..self.calls.load(Ordering::Relaxed) {
            let other = format!("{run}-{call}").parse().unwrap();
            self.plug.release(cx, &other).await?;
        }
        self.plug.release(cx, run).await?;
        match (self.breaks, run.as_str()) {
            (Some(P::ReleaseUnknownIsOk), "conformance-unknown")
            | (Some(P::ReleaseAfterFreeze), "conformance-freeze") => Err(broken(Class::NotFound)),
            _ => Ok(()),
        }
    }

    async fn plan(
        &self,
        cx: &Cx,
        from: &dyn ProtectedEntity,
        how: &CopyOptions,
    ) -> Result<RestorePlan> {
        let plan = self.plug.plan(cx, from, how).await;
        if self.is(P::SinkRefusesExisting) && plan.is_err() {
            let (from, options) = (from.id().clone(), how.clone());
            return Ok(RestorePlan { from, options, steps: Vec::new() });
        }
        plan
    }

    async fn sink(&self, cx: &Cx, plan: &RestorePlan) -> Result<Sink> {
        let sink = self.plug.sink(cx, plan).await?;
        Ok(match self.breaks {
            Some(breaks) => sinks::broken(sink, breaks),
            None => sink,
        })
    }
}

struct BrokenEntity {
    entity: Arc<dyn ProtectedEntity>,
    breaks: Option<P>,
    calls: Arc<AtomicU64>,
}

#[async_trait]
impl ProtectedEntity for BrokenEntity {
    fn id(&self) -> &EntityId {
        self.entity.id()
    }

    async fn info(&self, cx: &Cx) -> Result<EntityInfo> {
        let mut info = self.entity.info(cx).await?;
        if self.breaks == Some(P::InfoSpeaksOfItself) {
            info.contents.extend(info.contents.clone());
        }
        Ok(info)
    }

    async fn components(&self, cx: &Cx) -> Result<Vec<Component>> {
        let mut components = self.entity.components(cx).await?;
        if self.breaks == Some(P::ComponentsAreOthers) {
            components.push(Component { id: self.id().clone() });
        }
        Ok(components)
    }

    async fn snapshots(&self, cx: &Cx) -> Result<Vec<SnapshotId>> {
        match self.breaks {
            Some(P::FrozenOpens) => Ok(Vec::new()),
            _ => self.entity.snapshots(cx).await,
        }
    }

    async fn delete(&self, cx: &Cx, what: Delete) -> Result<()> {
        match self.breaks {
            Some(P::DeleteAbsentIsOk) => Err(broken(Class::NotFound)),
            Some(P::DeleteDeletes) => Ok(()),
            _ => self.entity.delete(cx, what).await,
        }
    }

    async fn read(&self, cx: &Cx, what: &ContentName, how: &ReadOptions) -> Result<Reading> {
        let data = ContentName::data();
        let mut reading = match self.breaks {
            Some(P::ContentsAreReadable) => return Err(broken(Class::Failed)),
            Some(P::UnknownContentIsNotFound) => self.entity.read(cx, &data, how).await?,
            _ => self.entity.read(cx, what, how).await?,
        };
        let Some(breaks) = self.breaks else { return Ok(reading) };
        let since = matches!(reading.basis, Basis::Since(_));
        reading.source = sources::broken(
            reading.source,
            breaks,
            since,
            self.calls.fetch_add(1, Ordering::Relaxed),
        );
        match (breaks, &mut reading.basis) {
            (P::UnknownBaseReadsFull, Basis::Full { why }) => why.clear(),
            (P::LeaseFinishes | P::BaseIsGiven, _) => {
                reading.lease = Box::new(BrokenLease { lease: reading.lease, breaks });
            }
            _ => {}
        }
        Ok(reading)
    }
}

struct BrokenLease {
    lease: Box<dyn Lease>,
    breaks: P,
}

impl Lease for BrokenLease {
    fn finish(self: Box<Self>) -> Result<Ending> {
        let ending = self.lease.finish()?;
        match self.breaks {
            P::LeaseFinishes => Err(broken(Class::Failed)),
            _ => Ok(Ending { next: None, ..ending }),
        }
    }
}

/// The reports on every plug, each made to break that promise; the quick ones first.
fn reports(breaks: Option<P>) -> impl Iterator<Item = Report> {
    let stream = |producer, fails| {
        move |cx: &Cx, breaks| {
            let streams = plugs::failing_stream(producer);
            plugs::check_failing_stream(cx, &Broken::new(streams, breaks), fails)
        }
    };
    let disk = |cx: &Cx, breaks| {
        let disks = plugs::changed_block_disk();
        plugs::check_changed_block_disk(cx, &Broken::new(disks.clone(), breaks), &disks)
    };
    let tree =
        |cx: &Cx, breaks| plugs::check_etag_tree(cx, &Broken::new(plugs::etag_tree(), breaks));
    type Check = Box<dyn Fn(&Cx, Option<P>) -> Report>;
    let plugs: [Check; 4] = [
        Box::new(stream(Producer::Succeeds, false)),
        Box::new(stream(Producer::ExitsBadlyAfter(70_000), true)),
        Box::new(disk),
        Box::new(tree),
    ];
    plugs.into_iter().map(move |plug| plug(TestCx::seeded(1).cx(), breaks))
}

#[test]
fn a_plug_that_breaks_nothing_is_still_found_good() {
    for report in reports(None) {
        assert_eq!(report.result(), Ok(()));
    }
}

#[test]
fn for_every_promise_a_plug_that_breaks_it_is_found_out() {
    let seen = |promise: &P| reports(Some(*promise)).any(|report| report.breaks(*promise));
    let unseen: Vec<_> = P::ALL.iter().filter(|promise| !seen(promise)).collect();
    assert!(unseen.is_empty(), "nobody noticed that these were broken: {unseen:?}");
}
