//! Time as Ollama writes it: RFC 3339 with nanoseconds in JSON, RFC 1123 in the `Date` header.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest duration Go knows; Ollama adds it to now for a model that is pinned, hence the year 2319 in `/api/ps`.
pub(super) const FOREVER: Duration = Duration::from_nanos(i64::MAX as u64);

struct Civil {
    year: i64,
    month: usize,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    weekday: usize,
}

/// Whole seconds since 1970.
pub(super) fn unix_s(t: SystemTime) -> u64 {
    t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Such as `2026-11-20T22:09:37.11559938Z`: trailing zeros of the fraction are left out, as Go does.
pub(super) fn rfc3339(t: SystemTime) -> String {
    let nanos = t.duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let c = civil(unix_s(t));
    let fraction = format!(".{nanos:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

/// Such as `Fri, 20 Nov 2026 22:09:36 GMT`.
pub(super) fn http_date(t: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let c = civil(unix_s(t));
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        DAYS[c.weekday],
        c.day,
        MONTHS[c.month - 1],
        c.year,
        c.hour,
        c.minute,
        c.second
    )
}

/// The proleptic Gregorian calendar, counted in eras of 400 years that begin in March.
fn civil(unix_s: u64) -> Civil {
    let days = unix_s / 86_400;
    let rest = unix_s % 86_400;
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    Civil {
        year: (year_of_era + era * 400 + u64::from(month <= 2)) as i64,
        month: month as usize,
        day: day_of_year - (153 * from_march + 2) / 5 + 1,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
        weekday: (days % 7) as usize,
    }
}

/// A duration as Go writes it in JSON requests: a number of seconds (negative: for ever) or text such as `5m`, `1h30m`, `-1m`.
///
/// # Errors
/// Ollama's own sentence, such as `time: missing unit in duration "300"`.
pub(super) fn keep_alive(value: &serde_json::Value) -> Result<Duration, String> {
    if let Some(seconds) = value.as_f64() {
        return Ok(from_seconds(seconds));
    }
    let text = value.as_str().unwrap_or_default();
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("time: missing unit in duration \"{text}\""))?;
        let number: f64 = rest[..digits]
            .parse()
            .map_err(|_| format!("time: invalid duration \"{text}\""))?;
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |at| digits + at);
        let scale = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            other => {
                return Err(format!(
                    "time: unknown unit \"{other}\" in duration \"{text}\""
                ));
            }
        };
        seconds += number * scale;
        rest = &rest[unit..];
    }
    Ok(from_seconds(if negative { -seconds } else { seconds }))
}

fn from_seconds(seconds: f64) -> Duration {
    if seconds < 0.0 {
        return FOREVER;
    }
    Duration::try_from_secs_f64(seconds)
        .unwrap_or(FOREVER)
        .min(FOREVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dates_are_written_as_go_writes_them() {
        let t = UNIX_EPOCH + Duration::new(1_795_212_577, 115_599_380);
        assert_eq!(rfc3339(t), "2026-11-20T22:09:37.11559938Z");
        assert_eq!(http_date(t), "Fri, 20 Nov 2026 22:09:37 GMT");
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00Z");
        assert_eq!(
            rfc3339(UNIX_EPOCH + Duration::from_secs(951_782_400)),
            "2000-02-29T00:00:00Z"
        );
    }

    #[test]
    fn durations() {
        for (written, meant) in [
            (json!(0), Ok(Duration::ZERO)),
            (json!(-1), Ok(FOREVER)),
            (json!("-1m"), Ok(FOREVER)),
            (json!(1.5), Ok(Duration::from_millis(1500))),
            (json!("1h30m"), Ok(Duration::from_secs(5400))),
            (json!("0s"), Ok(Duration::ZERO)),
            (json!("20ms"), Ok(Duration::from_millis(20))),
            (
                json!("300"),
                Err("time: missing unit in duration \"300\"".to_owned()),
            ),
        ] {
            assert_eq!(keep_alive(&written), meant, "{written}");
        }
    }
}
