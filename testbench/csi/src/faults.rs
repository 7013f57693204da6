//! What goes wrong on purpose, switched on and off while the driver runs.
//!
//! The switches stand in a file that is read at every call. No file means that nothing goes wrong;
//! one that cannot be understood fails every call and says so. Calls are counted from the moment the
//! text of the file changed, by each process for itself.
//!
//! ```json
//! {
//!   "rules": [
//!     {"method": "CreateSnapshot", "slow_ms": 3000},
//!     {"method": "CreateVolume", "call": 2, "fail": "UNAVAILABLE"},
//!     {"method": "CreateVolume", "call": 1, "lose_answer": true},
//!     {"method": "GetMetadataDelta", "after_messages": 1, "fail": "ABORTED"}
//!   ],
//!   "snapshots_never_ready": true,
//!   "snapshots_ready_after_ms": 5000,
//!   "refuse_deletion": true
//! }
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fs, io};

use serde::Deserialize;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::answer::Answer;
use crate::snapshots::now;

/// The switches of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    file: Option<PathBuf>,
    seen: Arc<Mutex<Seen>>,
}

/// What the file said last, and the calls since then.
#[derive(Debug, Default)]
struct Seen {
    text: Vec<u8>,
    plan: Plan,
    /// By rule, the calls it has seen.
    calls: Vec<u64>,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Plan {
    rules: Vec<Rule>,
    snapshots_never_ready: bool,
    snapshots_ready_after_ms: u64,
    refuse_deletion: bool,
}

/// What happens to calls of a method.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// As the protocol calls it; `*` is every one.
    method: String,
    /// Which call, the first is 1; every one, if it says nothing.
    #[serde(default)]
    call: Option<u64>,
    #[serde(default)]
    slow_ms: u64,
    #[serde(default)]
    fail: Option<Word>,
    /// For a method that answers with a stream: fail after so many messages.
    #[serde(default)]
    after_messages: Option<usize>,
    /// Do the work, and then answer `UNAVAILABLE`.
    #[serde(default)]
    lose_answer: bool,
}

/// A code as gRPC spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Word(Code);

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        // There are seventeen, and `Ok` is none that a call can fail with.
        let codes = (1..=16).map(Code::from);
        let spelled = |code: &Code| format!("{code:?}").to_uppercase() == word.replace('_', "");
        let found = codes.into_iter().find(spelled);
        found.map(Self).ok_or_else(|| format!("`{word}` is no code of gRPC, such as ABORTED"))
    }
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    slow: Duration,
    fail: Option<Code>,
    breaks: Option<(usize, Code)>,
    loses_answer: bool,
}

impl Faults {
    /// The switches in this file, which need not be there.
    #[must_use]
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, seen: Arc::default() }
    }

    /// Reads the file if it changed, then asks.
    fn ask<T>(&self, question: impl FnOnce(&mut Seen) -> T) -> Answer<T> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match self.file.as_ref().map(fs::read) {
            None => Vec::new(),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Some(read) => read.map_err(|error| unreadable(&error))?,
        };
        if text != seen.text {
            let is_blank = text.iter().all(u8::is_ascii_whitespace);
            let plan = if is_blank { Ok(Plan::default()) } else { serde_json::from_slice(&text) };
            let plan = plan.map_err(|error| unreadable(&error))?;
            let calls = vec![0; plan.rules.len()];
            *seen = Seen { text, plan, calls };
        }
        Ok(question(&mut seen))
    }

    /// Counts a call, and says what happens to it.
    fn fate(&self, method: &str) -> Answer<Fate> {
        self.ask(|seen| {
            let mut fate = Fate::default();
            if seen.plan.refuse_deletion && method.starts_with("Delete") {
                fate.fail = Some(Code::FailedPrecondition);
            }
            for (rule, calls) in seen.plan.rules.iter().zip(&mut seen.calls) {
                if rule.method != "*" && rule.method != method {
                    continue;
                }
                *calls += 1;
                if rule.call.is_some_and(|call| call != *calls) {
                    continue;
                }
                fate.slow += Duration::from_millis(rule.slow_ms);
                fate.loses_answer |= rule.lose_answer;
                match (rule.fail, rule.after_messages) {
                    (Some(Word(code)), None) => fate.fail = Some(code),
                    (code, Some(messages)) => {
                        let code = code.map_or(Code::Unavailable, |Word(code)| code);
                        fate.breaks = Some((messages, code));
                    }
                    (None, None) => {}
                }
            }
            fate
        })
    }

    /// Whether a snapshot of this time can be used by now.
    pub(crate) fn is_ready(&self, created: i128) -> Answer<bool> {
        self.ask(|seen| {
            let wait = i128::from(seen.plan.snapshots_ready_after_ms) * 1_000_000;
            !seen.plan.snapshots_never_ready && now() >= created + wait
        })
    }
}

fn unreadable(error: &dyn std::error::Error) -> Status {
    Status::internal(format!("the switches for faults cannot be read: {error}"))
}

/// After how many messages a stream breaks, and how: travels with the request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Breaks(pub(crate) Option<(usize, Code)>);

