//! Times as people read them: ages in tables (`12s`, `5m`, `3h`, `2d`) and spans on the command line (`30s`, `5m`).
//!
//! JSON and YAML keep the API's exact times; only tables and sheets round. A time that cannot be read shows as it stands.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Longest span that a flag takes: a day.
pub const SPAN_MAX: Duration = Duration::from_hours(24);

/// The largest whole unit of a span that leaves at least two of it, so that `90s` does not become `1m`.
#[must_use]
pub fn short(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A span that is measured, not counted: milliseconds below a second, tenths below a minute.
#[must_use]
pub fn exact(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        format!("{} ms", span.as_millis())
    } else if span < Duration::from_mins(1) {
        format!("{:.1} s", span.as_secs_f64())
    } else {
        short(span)
    }
}

/// How long ago `then` was; a clock that runs ahead gives `0s`.
#[must_use]
pub fn since(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    short((now - then).to_std().unwrap_or_default())
}

/// [`since`] for a time as the API writes it.
#[must_use]
pub fn since_text(then: &str, now: DateTime<Utc>) -> String {
    then.parse::<DateTime<Utc>>().map_or_else(|_| then.to_owned(), |then| since(then, now))
}

/// A span from the command line: a whole number with `ms`, `s`, `m` or `h`; bare numbers are seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span of time; write 500ms, 30s, 5m or 1h");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let span = Duration::from_millis(number.saturating_mul(millis));
    if span > SPAN_MAX { Err(format!("{text} is more than a day; write at most 24h")) } else { Ok(span) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_keep_two_of_their_unit() {
        let table = [(0, "0s"), (12, "12s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")];
        for (seconds, shown) in table {
            assert_eq!(short(Duration::from_secs(seconds)), shown);
        }
        assert_eq!(exact(Duration::from_millis(612)), "612 ms");
        assert_eq!(exact(Duration::from_millis(1_250)), "1.2 s");
    }

    #[test]
    fn a_clock_that_runs_ahead_gives_no_negative_age() {
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(since_text("2026-01-01T00:00:05Z", now), "0s");
        assert_eq!(since_text("2025-12-31T23:59:00Z", now), "60s");
        assert_eq!(since_text("soon", now), "soon");
    }

    #[test]
    fn spans_are_read_and_bounded() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("5m"), Ok(Duration::from_mins(5)));
        for bad in ["", "s", "5x", "-1s", "1.5s", "25h", "99999999999999999999h"] {
            assert!(parse(bad).is_err(), "{bad} passed");
        }
    }
}
