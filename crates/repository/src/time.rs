//! Times as Go writes them into JSON: RFC 3339 with up to nine digits of fraction. Ours are always
//! in UTC; any offset is read. Stock restic writes the offset of its own zone, so that a directory
//! it stored in another zone is a new tree when we store it, though nothing of it changed.

use alidade_model::Time;

const DAY: i64 = 86_400;
/// The length of the longest text.
const LONGEST: usize = "2006-01-02T15:04:05.999999999Z".len();
/// What Go's zero `time.Time` is: 0001-01-01T00:00:00Z. A field that is missing means this.
pub const GO_ZERO: Time = Time::new(-62_135_596_800, 0);

/// The text of a time in UTC. Fractions lose their trailing zeros; a year outside 0 to 9999 becomes
/// the nearest of these with month, day and time of day kept, which is what restic does with it.
#[must_use]
pub fn to_text(time: Time) -> String {
    text(time).as_bytes().iter().copied().map(char::from).collect()
}

/// What [`to_text`] gives, without an allocation: a tree has three times for each node.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Text {
    /// ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// As [`to_text`].
#[must_use]
pub fn text(time: Time) -> Text {
    let (year, month, day) = civil(time.seconds.div_euclid(DAY));
    let in_year = year.clamp(0, 9999);
    // 29 February of a year that has none is the first of March, as Go's AddDate says.
    let (month, day) = if day > month_len(in_year, month) { (3, 1) } else { (month, day) };
    let second = time.seconds.rem_euclid(DAY);
    let mut bytes = *b"0000-00-00T00:00:00.000000000Z";
    put_digits(&mut bytes[..4], in_year);
    put_digits(&mut bytes[5..7], month);
    put_digits(&mut bytes[8..10], day);
    put_digits(&mut bytes[11..13], second / 3600);
    put_digits(&mut bytes[14..16], second / 60 % 60);
    put_digits(&mut bytes[17..19], second % 60);
    let mut len = 19;
    if time.nanos != 0 {
        put_digits(&mut bytes[20..29], i64::from(time.nanos.min(999_999_999)));
        len = 29;
        while bytes[len - 1] == b'0' {
            len -= 1;
        }
    }
    bytes[len] = b'Z';
    Text { bytes, len: len + 1 }
}

/// Fills `text` with the last digits of a number that is not negative.
fn put_digits(text: &mut [u8], number: i64) {
    let mut rest = u32::try_from(number).unwrap_or(0);
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Reads what Go reads: `2006-01-02T15:04:05`, a fraction of any length of which nine digits count,
/// and `Z` or `±hh:mm`. `None` for anything else.
#[must_use]
pub fn parse(text: &str) -> Option<Time> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.number(4)?;
    rest.byte(b'-')?;
    let month = rest.number(2)?;
    rest.byte(b'-')?;
    let day = rest.number(2)?;
    rest.byte(b'T')?;
    let hour = rest.number(2)?;
    rest.byte(b':')?;
    let minute = rest.number(2)?;
    rest.byte(b':')?;
    let second = rest.number(2)?;
    let nanos = rest.fraction()?;
    let offset = rest.offset()?;
    let valid = (1..=12).contains(&month) && (1..=month_len(year, month)).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 59 || !rest.0.is_empty() {
        return None;
    }
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    Some(Time::new(seconds, nanos))
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    fn digit(&mut self) -> Option<i64> {
        let (&first, rest) = self.0.split_first()?;
        let digit = first.is_ascii_digit().then(|| i64::from(first - b'0'))?;
        self.0 = rest;
        Some(digit)
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        (0..digits).try_fold(0, |number, _| Some(number * 10 + self.digit()?))
    }

    /// Nanoseconds; zero when there is no fraction.
    fn fraction(&mut self) -> Option<u32> {
        if self.byte(b'.').is_none() {
            return Some(0);
        }
        let (mut nanos, mut unit) = (self.digit()? * 100_000_000, 10_000_000);
        while let Some(digit) = self.digit() {
            nanos += digit * unit;
            unit /= 10;
        }
        u32::try_from(nanos).ok()
    }

    /// Seconds east of Greenwich.
    fn offset(&mut self) -> Option<i64> {
        if self.byte(b'Z').is_some() {
            return Some(0);
        }
        let sign = if self.byte(b'+').is_some() {
            1
        } else {
            self.byte(b'-')?;
            -1
        };
        let hours = self.number(2)?;
        self.byte(b':')?;
        let minutes = self.number(2)?;
        (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_len(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Both directions count years from the first of March, so that the leap day is the last of its
// year; 719,468 days lie between 0000-03-01 and 1970-01-01, and 146,097 in 400 years.

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date so many days after 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        // Seconds, nanoseconds, and what Go's json.Marshal makes of restic's FixTime of it.
        let cases = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (1_795_264_587, 799_938_940, "2026-11-21T12:36:27.79993894Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (GO_ZERO.seconds, 0, "0001-01-01T00:00:00Z"),
            (-62_167_219_200, 0, "0000-01-01T00:00:00Z"),
            (-62_167_219_201, 0, "0000-12-31T23:59:59Z"),
            (253_402_300_799, 0, "9999-12-31T23:59:59Z"),
            (253_402_300_800, 0, "9999-01-01T00:00:00Z"),
            (1 << 40, 0, "9999-02-20T00:36:16Z"),
            // 12000-02-29: 9999 has no such day.
            (316_521_302_400, 0, "9999-03-01T00:00:00Z"),
            (-62_288_348_277, 0, "0000-02-29T01:02:03Z"),
        ];
        for (seconds, nanos, text) in cases {
            assert_eq!(to_text(Time::new(seconds, nanos)), text);
        }
        for seconds in [i64::MIN, i64::MAX] {
            assert!(parse(&to_text(Time::new(seconds, 0))).is_some());
        }
    }

    #[test]
    fn every_day_of_ten_thousand_years_reads_back() {
        let mut expected = days(0, 1, 1);
        for year in 0..=9999 {
            for month in 1..=12 {
                for day in 1..=month_len(year, month) {
                    assert_eq!(days(year, month, day), expected);
                    assert_eq!(civil(expected), (year, month, day));
                    expected += 1;
                }
            }
        }
        assert_eq!(days(1970, 1, 1), 0);
    }

    #[test]
    fn any_offset_is_read_as_the_same_instant() {
        let utc = parse("2026-11-21T12:36:27.5Z").unwrap();
        for text in ["2026-11-21T14:36:27.5+02:00", "2026-11-21T12:06:27.500000000999-00:30"] {
            assert_eq!(parse(text), Some(utc), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let bads = [
            "",
            "2026-11-21",
            "2026-11-21t12:36:27Z",
            "2026-11-21T12:36:27",
            "2026-11-21T12:36:27z",
            "2026-11-21T12:36:27,5Z",
            "2026-11-21T12:36:27.Z",
            "2026-11-21T12:36:60Z",
            "2026-11-21T24:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+0200",
            "2026-01-01T00:00:00ZZ",
            "+026-01-01T00:00:00Z",
        ];
        for bad in bads {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
