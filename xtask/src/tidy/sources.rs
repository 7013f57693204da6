//! What a source file may hold.

use super::Complaint;
use super::code::{blank, production};
use super::workshop::{Room, Source};

/// How many lines the production part of a file may have without a reason.
const LINES: usize = 600;

/// How the first line of a longer file begins; the reason follows.
const REASON: &str = "// long: ";

/// The one file that may ask the environment below the faces: it breaks the program on purpose,
/// behind a feature that no default holds.
const BROKEN_ON_PURPOSE: &str = "model/src/sabotage.rs";

/// Names that say nothing about what is inside.
const NO_NOUNS: &[&str] =
    &["util", "utils", "common", "misc", "manager", "managers", "helper", "helpers"];

/// Rooms that may print and read the environment: it is their work, or they are no product.
const WITH_A_FACE: &[&str] = &["cli", "alidade", "csi", "xtask", "testkit"];

/// The rules for all sources of one room.
pub(super) fn check(room: &Room) -> Vec<Complaint> {
    let mut complaints = head(room);
    for source in &room.sources {
        complaints.extend(names(source));
        let code = blank(&source.text);
        complaints.extend(unfinished(source, &code));
        if is_test(&source.path) {
            continue;
        }
        let production = production(&code);
        complaints.extend(length(source, production.len()));
        if !WITH_A_FACE.contains(&room.short_name()) {
            complaints.extend(printing(source, &production));
            if !source.path.ends_with(BROKEN_ON_PURPOSE) {
                complaints.extend(environment(source, &production));
            }
        }
    }
    complaints
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "tests.rs" | "build.rs"))
}

/// A crate begins with what it is.
fn head(room: &Room) -> Vec<Complaint> {
    let mut heads = Vec::new();
    for name in ["lib.rs", "main.rs"] {
        let path = format!("{}/src/{name}", room.folder);
        heads.extend(room.sources.iter().filter(|source| source.path == path));
    }
    if heads.is_empty() {
        return vec![Complaint::new(&room.folder, "there is neither src/lib.rs nor src/main.rs")];
    }
    heads
        .into_iter()
        .filter(|source| {
            let first = source.text.lines().find(|line| !line.starts_with(REASON));
            let said = first.and_then(|line| line.strip_prefix("//!")).map_or("", str::trim);
            said.is_empty() || said.starts_with('(')
        })
        .map(|source| {
            Complaint::new(&source.path, "the head does not say what the crate is (`//! …` first)")
        })
        .collect()
}

fn names(source: &Source) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for part in source.path.split('/') {
        let name = part.strip_suffix(".rs").unwrap_or(part);
        if NO_NOUNS.contains(&name) {
            complaints.push(Complaint::new(
                &source.path,
                format!("`{name}` is not a noun of this house"),
            ));
        }
    }
    for (number, line) in blank(&source.text).lines().enumerate() {
        let declared = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let name =
            declared.strip_prefix("mod ").map(|rest| rest.trim_end_matches([' ', '{', ';', '}']));
        if let Some(name) = name.filter(|name| NO_NOUNS.contains(name)) {
            complaints.push(at(
                source,
                number + 1,
                format!("`{name}` is not a noun of this house"),
            ));
        }
    }
    complaints
}

fn unfinished(source: &Source, code: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for name in ["todo!", "unimplemented!"] {
            if has_macro(line, name) {
                complaints.push(at(source, number + 1, format!("`{name}` is no code")));
            }
        }
        let line = line.replace(' ', "");
        if line.contains("#[ignore") || (line.contains("#[cfg_attr(") && line.contains(",ignore")) {
            complaints.push(at(source, number + 1, "a test is not ignored: mend it or remove it"));
        }
    }
    complaints
}

fn length(source: &Source, lines: usize) -> Option<Complaint> {
    let reason = source.text.lines().next().and_then(|line| line.strip_prefix(REASON));
    let explained = reason.is_some_and(|reason| !reason.trim().is_empty());
    (lines > LINES && !explained).then(|| {
        let what = format!(
            "{lines} lines of production code, more than {LINES}: split it, or give a reason on the first line (`{REASON}…`)"
        );
        Complaint::new(&source.path, what)
    })
}

fn printing(source: &Source, production: &[(usize, &str)]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (number, line) in production {
        for name in ["println!", "print!", "eprintln!", "eprint!", "dbg!"] {
            if has_macro(line, name) {
                complaints.push(at(source, *number, format!("`{name}`: only faces print")));
            }
        }
    }
    complaints
}

/// What is asked of the environment of the process.
const ENVIRONMENT: &[&str] =
    &["env::args", "env::current_dir", "env::home_dir", "env::temp_dir", "env::var", "env::{"];

