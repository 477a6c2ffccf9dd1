//! Moments as Ollama writes them (RFC 3339) and as OpenAI does (Unix seconds).

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A moment: whole seconds since 1970, then nanoseconds, so that the derived order is the order in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    pub unix_s: i64,
    /// Nanoseconds after `unix_s`, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// Reads `2026-11-20T22:07:48.66840761Z` or the same with an offset such as `+02:00`.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let (date, rest) = text.split_once(['T', 't', ' '])?;
        let zone_at = rest.find(['Z', 'z', '+', '-'])?;
        let (clock, zone) = rest.split_at(zone_at);
        let [year, month, day] = numbers(date, '-')?;
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let [hour, minute, second] = numbers(clock, ':')?;
        let legal = (0..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 61;
        legal.then_some(())?;
        let unix_s =
            days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
                - offset_s(zone)?;
        Some(Timestamp {
            unix_s,
            nanos: nanos(fraction)?,
        })
    }

    /// Whether everybody reads it as a moment: exactly as RFC 3339 writes it, in capitals, a day that there is, no leap second.
    pub fn is_rfc3339(text: &str) -> bool {
        let Some((stem, rest)) = text.split_at_checked(19) else {
            return false;
        };
        let shape = |text: &str, shape: &str| {
            let fits = |(byte, wanted): (u8, u8)| match wanted {
                b'0' => byte.is_ascii_digit(),
                _ => byte == wanted,
            };
            text.len() == shape.len() && std::iter::zip(text.bytes(), shape.bytes()).all(fits)
        };
        let zone = rest.strip_prefix('.').map_or(Some(rest), |fraction| {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            (1..=9)
                .contains(&(fraction.len() - zone.len()))
                .then_some(zone)
        });
        let is_zone = |zone: &str| {
            let is_offset = shape(zone, "+00:00") || shape(zone, "-00:00");
            zone == "Z" || (is_offset && zone[1..3] < *"24" && zone[4..] < *"60")
        };
        shape(stem, "0000-00-00T00:00:00")
            && zone.is_some_and(is_zone)
            && stem[17..] < *"60"
            && "0001" <= &stem[..4]
            && is_day(&stem[..10])
            && Timestamp::parse(text).is_some()
    }

    /// Reads the date of an HTTP header, such as `Sun, 06 Nov 1994 08:49:37 GMT`; not its obsolete spellings.
    pub fn parse_http_date(text: &str) -> Option<Timestamp> {
        let mut words = text.split_once(", ")?.1.split(' ');
        let (day, month, year) = (words.next()?, words.next()?, words.next()?);
        let (clock, zone) = (words.next()?, words.next()?);
        let month = 1 + MONTHS.iter().position(|name| *name == month)?;
        let is_whole = zone == "GMT" && words.next().is_none();
        let written = format!("{year}-{month:02}-{day}T{clock}Z");
        Timestamp::parse(&written).filter(|_| is_whole)
    }

    /// `2026-11-20T22:07:48Z`: whole seconds, in UTC.
    pub fn to_rfc3339(self) -> String {
        // Beyond year 9999 the notation has no word; a node that claims such a date gets the last one.
        let unix_s = self.unix_s.clamp(0, 253_402_300_799);
        let (year, month, day) = civil_from_days(unix_s / 86_400);
        let (hour, minute, second) = (unix_s / 3_600 % 24, unix_s / 60 % 60, unix_s % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Whether the month of a date has that day.
fn is_day(date: &str) -> bool {
    let Some([year, month, day]) = numbers(date, '-') else {
        return false;
    };
    let next = match month {
        12 => days_from_civil(year + 1, 1, 1),
        _ => days_from_civil(year, month + 1, 1),
    };
    (1..=12).contains(&month) && day <= next - days_from_civil(year, month, 1)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(digits);
    let found = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(found)
}

fn digits(text: &str) -> Option<i64> {
    let legal = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    legal.then(|| text.parse().ok())?
}

fn nanos(fraction: &str) -> Option<u32> {
    if fraction.is_empty() {
        return Some(0);
    }
    let nine = fraction.get(..9).unwrap_or(fraction);
    let value = digits(nine)?; // at most nine of them
    let scale = 10_i64.pow(9 - nine.len() as u32);
    u32::try_from(value * scale).ok()
}

fn offset_s(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (digits(hours)? * 3_600 + digits(minutes)? * 60))
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

/// The inverse of [`days_from_civil`], for days from 1970 on.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_reads_as_a_moment() {
        for (text, expected) in [
            ("2026-11-20T22:07:48Z", true),
            ("2026-11-20T22:07:48.66840761Z", true),
            ("2024-02-29T23:59:59.5+02:00", true),
            ("0001-01-01T00:00:00Z", true),
            ("2318-03-02T10:00:00.123456789-07:30", true),
            ("0000-01-01T00:00:00Z", false),
            ("2025-02-29T00:00:00Z", false),
            ("2025-04-31T00:00:00Z", false),
            ("2025-12-31T00:00:00Z", true),
            ("2025-13-01T00:00:00Z", false),
            ("2025-00-01T00:00:00Z", false),
            ("2025-01-00T00:00:00Z", false),
            ("2025-01-01T24:00:00Z", false),
            ("2025-01-01T00:00:60Z", false),
            ("2025-1-1T00:00:00Z", false),
            ("2025-01-01t00:00:00Z", false),
            ("2025-01-01 00:00:00Z", false),
            ("2025-01-01T00:00:00z", false),
            ("2025-01-01T00:00:00", false),
            ("2025-01-01T00:00:00.Z", false),
            ("2025-01-01T00:00:00.1234567890Z", false),
            ("2025-01-01T00:00:00+24:00", false),
            ("2025-01-01T00:00:00+01:60", false),
            ("2025-01-01T00:00:00+0100", false),
            ("2025-01-01T00:00:0\u{e9}", false),
            ("now", false),
            ("", false),
        ] {
            assert_eq!(Timestamp::is_rfc3339(text), expected, "{text}");
        }
    }

    #[test]
    fn moments_are_read_and_written() {
        for (text, unix_s, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2026-11-20T22:07:48.66840761Z", 1_795_212_468, 668_407_610),
            ("2024-02-29T23:59:59.5+02:00", 1_709_243_999, 500_000_000),
            ("2024-05-01T00:00:00-07:30", 1_714_548_600, 0),
        ] {
            assert_eq!(
                Timestamp::parse(text),
                Some(Timestamp { unix_s, nanos }),
                "{text}"
            );
        }
        for text in [
            "",
            "yesterday",
            "2024-13-01T00:00:00Z",
            "2024-01-01",
            "2024-01-01T00:00Z",
            "2024-01-01T0é:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn dates_of_http_headers_are_read() {
        for (text, unix_s) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT+1", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT GMT", None),
            ("Sun, 06 Nix 1994 08:49:37 GMT", None),
            ("", None),
        ] {
            let read = Timestamp::parse_http_date(text).map(|moment| moment.unix_s);
            assert_eq!(read, unix_s, "{text}");
        }
    }

    #[test]
    fn every_day_survives_the_round_trip() {
        for day in (0..2_932_896).step_by(13) {
            let moment = Timestamp {
                unix_s: day * 86_400 + 3_661,
                nanos: 0,
            };
            assert_eq!(Timestamp::parse(&moment.to_rfc3339()), Some(moment));
        }
    }
}
