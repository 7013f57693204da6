//! The tools that run against each other, and how each is asked to do one thing.

mod alidade;
mod archive;
mod kopia;
mod restic;
mod rustic;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::meter::Line;
use super::place::{self, Stage};
use super::served::{Address, KEY, REGION};

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tool {
    Alidade,
    Restic,
    Rustic,
    Kopia,
    /// kopia as it is without a policy: it compresses nothing.
    KopiaPlain,
    /// `tar | zstd`, which people use instead.
    Archive,
}

/// How hard a tool works on new data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Each tool's own defaults; those that can check themselves do.
    Default,
    /// The fastest compression and no self-check.
    Fast,
}

/// What else a restore does beside writing what it has verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// Nothing.
    Plain,
    /// It reads every file again and compares.
    ReadBack,
    /// It waits for every file to be on the disk.
    Fsync,
}

/// The one thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Backup(Class),
    Restore(Care),
    /// Reads and verifies everything that is stored.
    Check,
    /// Opens the repository and lists its snapshots.
    Open,
}

/// How expensive the key of a new repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Scrypt with N=1024, or the cheapest there is: derivation is not what is measured.
    Bench,
    /// What the tool does by itself.
    Default,
}

/// The password of every repository.
pub(super) const PASSWORD: &str = "bench";

/// The programs, where they are.
pub(super) struct Tools {
    pub(super) alidade: PathBuf,
    pub(super) restic: PathBuf,
    pub(super) kopia: PathBuf,
    /// The server of the buckets.
    pub(super) versitygw: PathBuf,
    /// Not built on every machine: it takes ten minutes.
    pub(super) rustic: Option<PathBuf>,
    /// An empty repository in restic's format whose key is cheap.
    pub(super) skeleton: PathBuf,
}

impl Tool {
    pub(super) const ALL: [Self; 6] =
        [Self::Alidade, Self::Restic, Self::Rustic, Self::Kopia, Self::KopiaPlain, Self::Archive];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Alidade => "alidade",
            Self::Restic => "restic",
            Self::Rustic => "rustic",
            Self::Kopia => "kopia",
            Self::KopiaPlain => "kopia-plain",
            Self::Archive => "tar-zstd",
        }
    }

    /// Whether it reads and writes restic's format.
    pub(super) const fn shares_the_format(self) -> bool {
        matches!(self, Self::Alidade | Self::Restic | Self::Rustic)
    }
}

impl Tools {
    /// Whether the tool is there.
    pub(super) fn has(&self, tool: Tool) -> bool {
        tool != Tool::Rustic || self.rustic.is_some()
    }

    /// The tool's version in its own words. Ours has the hash of the binary, too: figures of
    /// another build are others.
    pub(super) fn version(&self, tool: Tool) -> Result<String> {
        let (program, word) = match tool {
            Tool::Alidade => (self.alidade.clone(), "version"),
            Tool::Restic => (self.restic.clone(), "version"),
            Tool::Rustic => (self.rustic()?.to_owned(), "--version"),
            Tool::Kopia | Tool::KopiaPlain => (self.kopia.clone(), "--version"),
            Tool::Archive => ("zstd".into(), "--version"),
        };
        let said = Line::new(program, [word]).output()?;
        let said = String::from_utf8_lossy(&said);
        let mut version = said.lines().next().unwrap_or_default().trim().to_owned();
        if tool == Tool::Alidade {
            let (hash, _) = super::manifest::hash(&self.alidade)?;
            version = format!("{version}, binary {}", &hash[..16]);
        }
        Ok(version)
    }

    /// Makes a new repository on the stage.
    pub(super) fn create(&self, tool: Tool, stage: &Stage, class: Class, key: Key) -> Result<()> {
        if tool.shares_the_format() && key == Key::Bench {
            place::copy(&self.skeleton, &stage.repository.canonicalize()?)?;
        }
        let lines = match tool {
            Tool::Alidade => alidade::create(self, key),
            Tool::Restic => restic::create(self, key),
            Tool::Rustic => rustic::create(self.rustic()?, class, key),
            Tool::Kopia => kopia::create(self, stage, Some(class), key),
            Tool::KopiaPlain => kopia::create(self, stage, None, key),
            Tool::Archive => Vec::new(),
        };
        for line in lines {
            with_home(tool, line, stage).output()?;
        }
        Ok(())
    }

