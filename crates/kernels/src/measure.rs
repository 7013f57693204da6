//! How fast each kernel is on this processor: what the roofline of a benchmark is made of.

use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};

use crate::envelope::Key;
use crate::gear::{Gear, WINDOW};
use crate::{Level, Sha256, is_zero, sha256_many_at};

/// The speed of one kernel on one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Which kernel, on what.
    pub name: &'static str,
    /// Bytes in a second of processor time of this thread: the median of [`RUNS`] runs.
    pub bytes_per_second: f64,
}

/// How often each kernel is measured.
pub const RUNS: usize = 5;

/// How long one run lasts at least, in seconds of processor time.
const RUN: f64 = 0.2;

const MIB: usize = 1 << 20;

/// The speed of every kernel at `level`. Takes about ten seconds, on one core.
#[must_use]
pub fn kernels(level: Level) -> Vec<Measured> {
    let bytes = noise(16 * MIB);
    let mut digests = vec![[0; 32]; 1000];
    let blobs: Vec<&[u8]> = bytes.chunks(MIB).collect();
    let files: Vec<&[u8]> = bytes.chunks(6 << 10).take(1000).collect();
    let few = |count: usize| blobs[..count].to_vec();
    let mut all = vec![measure("sha256, one stream", 4 * MIB, || {
        let mut hash = Sha256::at(level);
        hash.update(&bytes[..4 * MIB]);
        black_box(hash.finish());
    })];
    for (name, messages) in [
        ("sha256, 16 x 1 MiB", few(16)),
        ("sha256, 1000 x 6 KiB", files),
        ("sha256, 3 x 1 MiB", few(3)),
    ] {
        let digests = &mut digests[..messages.len()];
        let len = messages.iter().map(|message| message.len()).sum();
        all.push(measure(name, len, || sha256_many_at(level, black_box(&messages), digests)));
    }
    all.extend(scans(&bytes));
    all.extend(envelope(level, &bytes[..MIB]));
    all
}

/// Scans for more zeros than there are, so to the end; and what memory itself gives.
fn scans(bytes: &[u8]) -> [Measured; 3] {
    let mut table = Box::new([0; 256]);
    for (entry, bytes) in table.iter_mut().zip(bytes.as_chunks().0).skip(1) {
        *entry = u64::from_le_bytes(*bytes);
    }
    let gear = Gear::new(table);
    let all = &bytes[..MIB];
    let scan = measure("gear, every byte", MIB, || {
        black_box(gear.find(black_box(all), WINDOW, MIB, 50));
    });
    let mut copy = bytes.to_vec();
    let memcpy = measure("memcpy, 16 MiB", bytes.len(), || {
        copy.copy_from_slice(black_box(bytes));
        black_box(&mut copy);
    });
    copy.fill(0);
    let zero = measure("is_zero, 1 MiB", MIB, || {
        black_box(is_zero(black_box(&copy[..MIB])));
    });
    [scan, zero, memcpy]
}

fn envelope(level: Level, bytes: &[u8]) -> [Measured; 4] {
    let key = Key::at(level, &[1; 32], &[2; 16], &[3; 16]);
    let iv = [4; 16];
    let mut buffer = bytes.to_vec();
    let tag = key.seal(&iv, &mut buffer);
    let mut tags = 0;
    let seal = measure("seal, 1 MiB", MIB, || tags ^= key.seal(&iv, &mut buffer)[0]);
    let seal_small = measure("seal, 6 KiB", 6 << 10, || {
        tags ^= key.seal(&iv, &mut buffer[..6 << 10])[0];
    });
    let mut sealed = bytes.to_vec();
    assert_eq!(key.seal(&iv, &mut sealed), tag, "the same bytes have the same MAC");
    let open = measure("open, 1 MiB", MIB, || {
        key.open_to(&iv, black_box(&sealed), &tag, &mut buffer).expect("this key sealed it");
        black_box(&mut buffer);
    });
    let mac = measure("mac, 1 MiB", MIB, || {
        key.verify(&iv, black_box(&sealed), &tag).expect("it was sealed with this key");
    });
    [seal, seal_small, open, mac]
}

/// Runs `work`, which goes through `len` bytes, until the time is over; several times.
fn measure(name: &'static str, len: usize, mut work: impl FnMut()) -> Measured {
    work();
    let mut speeds = [0.0; RUNS];
    for speed in &mut speeds {
        let start = processor_time();
        let mut done = 0;
        let mut took = 0.0;
        while took < RUN {
            work();
            done += len;
            took = processor_time() - start;
        }
        *speed = done as f64 / took;
    }
    speeds.sort_unstable_by(f64::total_cmp);
    Measured { name, bytes_per_second: speeds[RUNS / 2] }
}

/// Seconds of processor time this thread has used.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Bytes that look random, the same ones each time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    };
    std::iter::repeat_with(next).take(len / 8).flatten().collect()
}
