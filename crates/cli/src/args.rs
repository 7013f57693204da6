//! The command line: options that every verb has, and the verbs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::verb;

/// What is typed after the program's name.
#[derive(Debug, Parser)]
#[command(
    name = "alidade",
    version,
    about = "Protects applications: copies them, proves the copy, creates them again",
    after_long_help = after_help(),
    disable_help_subcommand = true,
    infer_long_args = false
)]
pub struct CommandLine {
    /// Options that every verb has.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

fn after_help() -> String {
    format!("{}\n\n{}", crate::environment::Environment::help(), crate::exit::Code::help())
}

/// Options that every verb has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The repository: a directory, `s3:URL/BUCKET/PREFIX`, `azure:CONTAINER:/PREFIX`, `gs:BUCKET:/PREFIX`,
    /// `rest:URL`, `sftp:[USER@]HOST:PATH`.
    /// Without it, the embedded default in the XDG data directory
    #[arg(short, long, visible_alias = "repo", global = true, value_name = "PLACE")]
    pub repository: Option<OsString>,
    /// How results are printed on standard output
    #[arg(short, long, global = true, value_enum, value_name = "FORM")]
    pub output: Option<OutputForm>,
    /// The same as `--output json`
    #[arg(long, global = true, conflicts_with = "output")]
    pub json: bool,
    /// Read the password from this file; `-` is standard input
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "password_command")]
    pub password_file: Option<PathBuf>,
    /// Read the password from the output of this command
    #[arg(long, global = true, value_name = "COMMAND")]
    pub password_command: Option<String>,
    /// Take no lock (only for verbs that read)
    #[arg(long, global = true)]
    pub no_lock: bool,
    /// Wait this long for a lock that another program holds, such as `30s` or `5m`
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub retry_lock: Option<Duration>,
    /// The directory for caches and temporary files; it may be emptied at any time
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "no_cache")]
    pub cache_dir: Option<PathBuf>,
    /// Keep nothing in the cache directory; temporary files go into a private directory in TMPDIR
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Send at most so many bytes a second to a store over a network, such as `500k` or `10M`
    #[arg(long, global = true, value_name = "RATE", value_parser = rate)]
    pub limit_upload: Option<u64>,
    /// Receive at most so many bytes a second
    #[arg(long, global = true, value_name = "RATE", value_parser = rate)]
    pub limit_download: Option<u64>,
    /// Try a request again for so long before the store counts as unreachable; 3m unless given
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub retry_store: Option<Duration>,
    /// Trust the certificates in this PEM file beside the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Where a request to S3 names the bucket; by path, save Amazon's servers, unless given
    #[arg(long, global = true, value_enum, value_name = "WHERE")]
    pub s3_style: Option<BucketStyle>,
    /// Reach an SFTP server by this command instead of `ssh`; it speaks SFTP on its standard input and output
    #[arg(long, global = true, value_name = "COMMAND")]
    pub sftp_command: Option<String>,
    /// The host that entities belong to; for `latest` and for lists, look only at this one
    #[arg(long, global = true, value_name = "NAME")]
    pub host: Option<String>,
    /// Also read RESTIC_REPOSITORY, RESTIC_PASSWORD, RESTIC_PASSWORD_FILE, RESTIC_PASSWORD_COMMAND
    #[arg(long, global = true)]
    pub restic_env: bool,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Colour nothing
    #[arg(long, global = true)]
    pub no_color: bool,
    /// How progress is shown on standard error
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    pub progress: Option<ProgressForm>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Where a request to S3 names the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BucketStyle {
    /// In the path.
    Path,
    /// In the name of the host.
    Host,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// A bar on a terminal, JSON lines with `--output json`, else nothing.
    Auto,
    /// A line every few seconds.
    Plain,
    /// A JSON document per line, once a second.
    Json,
    /// Nothing.
    None,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a new repository
    Init(verb::init::Init),
    /// Copy an entity into the repository
    Protect(verb::protect::Protect),
    /// List the types of entities this program knows
    Types(verb::types::Types),
    /// List the entities that the repository holds
    List(verb::list::List),
    /// List the snapshots that the repository holds
    Snapshots(verb::snapshots::Snapshots),
    /// Show what is known of one snapshot
    Show(verb::show::Show),
    /// List the entries of a snapshot
    Ls(verb::ls::Ls),
    /// Print one file of a snapshot
    Cat(verb::cat::Cat),
    /// Find entries in snapshots by name
    Find(verb::find::Find),
    /// Compare two snapshots
    Diff(verb::diff::Diff),
    /// Create an entity again from a snapshot
    Restore(verb::restore::Restore),
    /// Copy snapshots into another repository
    Copy(verb::copy::Copy),
    /// Look for damage in the repository
    Check(verb::check::Check),
    /// Save what can be saved of a damaged repository
    Repair(verb::repair::Repair),
    /// Look for what is wrong with the set-up
    Doctor(verb::doctor::Doctor),
    /// List the runs that this machine knows of
    Runs(verb::runs::Runs),
    /// List, add or remove the repository's passwords
    Key(verb::key::Key),
    /// Remove stale locks
    Unlock(verb::unlock::Unlock),
    /// Look after the catalog
    Catalog(verb::catalog::CatalogVerb),
    /// Print the version
    Version(verb::version::Version),
    /// Print a completion script for a shell
    Completions(verb::completions::Completions),
}

