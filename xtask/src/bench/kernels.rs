//! The costs of single steps on this machine, for the roofline.
//!
//! Measured by a release build of this program, by a verb that nobody types, on all cores at once, as
//! a run uses them, in processor time: what waits costs nothing.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use alidade_kernels::Level;
use alidade_kernels::measure::{self, Measured};
use alidade_repository::{Chunker, Gear};
use anyhow::{Context, Result, anyhow, ensure};
use rustix::time::{ClockId, clock_gettime};

use super::chance::Chance;
use super::manifest;
use super::place;
use super::roofline::Kernels;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The data set
    #[arg(long)]
    set: PathBuf,
    /// A folder on a tmpfs
    #[arg(long)]
    tmpfs: PathBuf,
}

const MIB: usize = 1 << 20;
/// Pieces of the data set that are compressed.
const SAMPLES: u64 = 192;
/// How often everything is done.
const TIMES: usize = 5;
/// Bytes that are read, cut and written.
const BYTES: usize = 128 << 20;
/// Files that are visited and created.
const FILES: usize = 20_000;

/// The verb that nobody types: measures and prints JSON.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let cores = std::thread::available_parallelism().context("count the cores")?.get();
    let measured: Vec<Kernels> = std::thread::scope(|scope| {
        let start = |core: usize| {
            let tmpfs = arguments.tmpfs.join(format!("core-{core}"));
            scope.spawn(move || {
                place::make(&tmpfs)?;
                kernels(&arguments.set, &tmpfs)
            })
        };
        let threads: Vec<_> = (0..cores).map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Kernels>>| {
            thread.join().map_err(|_panic| anyhow!("a measuring thread died"))?
        };
        threads.into_iter().map(join).collect::<Result<_>>()
    })?;
    println!("{}", serde_json::to_string(&Kernels::mean(&measured))?);
    Ok(())
}

fn kernels(set: &Path, tmpfs: &Path) -> Result<Kernels> {
    let measured = measure::kernels(Level::detect());
    let one = picoseconds(&measured, "sha256, one stream")?;
    let many = picoseconds(&measured, "sha256, 16 x 1 MiB")?;
    let samples = Samples::of(set)?;
    let (zstd3_ps, unzstd_ps) = samples.compress(3)?;
    let (zstd1_ps, _) = samples.compress(1)?;
    let (visit_ns, stat_ns) = visit(&samples.files)?;
    Ok(Kernels {
        read_ps: read(&samples.files)?,
        cut_ps: cut(),
        hash_ps: one.min(many),
        seal_ps: picoseconds(&measured, "seal, 1 MiB")?,
        open_ps: picoseconds(&measured, "open, 1 MiB")?,
        zstd3_ps,
        zstd1_ps,
        unzstd_ps,
        write_ps: write(&tmpfs.join("written"))?,
        visit_ns,
        stat_ns,
        create_ns: create(&tmpfs.join("created"))?,
    })
}

fn picoseconds(measured: &[Measured], name: &str) -> Result<u64> {
    let found = measured.iter().find(|one| one.name == name);
    let found = found.with_context(|| format!("the kernels do not measure `{name}`"))?;
    Ok((1e12 / found.bytes_per_second) as u64)
}

/// Nanoseconds of processor time that this thread has used.
fn processor_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// What `work` takes, the least of some times: what disturbs only adds.
fn least_ns(mut work: impl FnMut() -> Result<()>) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..TIMES {
        let begin = processor_ns();
        work()?;
        least = least.min(processor_ns() - begin);
    }
    Ok(least)
}

fn per_byte_ps(ns: u64, bytes: u64) -> u64 {
    ns * 1_000 / bytes.max(1)
}

/// Pieces of a data set, as blobs would be, each as likely as its bytes.
struct Samples {
    pieces: Vec<Vec<u8>>,
    /// Some of its files.
    files: Vec<PathBuf>,
}

impl Samples {
    fn of(set: &Path) -> Result<Self> {
        let mut files = manifest::files(set)?;
        files.sort();
        let mut ends = Vec::with_capacity(files.len());
        let mut end = 0;
        for file in &files {
            end += file.metadata().with_context(|| format!("stat {}", file.display()))?.len();
            ends.push(end);
        }
        ensure!(end > 0, "{} is empty", set.display());
        let mut pieces = Vec::new();
        for number in 0..SAMPLES {
            let place = end / SAMPLES * number;
            let at = ends.partition_point(|end| *end <= place);
            let begin = if at == 0 { 0 } else { ends[at - 1] };
            let len = ends[at] - begin;
            // The blob around this place: the whole file, or a MiB of it.
            let from = (place - begin).min(len.saturating_sub(MIB as u64));
            let from = if len <= MIB as u64 { 0 } else { from };
            let len = usize::try_from(len - from).unwrap_or(MIB).min(MIB);
            let mut piece = vec![0; len];
            let read = || format!("read {}", files[at].display());
            let file = File::open(&files[at]).with_context(read)?;
            file.read_exact_at(&mut piece, from).with_context(read)?;
            // Blobs of zeros are stored once.
            if piece.iter().any(|byte| *byte != 0) {
                pieces.push(piece);
            }
        }
        let step = files.len().div_ceil(FILES);
        let files = files.into_iter().step_by(step).collect();
        Ok(Self { pieces, files })
    }

