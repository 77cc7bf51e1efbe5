//! A memory as Redis keeps it: one string, with everything that is needed to know whether it is one.
//!
//! ```text
//! bytes    0..8        8..28             28       29..37   37..45      45..
//!          troupeM1    version, digits   codec    size     checksum    the text, or zstd's bytes with their seal
//! ```
//!
//! The format's number is the last sign of the mark. The version stands there in digits because the script that compares
//! it runs in the server, whose numbers are floating. Codec, size, checksum and seal are those of the rows
//! ([`crate::store::payload`]). Whatever does not fit is no value of ours: a miss, and written over.

use crate::store::payload::{self, Held, Payload};
use crate::store::{Error, Remembered};

/// What every value begins with.
const MARK: &[u8] = b"troupeM1";
/// Where the version stands, behind the mark.
const VERSION_END: usize = MARK.len() + 20;
/// Bytes before the text.
pub(super) const HEAD_BYTES: usize = VERSION_END + 1 + 8 + 8;

/// The value of a memory.
///
/// # Errors
/// [`Error::TooLarge`] as for a row.
pub(super) async fn encode(memory: &Remembered, options: payload::Options) -> Result<Vec<u8>, Error> {
    let Payload { text, packed, codec, size, checksum } =
        Payload::of("memory", memory.body.to_string(), None, options).await?;
    let text = packed.unwrap_or_else(|| text.into_bytes());
    let mut value = Vec::with_capacity(HEAD_BYTES + text.len());
    value.extend(MARK);
    value.extend(format!("{:020}", memory.version).as_bytes());
    value.push(codec as u8);
    value.extend(size.to_be_bytes());
    value.extend(checksum.to_be_bytes());
    value.extend(text);
    Ok(value)
}

/// The memory of a value.
///
/// # Errors
/// What does not fit.
pub(super) fn decode(value: &[u8], bytes_max: usize) -> Result<Remembered, String> {
    let rest = value.strip_prefix(MARK).ok_or("it does not begin as a value of this version does")?;
    let (digits, rest) = rest.split_at_checked(VERSION_END - MARK.len()).ok_or("it is cut off")?;
    let version = str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    let version = version.and_then(|digits| digits.parse().ok()).ok_or("its version is no number")?;
    let (codec, rest) = rest.split_first().ok_or("it is cut off")?;
    let (size, rest) = rest.split_first_chunk().ok_or("it is cut off")?;
    let (checksum, rest) = rest.split_first_chunk().ok_or("it is cut off")?;
    let checksum = i64::from_be_bytes(*checksum);
    let plain = *codec == 0;
    let text = if plain { str::from_utf8(rest).map_err(|error| format!("it is no text: {error}"))? } else { "" };
    let held = Held {
        text,
        packed: (!plain).then_some(rest),
        codec: Some(i64::from(*codec)),
        size: Some(i64::from_be_bytes(*size)),
        checksum: Some(checksum),
    };
    let body = held.open(None, bytes_max)?;
    Ok(Remembered { version, body: body.into(), checksum })
}

/// The head of a value, by which it is known again.
pub(super) fn head(value: &[u8]) -> &[u8] {
    &value[..value.len().min(HEAD_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: payload::Options = payload::Options { compress_above: 10_000, compress_min: 100, bytes_max: 50_000 };

    fn opened(value: &[u8]) -> Result<Remembered, String> {
        decode(value, OPTIONS.bytes_max)
    }

    #[tokio::test]
    async fn a_value_comes_back() {
        for body in [String::new(), "Grüße".to_owned(), "a".repeat(5_000), "b".repeat(20_000)] {
            let memory = Remembered::new(u64::MAX, body);
            let value = encode(&memory, OPTIONS).await.unwrap();
            assert!(value.starts_with(MARK) && value.len() <= HEAD_BYTES + 100, "{} bytes", value.len());
            assert_eq!(opened(&value), Ok(memory));
            assert_eq!(head(&value).len(), HEAD_BYTES);
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_or_has_grown_is_no_value() {
        for body in ["a short text".to_owned(), "a text to pack, ".repeat(20)] {
            let value = encode(&Remembered::new(7, body), OPTIONS).await.unwrap();
            for length in 0..value.len() {
                assert!(opened(&value[..length]).is_err(), "{length} bytes of {}", value.len());
            }
            assert!(opened(&[&*value, b"x"].concat()).is_err());
        }
    }

    /// A flipped bit makes it no value, or another version of the same text: never another text.
    #[tokio::test]
    async fn no_bit_flips_into_another_text() {
        for body in ["a short text".to_owned(), "a text to pack, ".repeat(20)] {
            let good = Remembered::new(7, body);
            let value = encode(&good, OPTIONS).await.unwrap();
            for at in 0..value.len() * 8 {
                let mut bad = value.clone();
                bad[at / 8] ^= 1 << (at % 8);
                let in_version = (MARK.len()..VERSION_END).contains(&(at / 8));
                match opened(&bad) {
                    Ok(found) => assert!(in_version && found.body == good.body && found.version != 7, "bit {at}"),
                    Err(why) => assert!(!why.is_empty(), "bit {at}"),
                }
            }
        }
    }

    #[test]
    fn what_others_have_put_there_is_no_value() {
        for foreign in [&b""[..], b"hello", b"troupeM2 and something later", &[0; 100], &[255; 1000]] {
            assert!(opened(foreign).is_err(), "{foreign:?}");
        }
    }

    #[tokio::test]
    async fn what_would_unfold_to_more_than_is_read_is_no_value() {
        let value = encode(&Remembered::new(1, "a".repeat(40_000)), OPTIONS).await.unwrap();
        assert!(decode(&value, 39_999).unwrap_err().contains("at most 39999"));
    }
}
