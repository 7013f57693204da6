//! Outcomes as people read them.

use alidade_model::{Bytes, Consistency, Counts, Omissions, Outcome, Status, Traffic, Verb};

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::size::{counted, grouped, human};
use crate::text::{safe, safe_line};
use crate::when;

/// How many omissions are printed by name.
const NAMED: usize = 20;

/// A label and what stands beside it; further lines of the same thing have no label.
pub(crate) type Row = (&'static str, String);

impl App {
    /// Prints a head line and labelled rows below it.
    pub(crate) fn sheet(&self, head: &str, rows: &[Row]) -> Result<()> {
        self.out.line(head)?;
        for line in sheet_lines(rows) {
            self.out.line(&line)?;
        }
        Ok(())
    }

    /// What an outcome means for the exit code; damage and failure are told as errors, too.
    pub(crate) fn conclude(&self, outcome: &Outcome) -> Code {
        let code = code_of(outcome.status);
        let message = match (outcome.status, outcome.verb) {
            (Status::Done | Status::Omissions, _) => return code,
            (Status::Failed, _) => "nothing usable came of the run",
            (Status::Damaged, Verb::Check) => "the repository is damaged",
            (Status::Damaged, _) => "some of what is stored is damaged",
        };
        let hint = match outcome.verb {
            Verb::Check => {
                let repair = self.command(&[b"repair", b"index", b"--plan"]);
                format!(
                    "keep a copy of it where there is room, then see what can be saved: `{repair}`"
                )
            }
            Verb::Protect | Verb::Restore => self.check_hint(),
        };
        self.out.failure(&Failure::new(code, message).hint(hint));
        code
    }

    /// The rows of an outcome.
    pub(crate) fn outcome_rows(&self, outcome: &Outcome) -> Vec<Row> {
        let mut rows: Vec<Row> = vec![("status", outcome.status.word().to_owned())];
        if let Some(file) = &outcome.snapshot_file {
            rows.push(("snapshot", file.clone()));
        }
        if outcome.verb == Verb::Protect {
            rows.push(("compared with", compared(outcome)));
        }
        if outcome.verb != Verb::Check {
            rows.extend(count_rows(&outcome.counts));
        }
        rows.push(("bytes", byte_text(outcome.verb, &outcome.bytes)));
        if let Some(digest) = &outcome.digest {
            rows.push(("digest", format!("{digest} (SHA-256 over all entries)")));
        }
        if let Some(level) = outcome.consistency {
            rows.push(("consistency", consistency_text(level).to_owned()));
        }
        rows.extend(check_rows(outcome));
        rows.extend(outcome.traffic.as_ref().map(|traffic| ("requests", traffic_text(traffic))));
        rows.extend(labelled("left out", excluded_lines(outcome)));
        rows.extend(labelled("omissions", omission_lines(&outcome.omissions)));
        rows.extend(labelled("note", outcome.notes.iter().map(|note| safe_line(note)).collect()));
        rows.push(("time", when::duration(outcome.started, outcome.ended)));
        rows
    }
}

/// The exit code of a status.
pub(crate) fn code_of(status: Status) -> Code {
    match status {
        Status::Done => Code::Done,
        Status::Omissions => Code::Omissions,
        Status::Damaged => Code::Damaged,
        Status::Failed => Code::Failed,
    }
}

/// The rows as lines: labels as wide as the widest.
pub(crate) fn sheet_lines(rows: &[Row]) -> Vec<String> {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(label, text)| format!("  {label:width$}  {text}").trim_end().to_owned())
        .collect()
}

/// Lines under one label.
pub(crate) fn labelled(label: &'static str, lines: Vec<String>) -> Vec<Row> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(lines).collect()
}

/// Counts as rows.
pub(crate) fn count_rows(counts: &Counts) -> Vec<Row> {
    let mut parts = vec![
        counted(counts.files, "file", "files"),
        counted(counts.directories, "directory", "directories"),
        counted(counts.symlinks, "symlink", "symlinks"),
        counted(counts.specials, "special", "specials"),
    ];
    let more = [
        (counts.hard_links, counted(counts.hard_links, "hard link", "hard links")),
        (counts.sparse, counted(counts.sparse, "sparse file", "sparse files")),
    ];
    parts.extend(more.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text));
    let mut rows =
        vec![("entries", format!("{}: {}", grouped(counts.entries()), parts.join(", ")))];
    let mut odd = Vec::new();
    if counts.grew > 0 {
        let files = counted(counts.grew, "file", "files");
        odd.push(format!(
            "{files} grew meanwhile and are stored as large as they were when opened"
        ));
    }
    if counts.inconsistent > 0 {
        let files = counted(counts.inconsistent, "file", "files");
        odd.push(format!(
            "{files} changed while read twice: the stored content may never have been"
        ));
    }
    rows.extend(labelled("changing", odd));
    rows
}