    /// The command for an action; `source` is what is, or was, backed up. Nothing when the tool
    /// cannot do it.
    pub(super) fn line(
        &self,
        tool: Tool,
        action: Action,
        stage: &Stage,
        source: &Path,
    ) -> Result<Option<Line>> {
        let line = match tool {
            Tool::Alidade => Some(alidade::line(self, action, stage, source)),
            Tool::Restic => restic::line(self, action, stage, source),
            Tool::Rustic => rustic::line(self.rustic()?, action, stage, source),
            Tool::Kopia | Tool::KopiaPlain => kopia::line(self, tool, action, stage, source)?,
            Tool::Archive => archive::line(action, stage, source),
        };
        Ok(line.map(|line| with_home(tool, line, stage)))
    }

    /// How many snapshots the repository has.
    pub(super) fn snapshots(&self, tool: Tool, stage: &Stage) -> Result<usize> {
        match tool {
            Tool::Kopia | Tool::KopiaPlain => Ok(kopia::roots(self, tool, stage)?.len()),
            Tool::Archive => Ok(usize::from(archive::path(stage).exists())),
            Tool::Alidade | Tool::Restic | Tool::Rustic => {
                let folder = stage.repository.join("snapshots");
                let list = || format!("list {}", folder.display());
                Ok(fs::read_dir(&folder).with_context(list)?.count())
            }
        }
    }

    /// What of a kept home a run needs when its cache must be empty.
    pub(super) fn kept_of_home(tool: Tool) -> &'static [&'static str] {
        match tool {
            Tool::Kopia | Tool::KopiaPlain => &[kopia::CONFIGURATION],
            Tool::Alidade | Tool::Restic | Tool::Rustic | Tool::Archive => &[],
        }
    }

    fn rustic(&self) -> Result<&Path> {
        ensure!(self.rustic.is_some(), "rustic is not built: cargo xtask peers rustic");
        self.rustic.as_deref().context("rustic is not built")
    }
}

/// The environment of every command: nothing but a home and the password.
fn with_home(tool: Tool, mut line: Line, stage: &Stage) -> Line {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    // Tools that know no buckets have none.
    let repository = || match &stage.served {
        Some(Address { server, bucket }) => format!("s3:{server}/{bucket}"),
        None => text(&stage.repository),
    };
    line.environment.push(("HOME", text(&stage.home)));
    line.environment.push(("TMPDIR", text(&stage.home.join("tmp"))));
    line.environment.extend(match tool {
        Tool::Alidade => vec![
            ("ALIDADE_REPOSITORY", repository()),
            ("ALIDADE_PASSWORD", PASSWORD.to_owned()),
            ("ALIDADE_HOST", "bench".to_owned()),
            ("ALIDADE_PROGRESS", "none".to_owned()),
        ],
        Tool::Restic => vec![
            ("RESTIC_REPOSITORY", repository()),
            ("RESTIC_PASSWORD", PASSWORD.to_owned()),
            ("RESTIC_HOST", "bench".to_owned()),
        ],
        Tool::Rustic => vec![
            ("RUSTIC_REPOSITORY", rustic::repository(stage)),
            ("RUSTIC_PASSWORD", PASSWORD.to_owned()),
            ("RUSTIC_NO_PROGRESS", "true".to_owned()),
        ],
        Tool::Kopia | Tool::KopiaPlain => vec![
            ("KOPIA_PASSWORD", PASSWORD.to_owned()),
            ("KOPIA_CHECK_FOR_UPDATES", "false".to_owned()),
        ],
        Tool::Archive => Vec::new(),
    });
    if let Some(address) = &stage.served {
        line.environment.extend(match tool {
            Tool::Rustic => rustic::bucket(address),
            _ => vec![
                ("AWS_ACCESS_KEY_ID", KEY.0.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", KEY.1.to_owned()),
                ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ],
        });
    }
    line
}
