//! Times as people write and read them.

use alidade_model::Time;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// Reads times in, and prints them for, one time zone.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    zone: TimeZone,
}

impl Calendar {
    /// The calendar of this machine.
    #[must_use]
    pub(crate) fn local() -> Self {
        Self { zone: TimeZone::system() }
    }

    /// The calendar of that zone.
    #[cfg(test)]
    pub(crate) fn of(zone: TimeZone) -> Self {
        Self { zone }
    }

    /// Reads a time: RFC 3339 (`2026-11-21T12:00:00Z`), a date with a time of day in the local
    /// zone (`2026-11-21 12:00`), a date, or how long ago (`2h`, `3 days ago`).
    ///
    /// A bare date means the end of that day: "as it was on that day".
    #[must_use]
    pub(crate) fn parse(&self, text: &str, now: Time) -> Option<Time> {
        let text = text.trim();
        if let Ok(at) = text.parse::<Timestamp>() {
            return Some(from_timestamp(at));
        }
        if let Ok(date) = text.parse::<Date>()
            && !text.contains([':', 'T', 't', ' '])
        {
            let next = date.tomorrow().ok()?.to_zoned(self.zone.clone()).ok()?;
            let first = from_timestamp(next.timestamp());
            return Some(Time::from_nanos(first.as_nanos() - 1));
        }
        if text.contains(':')
            && let Ok(local) = text.parse::<DateTime>()
        {
            return Some(from_timestamp(local.to_zoned(self.zone.clone()).ok()?.timestamp()));
        }
        self.ago(text, now)
    }

    fn ago(&self, text: &str, now: Time) -> Option<Time> {
        let amount = text.strip_suffix("ago").unwrap_or(text).trim();
        if !amount.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let span: Span = amount.parse().ok()?;
        let then: Zoned = timestamp(now)?.to_zoned(self.zone.clone()).checked_sub(span).ok()?;
        Some(from_timestamp(then.timestamp()))
    }

    /// The time for people: local, to the second.
    #[must_use]
    pub(crate) fn show(&self, time: Time) -> String {
        match timestamp(time) {
            Some(at) => at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            None => time.to_string(),
        }
    }
}

/// The time for programs: RFC 3339 in UTC, with as many fractional digits as it has. A time
/// outside the years -9999 to 9999 is `SECONDS.NANOS`.
#[must_use]
pub(crate) fn rfc3339(time: Time) -> String {
    timestamp(time).map_or_else(|| time.to_string(), |at| at.to_string())
}

/// A duration for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
#[must_use]
pub(crate) fn duration(from: Time, to: Time) -> String {
    let nanos = u128::try_from(to.as_nanos() - from.as_nanos()).unwrap_or(0);
    let tenths = (nanos + 50_000_000) / 100_000_000;
    let seconds = tenths / 10;
    match seconds {
        0..10 => format!("{}.{} s", seconds, tenths % 10),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn timestamp(time: Time) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.as_nanos()).ok()
}

fn from_timestamp(at: Timestamp) -> Time {
    Time::from_nanos(at.as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Calendar {
        Calendar::of(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap())
    }

    fn parsed(text: &str) -> Option<String> {
        let now = Time::new(1_795_262_400, 0); // 2026-11-21T12:00:00Z
        berlin().parse(text, now).map(rfc3339)
    }

    #[test]
    fn a_time_is_read_in_every_form_that_the_help_names() {
        for (text, time) in [
            ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00Z"),
            ("2026-11-21T12:00:00.5+02:00", "2026-11-21T10:00:00.5Z"),
            ("2026-11-21 12:00", "2026-11-21T11:00:00Z"),
            ("2026-07-01T12:00:30", "2026-07-01T10:00:30Z"),
            ("2026-11-21", "2026-11-21T22:59:59.999999999Z"),
            ("2h", "2026-11-21T10:00:00Z"),
            ("1 day ago", "2026-11-20T12:00:00Z"),
            ("1h30m ago", "2026-11-21T10:30:00Z"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(time), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "b", "host", "2026-13-01", "12:00", "-2h", "99999999 years"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_shown_local_to_people_and_in_utc_to_programs() {
        let time = Time::new(1_795_262_400, 120_000_000);
        assert_eq!(berlin().show(time), "2026-11-21 13:00:00");
        assert_eq!(rfc3339(time), "2026-11-21T12:00:00.12Z");
        assert_eq!(rfc3339(Time::new(i64::MAX, 1)), "9223372036854775807.000000001");
    }

    #[test]
    fn durations_grow_coarser_with_their_length() {
        for (millis, text) in [
            (0_i128, "0.0 s"),
            (449, "0.4 s"),
            (12_345, "12 s"),
            (185_000, "3 min 05 s"),
            (7_620_000, "2 h 07 min"),
        ] {
            let end = Time::from_nanos(millis * 1_000_000);
            assert_eq!(duration(Time::default(), end), text);
        }
    }
}
