//! Cursors: where a list goes on, opaque to whoever carries it, so that its order may change behind it.
//!
//! Written and read by the lists of this listener, each with a form of its own; one that is not that list's is a 400,
//! never a wrong page.

use chrono::DateTime;
use troupe_runtime::domain::ids::StepId;
use troupe_runtime::store::ResultPlace;
use uuid::Uuid;

use super::problem::Problem;
use super::verb::clipped;

/// Begins a cursor of tasks; another form would begin otherwise.
const TASKS: &str = "c1";
/// Begins a cursor of results.
const RESULTS: &str = "r1";
/// Begins a cursor of sessions.
const SESSIONS: &str = "s1";

/// The cursor behind a task's place in the order.
pub(super) fn write(place: i64) -> String {
    format!("{TASKS}{}", hex::encode(place.to_be_bytes()))
}

/// The place that a cursor of tasks stands for.
pub(super) fn read(text: &str) -> Result<i64, Problem> {
    let mut place = [0; 8];
    hex::decode_to_slice(digits(text, TASKS), &mut place).map_err(|_| stranger(text))?;
    Ok(i64::from_be_bytes(place))
}

/// The cursor behind a result.
pub(super) fn write_result(place: ResultPlace) -> String {
    let (at, step) = (place.at.timestamp_millis().to_be_bytes(), place.step.0.simple());
    format!("{RESULTS}{}{step}", hex::encode(at))
}

/// The place that a cursor of results stands for.
pub(super) fn read_result(text: &str) -> Result<ResultPlace, Problem> {
    let mut place = [0; 24];
    hex::decode_to_slice(digits(text, RESULTS), &mut place).map_err(|_| stranger(text))?;
    let (millis, step) = place.split_at(8);
    let millis = millis.iter().fold(0, |number, byte| number << 8 | i64::from(*byte));
    let at = DateTime::from_timestamp_millis(millis).ok_or_else(|| stranger(text))?;
    Ok(ResultPlace { at, step: StepId(Uuid::from_slice(step).map_err(|_| stranger(text))?) })
}

/// The cursor behind a session.
pub(super) fn write_session(session: &str) -> String {
    format!("{SESSIONS}{}", hex::encode(session))
}

/// The session that a cursor of sessions stands for.
pub(super) fn read_session(text: &str) -> Result<String, Problem> {
    let name = text.strip_prefix(SESSIONS).and_then(|digits| hex::decode(digits).ok());
    let name = name.and_then(|name| String::from_utf8(name).ok()).filter(|name| !name.contains('\0'));
    name.ok_or_else(|| stranger(text))
}

fn digits<'text>(text: &'text str, form: &str) -> &'text str {
    text.strip_prefix(form).unwrap_or_default()
}

fn stranger(text: &str) -> Problem {
    let detail = format!("cursor={:?} is none of this list's; take the next of the page before", clipped(text));
    Problem::malformed(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back() {
        for place in [0, 1, 4711, i64::MAX, -1] {
            assert_eq!(read(&write(place)), Ok(place));
        }
        for millis in [0, 1_760_000_000_123, -1] {
            let at = DateTime::from_timestamp_millis(millis).unwrap();
            let place = ResultPlace { at, step: StepId(Uuid::from_u128(u128::MAX - 7)) };
            assert_eq!(read_result(&write_result(place)), Ok(place));
        }
        for session in ["", "C42:1700", "\u{1F3AD}"] {
            assert_eq!(read_session(&write_session(session)).as_deref(), Ok(session));
        }
    }

    #[test]
    fn a_stranger_is_refused() {
        for bad in [
            "",
            "12",
            "c1",
            "c2000000000000000a",
            "c1zz00000000000000",
            "c1000000000000000",
            "c100000000000000000",
            "é",
        ] {
            assert!(read(bad).is_err(), "{bad} passed");
            assert!(read_result(bad).is_err() && read_session(bad).is_err(), "{bad} passed");
        }
        let of_results = write_result(ResultPlace { at: DateTime::UNIX_EPOCH, step: StepId(Uuid::nil()) });
        assert!(read(&of_results).is_err() && read_session(&of_results).is_err());
        assert!(read_result(&write(7)).is_err() && read_result(&format!("{of_results}00")).is_err());
        let beyond = of_results.replacen("00000000", "7fffffff", 1);
        assert!(read_result(&beyond).is_err(), "no such year");
        for bad in ["s1ff", "s1f", "s100"] {
            assert!(read_session(bad).is_err(), "{bad} passed");
        }
    }
}
