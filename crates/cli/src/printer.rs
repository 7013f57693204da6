//! Standard output for results, standard error for everything else.

use std::cell::{Cell, RefCell};
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::args::OutputForm;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::text::safe_line;

/// Writes to the two streams. A reader that went away ends the writing quietly: whoever asks
/// [`Printer::is_open`] can stop early, and nothing fails because of it.
pub(crate) struct Printer {
    out: RefCell<BufWriter<Stdout>>,
    form: OutputForm,
    quiet: bool,
    colour: bool,
    closed: Cell<bool>,
    documented: Cell<bool>,
}

#[derive(Serialize)]
struct ErrorDoc<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    message: &'a str,
    hint: Option<&'a str>,
    code: u8,
    kind: &'static str,
}

impl Printer {
    /// A printer of that form. `colour` says whether colour is wanted; it is used on a terminal only.
    #[must_use]
    pub(crate) fn new(form: OutputForm, quiet: bool, colour: bool) -> Self {
        Self {
            out: RefCell::new(BufWriter::new(io::stdout())),
            form,
            quiet,
            colour: colour && io::stderr().is_terminal(),
            closed: Cell::new(false),
            documented: Cell::new(false),
        }
    }

    /// True when results are JSON.
    #[must_use]
    pub(crate) fn is_json(&self) -> bool {
        self.form == OutputForm::Json
    }

    /// False once nobody reads standard output any more.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.get()
    }

    /// Prints a line of a result.
    ///
    /// # Errors
    /// When standard output cannot be written, unless its reader went away.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        self.write(|out| writeln!(out, "{text}"))
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        self.write(|out| out.write_all(bytes))
    }

    /// Prints the one JSON document of this run.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<()> {
        self.documented.set(true);
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| Failure::of(Code::Failed, &error))?;
        self.line(&text)
    }

    /// Begins a JSON document whose last field is a list of any length, which is written item by
    /// item: `{HEAD…,"FIELD":[`.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub(crate) fn begin(&self, head: &impl Serialize, field: &str) -> Result<List<'_>> {
        self.documented.set(true);
        let head = compact(head)?;
        let head = head.strip_suffix('}').unwrap_or(&head);
        let comma = if head == "{" { "" } else { "," };
        self.write(|out| write!(out, "{head}{comma}\"{field}\":["))?;
        Ok(List { printer: self, first: true })
    }

    /// Tells people something on standard error, unless they asked for quiet.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub(crate) fn note(&self, text: &str) -> Result<()> {
        if self.quiet { Ok(()) } else { self.aside("note", text) }
    }

    /// Tells people something that they must see, quiet or not.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub(crate) fn must_see(&self, text: &str) -> Result<()> {
        self.aside("note", text)
    }

    /// Warns on standard error.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub(crate) fn warn(&self, text: &str) -> Result<()> {
        let text = safe_line(text);
        if self.is_json() {
            self.aside("warning", &text)
        } else {
            self.aside("warning", &format!("warning: {text}"))
        }
    }

    /// Prints a failure: `error:` and `hint:` on standard error and, with JSON, when no document was
    /// printed yet, one on standard output. Here nothing can fail any more.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.is_json() && !self.documented.get() {
            let fields = ErrorFields {
                message: &failure.message,
                hint: failure.hint.as_deref(),
                code: failure.code.number(),
                kind: failure.code.word(),
            };
            // A stream that cannot be written is no reason to say less on the other one.
            if self.document(&ErrorDoc { error: fields }).is_err() {
                self.closed.set(true);
            }
        }
        let (red, cyan, plain) =
            if self.colour { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        let mut text = format!("{red}error:{plain} {}\n", failure.message);
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("{cyan}hint:{plain} {hint}\n"));
        }
        if io::stderr().lock().write_all(text.as_bytes()).is_err() {
            self.closed.set(true);
        }
    }

    /// Writes out what is still in memory.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub(crate) fn finish(&self) -> Result<()> {
        self.write(Write::flush)
    }

    fn aside(&self, kind: &str, text: &str) -> Result<()> {
        self.finish()?;
        let line = if self.is_json() {
            let mut line = serde_json::Map::new();
            line.insert(kind.to_owned(), text.into());
            serde_json::Value::Object(line).to_string()
        } else {
            text.to_owned()
        };
        match writeln!(io::stderr().lock(), "{line}") {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::io("write to standard error", &error))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) -> Result<()> {
        if self.closed.get() {
            return Ok(());
        }
        match write(&mut self.out.borrow_mut()) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.closed.set(true);
                match error.kind() {
                    io::ErrorKind::BrokenPipe => Ok(()),
                    _ => Err(Failure::io("write to standard output", &error)),
                }
            }
        }
    }
}

/// A list in a JSON document, being written.
pub(crate) struct List<'a> {
    printer: &'a Printer,
    first: bool,
}

impl List<'_> {
    /// Writes one more item.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub(crate) fn item(&mut self, item: &impl Serialize) -> Result<()> {
        let text = compact(item)?;
        let before = if self.first { "\n" } else { ",\n" };
        self.first = false;
        self.printer.write(|out| write!(out, "{before}{text}"))
    }

    /// Ends list and document: `],TAIL…}`. A failure becomes the field `error`, so that a list that
    /// broke off does not look whole.
    ///
    /// # Errors
    /// The failure that was given, or as [`Printer::line`].
    pub(crate) fn end<T: Serialize>(self, tail: Result<T>) -> Result<T> {
        let text = match &tail {
            Ok(tail) => compact(tail)?,
            Err(failure) => compact(&ErrorDoc {
                error: ErrorFields {
                    message: &failure.message,
                    hint: failure.hint.as_deref(),
                    code: failure.code.number(),
                    kind: failure.code.word(),
                },
            })?,
        };
        let fields = text.strip_prefix('{').unwrap_or("}");
        let comma = if fields == "}" { "" } else { "," };
        self.printer.write(|out| writeln!(out, "\n]{comma}{fields}"))?;
        tail
    }
}

fn compact(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Failure::of(Code::Failed, &error))
}

/// Lines of cells as aligned columns: two spaces between, the last column as long as it is.
#[must_use]
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(at) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(columns(&rows), ["a    bb", "ccc"]);
    }
}