impl Verb {
    /// True when the verb changes nothing in the repository, so that it can do without a lock.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Init(_) | Self::Protect(_) | Self::Copy(_) | Self::Unlock(_) => false,
            Self::Key(key) => key.only_reads(),
            Self::Repair(repair) => repair.only_reads(),
            Self::Types(_)
            | Self::List(_)
            | Self::Snapshots(_)
            | Self::Show(_)
            | Self::Ls(_)
            | Self::Cat(_)
            | Self::Find(_)
            | Self::Diff(_)
            | Self::Restore(_)
            | Self::Check(_)
            | Self::Doctor(_)
            | Self::Runs(_)
            | Self::Catalog(_)
            | Self::Version(_)
            | Self::Completions(_) => true,
        }
    }
}

/// Reads a rate: a size that passes in a second.
fn rate(text: &str) -> Result<u64, String> {
    let rate = crate::size::parse(text)?;
    if rate == 0 { Err("nothing would ever pass".to_owned()) } else { Ok(rate) }
}

/// Reads a duration such as `30s`, `5m` or `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(span).map_err(|error| error.to_string())
}

/// Reads an age such as `12h`, `30d` or `2w`; a day has 24 hours.
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    let span: jiff::Span = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    let long = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
    long.and_then(Duration::try_from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        for line in ["alidade -r /r --json types", "alidade types --repo /r -o json"] {
            let parsed = parse(line).unwrap();
            assert_eq!(parsed.global.repository.as_deref(), Some("/r".as_ref()), "{line}");
            assert!(parsed.global.json || parsed.global.output == Some(OutputForm::Json));
        }
    }

    #[test]
    fn durations_are_read_and_negative_ones_refused() {
        let of = |text: &str| parse(&format!("alidade types --retry-lock {text}"));
        assert_eq!(of("1h30m").unwrap().global.retry_lock, Some(Duration::from_secs(5400)));
        for bad in ["x", "30"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages_count_days_of_24_hours() {
        for (text, hours) in [("12h", 12), ("30d", 720), ("2w", 336), ("1d12h", 36)] {
            assert_eq!(age(text), Ok(Duration::from_secs(hours * 3600)), "{text}");
        }
        for bad in ["", "30", "1mo", "-1d"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_verb_that_writes_needs_a_lock() {
        for (line, reads) in [
            ("alidade init", false),
            ("alidade protect /x", false),
            ("alidade unlock", false),
            ("alidade copy --to /y", false),
            ("alidade repair index", false),
            ("alidade repair packs --plan", true),
            ("alidade key add", false),
            ("alidade key remove abcd", false),
            ("alidade key list", true),
            ("alidade restore /x --target /y", true),
            ("alidade check", true),
        ] {
            assert_eq!(parse(line).unwrap().verb.only_reads(), reads, "{line}");
        }
    }
}