    /// Picoseconds that a byte takes to compress and to decompress. Every piece counts the same,
    /// for it stands for as many bytes as any other; and all others come between one time and the
    /// next, so that the processor has not learnt it by heart.
    fn compress(&self, level: i32) -> Result<(u64, u64)> {
        let mut compressor = zstd::bulk::Compressor::new(level).context("start zstd")?;
        let mut decompressor = zstd::bulk::Decompressor::new().context("start zstd")?;
        let longest = self.pieces.iter().map(Vec::len).max().unwrap_or(0);
        let mut packed = vec![0; zstd::zstd_safe::compress_bound(longest)];
        let mut plain = vec![0; longest];
        let mut least = vec![(u64::MAX, u64::MAX); self.pieces.len()];
        for _ in 0..TIMES {
            for (piece, (there, back)) in self.pieces.iter().zip(&mut least) {
                let begin = processor_ns();
                let len = compressor.compress_to_buffer(piece, &mut packed).context("compress")?;
                let between = processor_ns();
                let plain = &mut plain[..piece.len()];
                decompressor.decompress_to_buffer(&packed[..len], plain).context("decompress")?;
                *there = (*there).min(between - begin);
                *back = (*back).min(processor_ns() - between);
            }
        }
        let count = self.pieces.len().max(1) as u64;
        let mean = |of: fn(&(u64, u64)) -> u64| {
            let each = self.pieces.iter().zip(&least);
            each.map(|(piece, ns)| per_byte_ps(of(ns), piece.len() as u64)).sum::<u64>() / count
        };
        Ok((mean(|ns| ns.0), mean(|ns| ns.1)))
    }
}

fn cut() -> u64 {
    let mut noise = vec![0; BYTES];
    Chance::of("cut", 0).fill(&mut noise);
    let gear = Gear::of_polynomial(0x003D_A335_8B4D_C173);
    let ns = least_ns(|| {
        let mut at = 0;
        while at < noise.len() {
            match Chunker::new(&gear).next_cut(&noise[at..]) {
                Some(cut) if cut > 0 => at += cut,
                _ => break,
            }
        }
        black_box(at);
        Ok(())
    });
    per_byte_ps(ns.unwrap_or(0), BYTES as u64)
}

/// Reads up to 1 GiB of files in pieces of 256 KiB; the cost of opening is in [`visit`].
fn read(files: &[PathBuf]) -> Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let (mut ns, mut bytes) = (0, 0);
    for path in files {
        let say = || format!("read {}", path.display());
        let file = File::open(path).with_context(say)?;
        let len = file.metadata().with_context(say)?.len().min(BYTES as u64);
        if len < MIB as u64 {
            continue;
        }
        // The first time it may not be in memory.
        ns += least_ns(|| {
            let mut at = 0;
            while at < len {
                let got = file.read_at(&mut buffer, at).with_context(say)?;
                ensure!(got > 0, "{} became shorter", path.display());
                at += got as u64;
            }
            Ok(())
        })?;
        bytes += len;
        if bytes >= BYTES as u64 {
            break;
        }
    }
    // A data set of small files has no bytes worth the name: opening them is all.
    Ok(if bytes == 0 { 0 } else { per_byte_ps(ns, bytes) })
}

fn write(path: &Path) -> Result<u64> {
    let piece = vec![1; MIB];
    let mut least = u64::MAX;
    for _ in 0..TIMES {
        place::remove(path)?;
        let begin = processor_ns();
        let mut file = File::create(path).context("create a file on the tmpfs")?;
        for _ in 0..BYTES / MIB {
            file.write_all(&piece).context("write to the tmpfs")?;
        }
        least = least.min(processor_ns() - begin);
    }
    place::remove(path)?;
    Ok(per_byte_ps(least, BYTES as u64))
}

/// Nanoseconds to look at, open, read and close a file, and to look at it alone.
fn visit(files: &[PathBuf]) -> Result<(u64, u64)> {
    let count = files.len().max(1) as u64;
    let stat = least_ns(|| {
        for file in files {
            black_box(file.symlink_metadata().with_context(|| format!("stat {}", file.display()))?);
        }
        Ok(())
    })?;
    let mut byte = [0];
    let visit = least_ns(|| {
        for path in files {
            let say = || format!("read {}", path.display());
            black_box(path.symlink_metadata().with_context(say)?);
            let mut file = File::open(path).with_context(say)?;
            black_box(file.read(&mut byte).with_context(say)?);
        }
        Ok(())
    })?;
    Ok((visit / count, stat / count))
}

/// Nanoseconds to create a file with one byte and a time on the tmpfs.
fn create(folder: &Path) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..TIMES {
        place::remove(folder)?;
        place::make(folder)?;
        let begin = processor_ns();
        for number in 0..FILES {
            let mut file =
                File::create_new(folder.join(number.to_string())).context("create a file")?;
            file.write_all(&[1]).context("write a file")?;
            file.set_modified(SystemTime::UNIX_EPOCH).context("set the time of a file")?;
        }
        least = least.min(processor_ns() - begin);
    }
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(least / FILES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_where_the_bytes_are_and_never_of_zeros() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), vec![0; 3 << 20]).unwrap();
        fs::write(folder.path().join("b"), vec![7; 3 << 20]).unwrap();
        fs::write(folder.path().join("c"), "").unwrap();
        let samples = Samples::of(folder.path()).unwrap();
        assert!((90..=96).contains(&samples.pieces.len()), "{}", samples.pieces.len());
        assert!(samples.pieces.iter().all(|piece| piece.len() == MIB && piece[0] == 7));
        assert!(samples.compress(3).unwrap().0 > 0);
        fs::remove_file(folder.path().join("a")).unwrap();
        fs::remove_file(folder.path().join("b")).unwrap();
        assert!(Samples::of(folder.path()).is_err(), "nothing can be measured with nothing");
    }

    #[test]
    fn visiting_costs_more_than_looking() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..200).map(|at| folder.path().join(format!("{at}"))).collect();
        for file in &files {
            fs::write(file, "x").unwrap();
        }
        let (visit, stat) = visit(&files).unwrap();
        assert!(visit > stat && stat > 0, "{visit} {stat}");
    }
}
