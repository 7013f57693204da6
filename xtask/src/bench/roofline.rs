//! What the hardware allows in this format: the costs of single steps, and the sum of them.

use serde::{Deserialize, Serialize};

use super::place::Medium;
use super::row::{Row, Shape, Start};
use super::set::{Facts, Kind};
use super::tool::{Action, Care, Class};

/// What single steps cost one core: picoseconds for a byte, nanoseconds for a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kernels {
    /// Read from the page cache.
    pub(super) read_ps: u64,
    /// Find cut points.
    pub(super) cut_ps: u64,
    /// SHA-256, of one blob or of many at once, whichever is faster here.
    pub(super) hash_ps: u64,
    /// AES-CTR and Poly1305, to seal.
    pub(super) seal_ps: u64,
    /// The same, to open.
    pub(super) open_ps: u64,
    /// Compress the data set, zstd 3.
    pub(super) zstd3_ps: u64,
    /// Compress the data set, zstd 1.
    pub(super) zstd1_ps: u64,
    /// Decompress the data set, per plain byte.
    pub(super) unzstd_ps: u64,
    /// Write a byte to a tmpfs whose pages were touched.
    pub(super) write_ps: u64,
    /// statx, open, read and close a file, without its bytes.
    pub(super) visit_ns: u64,
    /// statx alone.
    pub(super) stat_ns: u64,
    /// Create, set the times of and close a file in a tmpfs, without its bytes.
    pub(super) create_ns: u64,
}

impl Kernels {
    /// The mean of what several cores took.
    pub(super) fn mean(measured: &[Self]) -> Self {
        let mut mean = Self::default();
        for (at, field) in mean.fields().into_iter().enumerate() {
            let sum: u64 = measured.iter().map(|one| *one.clone().fields()[at]).sum();
            *field = sum / measured.len().max(1) as u64;
        }
        mean
    }

    fn fields(&mut self) -> [&mut u64; 12] {
        let Self {
            read_ps,
            cut_ps,
            hash_ps,
            seal_ps,
            open_ps,
            zstd3_ps,
            zstd1_ps,
            unzstd_ps,
            write_ps,
            visit_ns,
            stat_ns,
            create_ns,
        } = self;
        [
            read_ps, cut_ps, hash_ps, seal_ps, open_ps, zstd3_ps, zstd1_ps, unzstd_ps, write_ps,
            visit_ns, stat_ns, create_ns,
        ]
    }
}

/// The formula, for the report.
pub(super) const FORMULA: &str = "\
The roofline of a row is the time that its steps would take if nothing else cost anything, all cores worked all the
time, and nothing was ever waited for. It is the sum of what each step costs one core while the others do the same,
divided by the number of cores:

- first backup: each byte is read, cut and hashed; each byte that is new is compressed; each stored byte is sealed,
  hashed as part of its pack, and written; each file costs `statx`, `open`, `read`, `close`. The self-check adds, for
  each stored byte, opening, and for each new byte, decompressing and hashing. A disk is not cut by its content,
  and its zeros are not hashed.
- backup of an unchanged source: each file costs `statx`.
- backup of a changed source: as an unchanged one; and what changed (of the tree 1 % of its bytes, of the image all
  bytes, for it is one file) costs what it costs in a first backup, except that of the image only what is stored is
  new.
- restore: each stored byte is read and opened; each distinct byte is decompressed and hashed; each byte is written;
  each file costs creating, setting its times and closing. With read-back each byte is read and hashed again.
- check: each stored byte is read, hashed as part of its pack, and opened; each distinct byte is decompressed and
  hashed.
";

