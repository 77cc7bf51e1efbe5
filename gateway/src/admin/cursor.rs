//! Cursors: where a list goes on, opaque to whoever carries it, so that its order may change behind it.
//!
//! Written and read by the lists of this listener; one that is not ours is a 400, never a wrong page.

use super::problem::Problem;
use super::verb::clipped;

/// Begins every cursor; another form would begin otherwise.
const VERSION: &str = "c1";

/// The cursor behind a place in an order.
pub(super) fn write(place: i64) -> String {
    format!("{VERSION}{}", hex::encode(place.to_be_bytes()))
}

/// The place that a cursor of ours stands for.
pub(super) fn read(text: &str) -> Result<i64, Problem> {
    let mut place = [0; 8];
    let digits = text.strip_prefix(VERSION).unwrap_or_default();
    let stranger = |_| {
        let detail = format!("cursor={:?} is none of ours; take the next of the page before", clipped(text));
        Problem::malformed(detail)
    };
    hex::decode_to_slice(digits, &mut place).map_err(stranger)?;
    Ok(i64::from_be_bytes(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back() {
        for place in [0, 1, 4711, i64::MAX, -1] {
            assert_eq!(read(&write(place)), Ok(place));
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
        }
    }
}
