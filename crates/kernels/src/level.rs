use std::sync::OnceLock;

use crate::self_test::{Broken, self_test};

/// Which instructions the kernels may use.
///
/// A value exists only for what this processor can do, so a kernel that is given one may use it
/// without asking again. Results are the same at every level; only the speed differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(Set);

/// The sets of instructions that kernels are written for, each containing the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Set {
    /// Whatever the compiler and the portable crates use.
    Portable,
    /// SHA, SSSE3, SSE4.1.
    #[cfg(target_arch = "x86_64")]
    ShaNi,
    /// AVX-512 F, BW, DQ, VL, IFMA and VBMI, and AES on its registers, besides.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// No instructions but those that every processor of this architecture has.
    pub const PORTABLE: Self = Self(Set::Portable);

    /// The best level of this processor at which every kernel passes its self-test.
    ///
    /// The first call tests (well under a millisecond); the answer stays the same until the process
    /// ends. [`Level::broken`] says what failed, if anything did.
    #[must_use]
    pub fn detect() -> Self {
        detected().level
    }

    /// What failed its self-test on this processor, so that [`Level::detect`] fell back: a fault of
    /// the processor or of a kernel that somebody should hear of.
    #[must_use]
    pub fn broken() -> Option<Broken> {
        detected().broken
    }

    /// Every level this processor can run, the portable one first.
    pub fn available() -> impl Iterator<Item = Self> {
        SETS.into_iter().filter(|set| set.is_here()).map(Self)
    }

    /// The name for reports: `portable`, `sha-ni` or `avx512`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::ShaNi => "sha-ni",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
        }
    }

    pub(crate) const fn set(self) -> Set {
        self.0
    }
}

#[cfg(target_arch = "x86_64")]
const SETS: [Set; 3] = [Set::Portable, Set::ShaNi, Set::Avx512];
#[cfg(not(target_arch = "x86_64"))]
const SETS: [Set; 1] = [Set::Portable];

impl Set {
    fn is_here(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::ShaNi => {
                is_x86_feature_detected!("sha")
                    && is_x86_feature_detected!("ssse3")
                    && is_x86_feature_detected!("sse4.1")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::ShaNi.is_here()
                    && is_x86_feature_detected!("aes")
                    && is_x86_feature_detected!("vaes")
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512ifma")
                    && is_x86_feature_detected!("avx512vbmi")
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Detected {
    level: Level,
    broken: Option<Broken>,
}

fn detected() -> Detected {
    static DETECTED: OnceLock<Detected> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        let mut best = Detected { level: Level::PORTABLE, broken: None };
        for level in Level::available() {
            match self_test(level) {
                Ok(()) => best.level = level,
                Err(broken) => return Detected { broken: Some(broken), ..best },
            }
        }
        best
    })
}