/// The least microseconds that a row can take; nothing for what no roofline is known of.
///
/// `stored` are the bytes that the repository grows by, or has where it is read.
pub(super) fn least_us(
    row: &Row,
    facts: &Facts,
    kernels: &Kernels,
    stored: u64,
    cores: u64,
) -> Option<u64> {
    // What a line and a server allow is none of these steps.
    if row.medium == Medium::S3 {
        return None;
    }
    let k = kernels;
    let check_plain = k.unzstd_ps + k.hash_ps;
    let (mut ps, mut ns): (u128, u128) = (0, 0);
    let mut bytes = |count: u64, each: u64| ps += u128::from(count) * u128::from(each);
    match row.action {
        Action::Backup(class) => {
            let (read, new) = match (row.start, row.set) {
                (Start::Unchanged, _) => (0, 0),
                (Start::Changed, Kind::Image) => (facts.bytes, stored),
                (Start::Changed, _) => (facts.bytes / 100, facts.bytes / 100),
                (Start::Empty | Start::Filled | Start::DefaultKey, _) => {
                    (facts.bytes, facts.unique_bytes)
                }
            };
            let stored = if row.start == Start::Unchanged { 0 } else { stored };
            bytes(read, k.read_ps);
            match row.shape {
                Shape::Files => bytes(read, k.cut_ps + k.hash_ps),
                Shape::Disk => bytes(read.min(facts.unique_bytes), k.hash_ps),
            }
            bytes(stored, k.seal_ps + k.hash_ps + k.write_ps);
            match class {
                Class::Default => {
                    bytes(new, k.zstd3_ps + check_plain);
                    bytes(stored, k.open_ps);
                }
                Class::Fast => bytes(new, k.zstd1_ps),
            }
            let visit = if row.start == Start::Empty { k.visit_ns } else { k.stat_ns };
            ns += u128::from(facts.files) * u128::from(visit);
        }
        Action::Restore(care) => {
            bytes(stored, k.read_ps + k.open_ps);
            bytes(facts.unique_bytes, check_plain);
            bytes(facts.bytes, k.write_ps);
            if care == Care::ReadBack {
                bytes(facts.bytes, k.read_ps + k.hash_ps);
            }
            ns += u128::from(facts.files) * u128::from(k.create_ns);
        }
        Action::Check => {
            bytes(stored, k.read_ps + k.hash_ps + k.open_ps);
            bytes(facts.unique_bytes, check_plain);
        }
        Action::Open => return None,
    }
    let us = (ps / 1_000_000 + ns / 1_000) / u128::from(cores.max(1));
    u64::try_from(us).ok().filter(|us| *us > 0)
}

#[cfg(test)]
mod tests {
    use super::super::row::ROWS;
    use super::*;

    #[test]
    fn the_mean_of_several_cores_is_taken_field_by_field() {
        let mut two = [Kernels::default(), Kernels::default()];
        for (at, one) in two.iter_mut().enumerate() {
            for (number, field) in one.fields().into_iter().enumerate() {
                *field = 100 * number as u64 + 2 * at as u64;
            }
        }
        let mut mean = Kernels::mean(&two);
        let expected: Vec<u64> = (0..12).map(|number| 100 * number + 1).collect();
        assert_eq!(mean.fields().map(|field| *field).to_vec(), expected);
        assert_eq!((mean.cut_ps, mean.create_ns), (101, 1101));
    }

    const KERNELS: Kernels = Kernels {
        read_ps: 40,
        cut_ps: 205,
        hash_ps: 455,
        seal_ps: 157,
        open_ps: 66,
        zstd3_ps: 2_000,
        zstd1_ps: 1_350,
        unzstd_ps: 440,
        write_ps: 600,
        visit_ns: 11_000,
        stat_ns: 2_300,
        create_ns: 15_000,
    };

    /// The tree, in tenths of a second.
    fn least(name: &str) -> Option<u64> {
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        let (bytes, stored) = (4_000_000_000, 1_600_000_000);
        let digest = String::new();
        let facts = Facts { digest, files: 160_000, bytes, unique_bytes: bytes };
        least_us(row, &facts, &KERNELS, stored, 2).map(|us| us / 100_000)
    }

    #[test]
    fn the_roofline_is_the_sum_of_the_steps_by_the_number_of_cores() {
        // 4 GB: (0.7 + 2 + 0.895) ns; 1.6 GB: (0.157 + 0.455 + 0.6 + 0.066) ns; files 1.76 s.
        assert_eq!(least("backup-tree"), Some(90));
        // 4 GB: (0.7 + 1.35) ns; 1.6 GB: 1.212 ns; files 1.76 s.
        assert_eq!(least("backup-tree-fast"), Some(59));
        assert_eq!(least("unchanged-tree"), Some(1));
        // 1.6 GB: 0.106 ns; 4 GB: (0.895 + 0.6) ns; files 2.4 s.
        assert_eq!(least("restore-tree"), Some(42));
        assert!(least("restore-tree-readback") > least("restore-tree"));
        // 1.6 GB: 0.561 ns; 4 GB: 0.895 ns.
        assert_eq!(least("check-tree"), Some(22));
        assert_eq!(least("key-derivation"), None);
    }
}
