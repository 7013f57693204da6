//! What every plug must do, as a suite that any plug runs with one line.
//!
//! [`check`] drives a type through its control plane, reads every content of one of its entities,
//! and, where the subject says how, creates entities and reads them back. It returns a [`Report`]
//! whose failures name the [`Promise`] that was broken; [`assert_conforms`] is the line for tests.
//!
//! The suite freezes, releases and deletes what the [`Subject`] names, and creates what it is told to;
//! it expects that nobody else touches those entities meanwhile. It cannot see memory: that a walk
//! does not grow with a directory is for the tests of the plug. It runs its own small runtime and
//! must not be called from within another.
//!
//! Start at [`Subject`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use alidade_model::{ContentName, EntityId, Metadata, Shape};

use crate::{Class, CopyOptions, Cx, ProtectedEntityType, Reading, Result, Sink};

mod control;
mod copy;
mod disk;
mod entity;
mod flat;
mod promise;
mod script;
mod sink;
mod stream;
mod tree;

pub use promise::Promise;
pub use sink::{check_disk_sink, check_stream_sink, check_tree_sink};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which one.
    pub promise: Promise,
    /// What was found instead.
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}; found: {}", self.promise, self.promise, self.found)
    }
}

/// What the suite found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    asked: BTreeMap<Promise, u64>,
    failures: Vec<Failure>,
}

/// How many failures of one promise are kept: the first say enough.
const FAILURES_KEPT: usize = 5;

impl Report {
    /// The broken promises, in the order in which they were found, the first few of each.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// True when that promise was broken.
    #[must_use]
    pub fn breaks(&self, promise: Promise) -> bool {
        self.failures.iter().any(|failure| failure.promise == promise)
    }

    /// How often each promise was put to the test; one that is missing was not tested at all.
    #[must_use]
    pub fn asked(&self) -> &BTreeMap<Promise, u64> {
        &self.asked
    }

    /// The report as a result.
    ///
    /// # Errors
    /// The broken promises, when there are any.
    pub fn result(self) -> std::result::Result<(), Vec<Failure>> {
        if self.failures.is_empty() { Ok(()) } else { Err(self.failures) }
    }

    /// Adds what another part of the suite found.
    fn join(&mut self, other: Self) {
        for (promise, times) in other.asked {
            *self.asked.entry(promise).or_insert(0) += times;
        }
        self.failures.extend(other.failures);
    }

    /// Notes whether a promise held; `found` says what was found when it did not.
    fn expect(&mut self, promise: Promise, held: bool, found: impl FnOnce() -> String) {
        *self.asked.entry(promise).or_insert(0) += 1;
        let kept = self.failures.iter().filter(|failure| failure.promise == promise).count();
        if !held && kept < FAILURES_KEPT {
            self.failures.push(Failure { promise, found: found() });
        }
    }

    /// Notes that something worked, and hands it on.
    fn take<T>(&mut self, promise: Promise, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.expect(promise, true, String::new);
                Some(value)
            }
            Err(error) => {
                self.expect(promise, false, || format!("{what}: {}", error.chain()));
                None
            }
        }
    }

    /// Notes whether something failed in the expected way.
    fn fails<T>(&mut self, promise: Promise, what: &str, result: Result<T>, class: Class) {
        match result {
            Ok(_) => self.expect(promise, false, || format!("{what} succeeded")),
            Err(error) => self.expect(promise, error.class() == class, || {
                format!("{what} failed as {:?}: {}", error.class(), error.chain())
            }),
        }
    }
}

/// What is put to the test.
pub struct Subject<'a> {
    /// The plug.
    pub kind: &'a dyn ProtectedEntityType,
    /// An entity of that type that exists and that nobody changes meanwhile.
    pub present: EntityId,
    /// An id of that type that stands for nothing.
    pub absent: EntityId,
    /// An entity that may be deleted, where the type deletes.
    pub disposable: Option<EntityId>,
    /// Contents of `present` whose producer fails.
    pub failing: BTreeSet<ContentName>,
    /// Changes some bytes of a disk content of `present` and says which ranges were written.
    #[allow(clippy::type_complexity, reason = "a name would say less than the signature")]
    pub change: Option<&'a dyn Fn(&ContentName) -> Vec<Range<u64>>>,
    /// How to create entities, where the type can.
    pub creates: Option<Creates<'a>>,
}

