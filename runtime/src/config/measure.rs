//! Amounts as people write them: durations, sizes, money.
//!
//! Every amount names its unit, so that `timeout: 60` is a question instead of a guess. The same words are read from
//! files, variables and flags, and shown in schemas and examples. A text that is no amount comes back as the reason.

use std::time::Duration;

/// Units of a duration and their milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of a size and their bytes, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// What a JSON Schema says about a duration.
pub(crate) const DURATION_PATTERN: &str = "^[0-9]+ ?(ms|s|m|h|d)$";

/// What a JSON Schema says about a size.
pub(crate) const SIZE_PATTERN: &str = "^[0-9]+ ?(B|KiB|MiB|GiB)$";

/// Millionths in a dollar.
const MICROS: u64 = 1_000_000;

/// `500ms`, `60s`, `5m`, `1h`, `3d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (count, unit) = split(text)?;
    let Some((_, millis)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() {
            format!("the unit is missing: write {count}s or {count}ms")
        } else {
            "the units are ms, s, m, h and d".to_owned()
        });
    };
    count.checked_mul(*millis).map(Duration::from_millis).ok_or_else(|| "it is too long".to_owned())
}

/// The shortest way to write `duration`, whole milliseconds.
pub(crate) fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATION_UNITS, "0s", "")
}

/// `65536`, `64KiB`, `1 MiB`: bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (count, unit) = split(text)?;
    let bytes = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes);
    let Some(bytes) = bytes.or_else(|| unit.is_empty().then_some(1)) else {
        return Err("the units are B, KiB, MiB and GiB".to_owned());
    };
    count.checked_mul(bytes).ok_or_else(|| "it is too large".to_owned())
}

/// The shortest way to write a number of bytes.
pub(crate) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS, "0 B", " ")
}

/// US dollars as written, in millionths: exact, because budgets are added up.
pub(crate) fn microusd(digits: &str) -> Result<u64, String> {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(part) {
        return Err("write it in digits, such as 0.50".to_owned());
    }
    if part.len() > 6 {
        return Err("it has at most 6 digits behind the point".to_owned());
    }
    let micros = format!("{part:0<6}").parse::<u64>().unwrap_or_default();
    whole
        .parse::<u64>()
        .ok()
        .and_then(|dollars| dollars.checked_mul(MICROS)?.checked_add(micros))
        .ok_or_else(|| "it is too much".to_owned())
}

/// Dollars without needless zeros.
pub(crate) fn show_usd(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / MICROS, micros % MICROS);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count and its unit.
fn split(text: &str) -> Result<(u64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err("it begins with a whole number".to_owned());
    }
    let count = digits.parse().map_err(|_| "the number is too large".to_owned())?;
    Ok((count, unit.strip_prefix(' ').unwrap_or(unit)))
}

fn show(amount: u64, units: &[(&str, u64)], zero: &str, space: &str) -> String {
    units
        .iter()
        .find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor))
        .map_or_else(|| zero.to_owned(), |(unit, factor)| format!("{}{space}{unit}", amount / factor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_name_their_unit() {
        for (text, millis) in [("500ms", 500), ("60s", 60_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["60", "", "s", "-1s", "1.5s", "1 week", "60S", "99999999999999999999s", "9999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad} passed");
        }
        assert_eq!(duration("60").unwrap_err(), "the unit is missing: write 60s or 60ms");
    }

    #[test]
    fn sizes_are_bytes() {
        assert_eq!(size("1 MiB"), Ok(1_048_576));
        assert_eq!(size("512"), Ok(512));
        assert!(size("1 MB").is_err());
        assert_eq!(show_size(1_048_576), "1 MiB");
        assert_eq!(show_size(1_500), "1500 B");
    }

    #[test]
    fn money_is_exact() {
        assert_eq!(microusd("0.50"), Ok(500_000));
        assert_eq!(microusd("20"), Ok(20_000_000));
        assert_eq!(microusd("0.000001"), Ok(1));
        for bad in ["-1", "1e3", ".5", "", "0.0000001", "99999999999999999999"] {
            assert!(microusd(bad).is_err(), "{bad} passed");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(n in any::<u32>()) {
            let time = Duration::from_millis(u64::from(n));
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
            prop_assert_eq!(size(&show_size(u64::from(n))), Ok(u64::from(n)));
            prop_assert_eq!(microusd(&show_usd(u64::from(n))), Ok(u64::from(n)));
        }
    }
}