fn compared(outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let files = format!(
        "{} new, {} changed, {} unchanged files",
        grouped(counts.new),
        grouped(counts.changed),
        grouped(counts.unchanged)
    );
    match &outcome.parent {
        None => format!("nothing, this is a full backup: {files}"),
        Some(parent) => format!("incremental since {}: {files}", short(parent)),
    }
}

/// The first digits of a file's id, enough to name it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Requests by kind, and bytes in both directions.
pub(crate) fn traffic_text(traffic: &Traffic) -> String {
    let kinds: Vec<String> = traffic
        .requests
        .iter()
        .map(|(kind, count)| format!("{} {kind}", grouped(*count)))
        .collect();
    let (sent, received) = (human(traffic.sent), human(traffic.received));
    let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
    format!("{kinds}; {sent} sent, {received} received")
}

fn byte_text(verb: Verb, bytes: &Bytes) -> String {
    match verb {
        Verb::Protect => format!(
            "{} in all, {} read, {} added, {} stored, {} deduplicated",
            human(bytes.total),
            human(bytes.read),
            human(bytes.added),
            human(bytes.stored),
            human(bytes.deduplicated)
        ),
        Verb::Restore => format!("{} in all, {} written", human(bytes.total), human(bytes.written)),
        Verb::Check => format!("{} read", human(bytes.read)),
    }
}

fn consistency_text(level: Consistency) -> &'static str {
    match level {
        Consistency::Torn => "torn: some files changed while they were read",
        Consistency::PerFile => "per file: each as it was at one instant, not all at the same",
        Consistency::Crash => "crash: all as it was at one instant",
    }
}

fn check_rows(outcome: &Outcome) -> Vec<Row> {
    let checks = &outcome.checks;
    let of_new =
        |done: u64| format!("{} of {} new blobs", grouped(done), grouped(checks.new_blobs));
    match outcome.verb {
        Verb::Protect => vec![
            ("self-checked", of_new(checks.self_checked)),
            ("read back", counted(checks.read_back, "file", "files")),
        ],
        Verb::Restore => vec![
            ("verified", counted(checks.verified, "blob", "blobs")),
            ("read back", counted(checks.read_back, "file", "files")),
        ],
        Verb::Check => vec![("verified", counted(checks.verified, "blob", "blobs"))],
    }
}

fn excluded_lines(outcome: &Outcome) -> Vec<String> {
    outcome
        .excluded
        .iter()
        .map(|(rule, count)| {
            format!("{}: {}", safe_line(rule), counted(*count, "entry", "entries"))
        })
        .collect()
}

/// All omissions counted by kind, then the first ones by name.
pub(crate) fn omission_lines(omissions: &Omissions) -> Vec<String> {
    if omissions.is_empty() {
        return vec!["none".to_owned()];
    }
    let kinds: Vec<String> = omissions
        .counts()
        .map(|(kind, count)| format!("{} {}", grouped(count), kind.word()))
        .collect();
    let mut lines = vec![format!("{}: {}", grouped(omissions.total()), kinds.join(", "))];
    for omission in omissions.named().iter().take(NAMED) {
        let (path, reason) = (safe(&omission.path), safe_line(&omission.reason));
        lines.push(format!("{path}: {}: {reason}", omission.kind.word()));
    }
    let shown = omissions.named().len().min(NAMED) as u64;
    if omissions.total() > shown {
        lines.push(format!("and {} more", grouped(omissions.total() - shown)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_model::{Omission, OmissionKind};

    #[test]
    fn omissions_are_counted_in_full_and_named_up_to_a_bound() {
        let mut omissions = Omissions::default();
        assert_eq!(omission_lines(&omissions), ["none"]);
        for n in 0..1500 {
            omissions.add(Omission {
                path: format!("/a\n{n}").into_bytes(),
                kind: OmissionKind::PermissionDenied,
                reason: "open it: permission denied".to_owned(),
            });
        }
        let lines = omission_lines(&omissions);
        assert_eq!(lines.len(), 2 + NAMED);
        assert_eq!(lines[0], "1,500: 1,500 permission-denied");
        assert_eq!(lines[1], "/a\\n0: permission-denied: open it: permission denied");
        assert_eq!(lines[21], "and 1,480 more");
    }

    #[test]
    fn labels_are_aligned_and_lines_without_text_have_no_blanks_at_their_end() {
        let rows = [("a", "x".to_owned()), ("bbb", String::new()), ("", "y".to_owned())];
        assert_eq!(sheet_lines(&rows), ["  a    x", "  bbb", "       y"]);
    }
}
