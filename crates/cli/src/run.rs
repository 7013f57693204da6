//! From a command line to an exit code.

use clap::Parser;
use clap::error::ErrorKind;

use crate::app::{App, Parts};
use crate::args::{CommandLine, OutputForm, Verb};
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::printer::Printer;

/// Runs what was typed, prints what came of it, and says what the process should end with.
pub async fn main_with(parts: Parts) -> Code {
    let line = match CommandLine::try_parse_from(&parts.arguments) {
        Ok(line) => line,
        Err(error) => return refuse(&parts, &error),
    };
    let mut app = App::new(parts, line.global);
    let ended = match forbidden(&app, &line.verb) {
        Some(failure) => Err(failure),
        None => run(&app, &line.verb).await,
    };
    let tidied = app.tidy();
    // Of two failures the first is told; what stays in the directory, the next run removes.
    let ended = ended.and_then(|code| tidied.map(|()| code));
    let ended = ended.and_then(|code| app.out.finish().map(|()| code));
    match ended {
        Ok(code) => code,
        Err(failure) => {
            app.out.failure(&failure);
            // The error was told; that its document cannot be written has no one to be told to.
            match app.out.finish() {
                Ok(()) => failure.code,
                Err(second) => failure.code.and(second.code),
            }
        }
    }
}

async fn run(app: &App, verb: &Verb) -> Result<Code> {
    match verb {
        Verb::Init(verb) => verb.run(app),
        Verb::Protect(verb) => verb.run(app).await,
        Verb::Types(verb) => verb.run(app),
        Verb::List(verb) => verb.run(app),
        Verb::Snapshots(verb) => verb.run(app),
        Verb::Show(verb) => verb.run(app),
        Verb::Ls(verb) => verb.run(app),
        Verb::Cat(verb) => verb.run(app),
        Verb::Find(verb) => verb.run(app),
        Verb::Diff(verb) => verb.run(app),
        Verb::Restore(verb) => verb.run(app).await,
        Verb::Copy(verb) => verb.run(app),
        Verb::Check(verb) => verb.run(app),
        Verb::Repair(verb) => verb.run(app),
        Verb::Doctor(verb) => verb.run(app),
        Verb::Runs(verb) => verb.run(app),
        Verb::Key(verb) => verb.run(app),
        Verb::Unlock(verb) => verb.run(app),
        Verb::Catalog(verb) => verb.run(app),
        Verb::Version(verb) => verb.run(app),
        Verb::Completions(verb) => verb.run(app),
    }
}

/// Options that do not go together and that the parser cannot know.
fn forbidden(app: &App, verb: &Verb) -> Option<Failure> {
    if app.global.no_lock && !verb.only_reads() {
        let why = "`--no-lock` is for verbs that only read; this one writes into the repository";
        let hint = "leave it out; `--retry-lock 5m` waits for a lock that another program holds";
        return Some(Failure::usage(why).hint(hint));
    }
    None
}

/// What the parser says: help and version on standard output, anything else as a usage error.
fn refuse(parts: &Parts, error: &clap::Error) -> Code {
    let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let json = asks_for_json(parts);
    let form = if json { OutputForm::Json } else { OutputForm::Text };
    let out = Printer::new(form, false, false);
    let text = error.render().to_string();
    if wanted {
        let printed = out.bytes(text.as_bytes()).and_then(|()| out.finish());
        return printed.err().map_or(Code::Done, |failure| failure.code);
    }
    let (message, rest) = split(&text);
    let failure = Failure::usage(message);
    out.failure(&match rest.is_empty() {
        true => failure.hint("`alidade --help` lists the verbs"),
        false => failure.hint(rest),
    });
    match out.finish() {
        Ok(()) => Code::Usage,
        Err(second) => Code::Usage.and(second.code),
    }
}

/// The parser's text as our two parts: what is wrong, and how it is used.
fn split(text: &str) -> (String, String) {
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    (message.split_whitespace().collect::<Vec<_>>().join(" "), usage_of(rest))
}

fn usage_of(rest: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in rest.split("\n\n") {
        let tips = part.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
        // What looks like an option is one that is mistyped, not an argument of a command.
        let tips = tips.filter(|tip| !tip.contains("as a value, use '-- "));
        parts.extend(tips.map(str::to_owned));
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(usage) = part.strip_prefix("Usage: ") {
            parts.push(format!("usage: `{usage}`"));
        }
    }
    parts.join("; ")
}

/// True when the line asks for JSON, as far as a line that does not parse can be understood.
fn asks_for_json(parts: &Parts) -> bool {
    let mut before = "";
    for word in parts.arguments.iter().filter_map(|word| word.to_str()) {
        if matches!(word, "--json" | "-ojson" | "--output=json" | "-o=json")
            || (word == "json" && matches!(before, "-o" | "--output"))
        {
            return true;
        }
        before = word;
    }
    false
}
