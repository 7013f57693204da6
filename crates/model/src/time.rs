use std::fmt;

/// A point in time: seconds since 1970-01-01T00:00:00Z and nanoseconds within that second.
///
/// File systems keep times before 1970 and with nanoseconds; both survive here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since the epoch, negative before it.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999, always counted forward from `seconds`.
    pub nanos: u32,
}

impl Time {
    /// The time `seconds` and `nanos` after the epoch.
    #[must_use]
    pub const fn new(seconds: i64, nanos: u32) -> Self {
        Self { seconds, nanos }
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub fn as_nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    /// The time `nanos` nanoseconds after the epoch; what does not fit is held at the nearest end.
    #[must_use]
    pub fn from_nanos(nanos: i128) -> Self {
        let seconds = nanos.div_euclid(1_000_000_000);
        let rest = nanos.rem_euclid(1_000_000_000);
        let clamped = seconds.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Self {
            seconds: i64::try_from(clamped).unwrap_or_default(),
            nanos: u32::try_from(rest).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Time {
    /// Writes `SECONDS.NANOS`; a calendar is the business of who prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::Time;

    #[test]
    fn nanoseconds_before_the_epoch_survive_the_round_trip() {
        for time in [Time::new(-1, 999_999_999), Time::new(0, 0), Time::new(1 << 40, 1)] {
            assert_eq!(Time::from_nanos(time.as_nanos()), time);
        }
    }
}