impl<'a> Subject<'a> {
    /// A subject that is only listed, opened, frozen and read.
    #[must_use]
    pub fn new(kind: &'a dyn ProtectedEntityType, present: EntityId, absent: EntityId) -> Self {
        Self {
            kind,
            present,
            absent,
            disposable: None,
            failing: BTreeSet::new(),
            change: None,
            creates: None,
        }
    }
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("present", &self.present)
            .field("absent", &self.absent)
            .finish_non_exhaustive()
    }
}

/// How a type creates entities.
pub struct Creates<'a> {
    /// The id under which the scripted entity is handed to `plan`.
    pub from: EntityId,
    /// Names a target that does not exist yet, and the id of the entity that will be there. Another
    /// one at each call; the number counts the calls.
    #[allow(clippy::type_complexity, reason = "a name would say less than the signature")]
    pub target: &'a dyn Fn(usize) -> (CopyOptions, EntityId),
    /// The content to read back.
    pub content: ContentName,
    /// The shape of that content and of the sink.
    pub shape: Shape,
    /// What the target keeps.
    pub fidelity: Fidelity,
}

/// What a target keeps of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Fidelity {
    /// Erases from metadata what the target cannot keep; applied to both sides before they are
    /// compared. Inode, device, link count, access and change times are never compared.
    pub erase: fn(&mut Metadata),
    /// Owner and group of everything that is written: numbers the target may give away.
    pub owner: (u32, u32),
    /// Whether extended attributes are written.
    pub xattrs: bool,
    /// Whether holes read back as holes.
    pub holes: bool,
}

impl Fidelity {
    /// A target that keeps everything.
    #[must_use]
    pub fn full() -> Self {
        Self { erase: |_| {}, owner: (1_000, 1_001), xattrs: true, holes: true }
    }
}

/// A target that is open for writing, and the way to read it back.
pub struct Target<'a> {
    /// Where to write.
    pub sink: Sink,
    /// Opens what was written, after the sink was finished or dropped; `None` when nothing is there.
    pub read_back: ReadBack<'a>,
}

/// Opens what was written to a target.
pub type ReadBack<'a> = Box<dyn FnOnce(&Cx) -> Result<Option<Reading>> + 'a>;

/// Puts a plug to the test.
#[must_use]
pub fn check(cx: &Cx, subject: &Subject<'_>) -> Report {
    let mut report = Report::default();
    let suite = Suite::new(cx, subject);
    control::check(&suite, &mut report);
    entity::check(&suite, &mut report);
    sink::check(&suite, &mut report);
    report
}

/// Puts a plug to the test, and panics with all that is broken.
///
/// # Panics
/// When a promise is broken.
pub fn assert_conforms(cx: &Cx, subject: &Subject<'_>) {
    if let Err(failures) = check(cx, subject).result() {
        let lines: Vec<String> = failures.iter().map(Failure::to_string).collect();
        panic!("{subject:?} breaks its promises:\n{}", lines.join("\n"));
    }
}

/// A run of the suite: what is tested, and the runtime its async calls run on.
struct Suite<'a> {
    cx: Cx,
    subject: &'a Subject<'a>,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Suite<'a> {
    fn new(cx: &Cx, subject: &'a Subject<'a>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a current-thread runtime needs next to nothing of the system");
        Self { cx: cx.clone(), subject, runtime }
    }

    fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

/// The same context, told to stop already.
fn cancelled(cx: &Cx) -> Cx {
    let cancel = crate::Cancel::default();
    cancel.cancel();
    cx.cancelled_by(cancel)
}