/// Puts the switches in front of all services.
impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty { faults: self.clone(), inner }
    }
}

/// Services behind the switches.
#[derive(Clone, Debug)]
pub(crate) struct Faulty<S> {
    faults: Faults,
    inner: S,
}

impl<S> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that was found ready is the one that is called.
        let rest = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, rest);
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let fate = match self.faults.fate(&method) {
            Ok(fate) => fate,
            Err(refusal) => return Box::pin(async move { Ok(refusal.into_http()) }),
        };
        request.extensions_mut().insert(Breaks(fate.breaks));
        // By itself, so that it goes on when the caller has gone: a slow driver does so.
        let work = tokio::spawn(async move {
            tokio::time::sleep(fate.slow).await;
            if let Some(code) = fate.fail {
                return Ok(Status::new(code, "a fault that was asked for").into_http());
            }
            let answer = inner.call(request).await;
            if fate.loses_answer {
                return Ok(Status::unavailable("the answer was lost, as asked for").into_http());
            }
            answer
        });
        Box::pin(async move {
            work.await.unwrap_or_else(|error| {
                Ok(Status::internal(format!("the call did not end: {error}")).into_http())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        file: tempfile::NamedTempFile,
        faults: Faults,
    }

    fn bench(text: &str) -> Bench {
        let file = tempfile::NamedTempFile::new().unwrap();
        let faults = Faults::new(Some(file.path().to_owned()));
        let bench = Bench { file, faults };
        bench.says(text);
        bench
    }

    impl Bench {
        fn says(&self, text: &str) {
            fs::write(self.file.path(), text).unwrap();
        }

        fn fails(&self, method: &str) -> Option<Code> {
            self.faults.fate(method).unwrap().fail
        }
    }

    #[test]
    fn only_the_call_that_was_named_fails_and_a_new_text_counts_anew() {
        let rule = r#"{"rules": [{"method": "CreateVolume", "call": 2, "fail": "ABORTED"}]}"#;
        let bench = bench(rule);
        let three = || [(); 3].map(|()| bench.fails("CreateVolume"));
        assert_eq!(bench.fails("DeleteVolume"), None);
        assert_eq!(three(), [None, Some(Code::Aborted), None]);
        assert_eq!(three(), [None; 3]);
        bench.says(&format!("{rule} "));
        assert_eq!(three(), [None, Some(Code::Aborted), None]);
    }

    #[test]
    fn rules_add_up_and_a_star_is_every_method() {
        let bench = bench(
            r#"{"rules": [
                {"method": "*", "slow_ms": 5},
                {"method": "CreateSnapshot", "slow_ms": 20, "lose_answer": true},
                {"method": "GetMetadataDelta", "after_messages": 2, "fail": "ABORTED"}
            ]}"#,
        );
        let fate = |method| bench.faults.fate(method).unwrap();
        assert_eq!(fate("Probe").slow, Duration::from_millis(5));
        assert!(!fate("Probe").loses_answer);
        assert_eq!(fate("CreateSnapshot").slow, Duration::from_millis(25));
        assert!(fate("CreateSnapshot").loses_answer);
        let delta = fate("GetMetadataDelta");
        assert_eq!((delta.fail, delta.breaks), (None, Some((2, Code::Aborted))));
    }

    #[test]
    fn deletion_is_refused_and_snapshots_are_never_ready_until_the_switch_is_off() {
        let bench = bench(r#"{"refuse_deletion": true, "snapshots_never_ready": true}"#);
        assert_eq!(bench.fails("DeleteSnapshot"), Some(Code::FailedPrecondition));
        assert_eq!(bench.fails("CreateSnapshot"), None);
        assert!(!bench.faults.is_ready(0).unwrap());
        bench.says("");
        assert_eq!(bench.fails("DeleteSnapshot"), None);
        assert!(bench.faults.is_ready(0).unwrap());
        bench.says(r#"{"snapshots_ready_after_ms": 60000}"#);
        assert!(bench.faults.is_ready(0).unwrap());
        assert!(!bench.faults.is_ready(now()).unwrap());
    }

    #[test]
    fn a_file_that_is_not_understood_fails_every_call() {
        for text in [
            "{",
            r#"{"rule": []}"#,
            r#"{"rules": [{"method": "X", "fail": "NEVER"}]}"#,
            r#"{"rules": [{"method": "X", "fail": "OK"}]}"#,
            r#"{"rules": [{"slow_ms": 1}]}"#,
        ] {
            let refusal = bench(text).faults.fate("Probe").unwrap_err();
            assert!(refusal.message().starts_with("the switches for faults"), "{refusal}");
        }
        let gone = Faults::new(Some("/nonexistent/faults".into()));
        assert_eq!(gone.fate("Probe").unwrap(), Fate::default());
    }

    #[test]
    fn every_code_can_be_spelled() {
        for (word, code) in [
            ("CANCELLED", Code::Cancelled),
            ("UNKNOWN", Code::Unknown),
            ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
            ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
            ("UNAUTHENTICATED", Code::Unauthenticated),
        ] {
            assert_eq!(Word::try_from(word.to_owned()), Ok(Word(code)));
        }
    }
}
