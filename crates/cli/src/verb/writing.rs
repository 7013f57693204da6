//! How a verb writes into a repository: options that several verbs have.

use alidade_repository::Compression;
use clap::{Args, ValueEnum};

/// How to store.
#[derive(Clone, Copy, Debug, Args)]
pub struct Writing {
    /// How hard to compress
    #[arg(long, value_enum, default_value = "default", value_name = "LEVEL")]
    pub compression: CompressionLevel,
    /// The size of the files that blobs are packed into, in MiB, 4 to 128
    #[arg(long, default_value_t = 16, value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(4..=128))]
    pub pack_size: u64,
    /// Do not open each sealed blob again before it is stored
    #[arg(long)]
    pub no_self_check: bool,
}

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompressionLevel {
    /// A good ratio at a good speed.
    Default,
    /// The fastest.
    Fast,
    /// The smallest.
    Best,
    /// None.
    Off,
}

impl Writing {
    pub(crate) fn compression(&self) -> Compression {
        match self.compression {
            CompressionLevel::Default => Compression::Default,
            CompressionLevel::Fast => Compression::Fast,
            CompressionLevel::Best => Compression::Best,
            CompressionLevel::Off => Compression::Off,
        }
    }

    /// The word for it.
    pub(crate) fn level(&self) -> &'static str {
        match self.compression {
            CompressionLevel::Default => "default",
            CompressionLevel::Fast => "fast",
            CompressionLevel::Best => "best",
            CompressionLevel::Off => "off",
        }
    }

    pub(crate) fn pack_bytes(&self) -> u64 {
        self.pack_size << 20
    }
}