fn environment(source: &Source, production: &[(usize, &str)]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (number, line) in production {
        if let Some(name) = ENVIRONMENT.iter().find(|name| line.contains(*name)) {
            let what = format!("`{name}`: the environment is read once, at the door");
            complaints.push(at(source, *number, what));
        }
    }
    complaints
}

fn at(source: &Source, line: usize, what: impl Into<String>) -> Complaint {
    Complaint::new(format!("{}:{line}", source.path), what)
}

/// Whether the line calls the macro, and not one whose name ends the same way.
fn has_macro(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::super::workshop::room;
    use super::*;

    const HEAD: (&str, &str) = ("crates/model/src/lib.rs", "//! Words.\n");

    fn complaints(path: &str, text: &str) -> Vec<Complaint> {
        let manifest = "[package]\nname = 'alidade-model'";
        check(&room("crates/model", manifest, &[HEAD, (path, text)]))
    }

    fn is_red(path: &str, text: &str) {
        assert_eq!(complaints(path, text).len(), 1, "{path} {text}");
    }

    fn is_silent(path: &str, text: &str) {
        assert_eq!(complaints(path, text), [], "{path} {text}");
    }

    const FILE: &str = "crates/model/src/noun.rs";

    #[test]
    fn a_crate_without_a_head_is_red() {
        for text in ["", "fn main() {}\n", "//!\n", "//! (head to be written)\n"] {
            let manifest = "[package]\nname = 'alidade-model'";
            for file in ["lib", "main"] {
                let path = format!("crates/model/src/{file}.rs");
                let found = check(&room("crates/model", manifest, &[(&path, text)]));
                assert_eq!(found.len(), 1, "{path} {text}");
            }
            assert_eq!(check(&room("crates/model", manifest, &[])).len(), 1);
        }
    }

    #[test]
    fn a_name_without_a_noun_is_red() {
        is_red("crates/model/src/util.rs", "");
        is_red("crates/model/src/common/noun.rs", "");
        is_red("crates/model/tests/helpers.rs", "");
        is_red(FILE, "pub(crate) mod misc {\n}\n");
        is_red(FILE, "mod manager;\n");
        is_silent("crates/model/src/utility_bill.rs", "mod commons_house;\n// mod util;\n");
    }

    #[test]
    fn unfinished_code_and_ignored_tests_are_red_everywhere() {
        for path in [FILE, "crates/model/tests/noun.rs"] {
            is_red(path, "fn a() {\n    todo!()\n}\n");
            is_red(path, "fn a() {\n    unimplemented!(\"b\")\n}\n");
            is_red(path, "#[test]\n#[ignore]\nfn a() {}\n");
            is_red(path, "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n");
            is_red(path, "#[cfg_attr(debug_assertions, ignore)]\nfn a() {}\n");
        }
        is_silent(FILE, "// todo!() and #[ignore]\nconst A: &str = \"todo!()\";\nmy_todo!();\n");
    }

    #[test]
    fn a_long_file_is_red_without_a_reason() {
        let long = "fn a() {}\n".repeat(LINES);
        is_silent(FILE, &long);
        is_red(FILE, &format!("{long}fn b() {{}}\n"));
        is_red(FILE, &format!("// long: \n{long}fn b() {{}}\n"));
        is_silent(FILE, &format!("// long: a table of all codes\n{long}fn b() {{}}\n"));
        is_silent(FILE, &format!("{long}#[cfg(test)]\nmod tests {{\n{long}}}\n"));
        is_silent("crates/model/tests/noun.rs", &long.repeat(2));
    }

    #[test]
    fn asking_the_environment_is_red_outside_the_faces() {
        for asked in ["std::env::var_os(\"A\")", "env::args()", "std::env::temp_dir()"] {
            is_red(FILE, &format!("fn a() {{\n    {asked};\n}}\n"));
        }
        is_silent("crates/model/src/sabotage.rs", "fn a() {\n    std::env::var(\"A\");\n}\n");
        is_red(FILE, "use std::env::{args, var};\n");
        is_silent(
            FILE,
            "const A: &str = env!(\"CARGO_PKG_VERSION\");\nuse std::env::consts::OS;\n",
        );
    }

    #[test]
    fn printing_is_red_outside_the_faces() {
        for name in ["println", "print", "eprintln", "eprint", "dbg"] {
            is_red(FILE, &format!("fn a() {{\n    {name}!(\"b\");\n}}\n"));
        }
        is_silent(FILE, "#[cfg(test)]\nmod tests {\n    fn a() {\n        println!();\n    }\n}\n");
        is_silent("crates/model/tests/noun.rs", "fn a() {\n    println!();\n}\n");
        let manifest = "[package]\nname = 'alidade-cli'";
        let sources = [("crates/cli/src/lib.rs", "//! Verbs.\nfn a() {\n    println!();\n}\n")];
        assert_eq!(check(&room("crates/cli", manifest, &sources)), []);
    }
}
