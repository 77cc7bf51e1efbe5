//! Payloads: texts that may be large, as rows keep them. Packed where that pays, always with their size and a checksum.
//!
//! ```text
//! text    up to compress_min          plain: trying costs more than it saves, on PostgreSQL too, which packs no such row
//!         up to compress_above        packed when that saves more than a tenth, else plain
//!         above it                    packed, whatever comes of it
//!         above bytes_max             refused, on the way in
//! ```
//!
//! The checksum is of the text: what comes out is what went in, however it was kept. Packed bytes carry a seal of their
//! own behind them: damaged ones never reach the decoder, which is C, and which would pass over some of their bits.
//! Unpacking gives no more than the size in the row says, and never more than `bytes_max`: a row that would unfold to
//! more is refused. A row without a codec was written before there were any, and is read as it is.
//!
//! Called by the adapters, on the caller's tokio task; a large text is packed on a thread of its own, so that nobody
//! waits for it. What cannot be read is a text that the adapter puts into a [`Damage`](super::Damage).

use std::borrow::Cow;
use std::cell::RefCell;

use sha2::{Digest as _, Sha256};
use zstd::bulk::{Compressor, Decompressor};

use super::Error;

/// How hard zstd tries. Measured on entries of prose: at 1 it packs 350 MB a second, half again as fast as at its usual 3,
/// and leaves one percent more.
const LEVEL: i32 = 1;

/// What follows packed bytes: the first bytes of their SHA-256.
const SEAL_BYTES: usize = 8;

/// Limits of payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes above which a text is packed, whatever that saves.
    pub compress_above: usize,
    /// Bytes up to which nothing is tried.
    pub compress_min: usize,
    /// Bytes of one payload, unpacked; a larger one is refused on the way in and on the way out.
    pub bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { compress_above: 1024 * 1024, compress_min: 2 * 1024, bytes_max: 64 * 1024 * 1024 }
    }
}

/// How a text lies in its row. The numbers are stored: they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    /// As it is, in its own column.
    Plain = 0,
    /// Packed by zstd, beside it.
    Zstd = 1,
}

impl Codec {
    fn from_stored(number: i64) -> Result<Self, String> {
        [Self::Plain, Self::Zstd].into_iter().find(|codec| *codec as i64 == number).ok_or_else(|| {
            format!("codec {number}, this version reads 0 (plain) and 1 (zstd); run the troupe that wrote it")
        })
    }
}

/// A text as its row keeps it: one field a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    /// The text, or nothing when it is packed.
    pub(super) text: String,
    /// The text, packed and sealed.
    pub(super) packed: Option<Vec<u8>>,
    /// How it lies there.
    pub(super) codec: i16,
    /// Bytes of the text.
    pub(super) size: i64,
    /// Of the text.
    pub(super) checksum: i64,
}

impl Payload {
    /// Makes a payload of a text. `also` is a second text of the same row that the checksum covers too.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a text above the limit; `what` names it for people.
    pub(super) async fn of(
        what: &'static str,
        text: String,
        also: Option<&str>,
        options: Options,
    ) -> Result<Self, Error> {
        let (bytes, limit) = (text.len(), options.bytes_max);
        if bytes > limit {
            return Err(Error::TooLarge { what, bytes, limit });
        }
        if bytes <= options.compress_above {
            return Self::pack(text, also, options);
        }
        let also = also.map(str::to_owned);
        let packing = tokio::task::spawn_blocking(move || Self::pack(text, also.as_deref(), options));
        packing.await.map_err(|error| Error::Internal(format!("the packing of a payload was cut off: {error}")))?
    }

    fn pack(text: String, also: Option<&str>, options: Options) -> Result<Self, Error> {
        let (bytes, checksum) = (text.len(), checksum_of(&text, also));
        let packed = if bytes > options.compress_min { Some(compress(text.as_bytes())?) } else { None };
        // More than a tenth is saved.
        let pays = |packed: &Vec<u8>| bytes > options.compress_above || packed.len() * 10 < bytes * 9;
        let packed = packed.filter(pays);
        let (codec, text) = if packed.is_some() { (Codec::Zstd, String::new()) } else { (Codec::Plain, text) };
        Ok(Self { text, packed, codec: codec as i16, size: bytes as i64, checksum })
    }
}

/// What the columns of a payload are called in a row that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub(super) text: &'static str,
    pub(super) packed: &'static str,
    pub(super) codec: &'static str,
    pub(super) size: &'static str,
    pub(super) checksum: &'static str,
}

/// As the tables call them whose payload is a body.
pub(super) const BODY: Columns =
    Columns { text: "body", packed: "packed", codec: "codec", size: "size", checksum: "checksum" };

/// As statements call those of a task's event, beside which there may be a body.
pub(super) const EVENT: Columns = Columns {
    text: "event",
    packed: "event_packed",
    codec: "event_codec",
    size: "event_size",
    checksum: "event_checksum",
};

/// The columns of a payload, as they were read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'r> {
    pub(super) text: &'r str,
    pub(super) packed: Option<&'r [u8]>,
    pub(super) codec: Option<i64>,
    pub(super) size: Option<i64>,
    pub(super) checksum: Option<i64>,
}

impl<'r> Held<'r> {
    /// The text, once its codec, size and checksum fit. `also` is the second text that the checksum covers.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) fn open(self, also: Option<&str>, bytes_max: usize) -> Result<Cow<'r, str>, String> {
        let (codec, size, checksum) = match (self.codec, self.size, self.checksum, self.packed) {
            (Some(codec), Some(size), Some(checksum), _) => (codec, size, checksum),
            // Written before there were any.
            (None, None, None, None) => return Ok(Cow::Borrowed(self.text)),
            _ => return Err("codec, size and checksum go together, and one is missing".to_owned()),
        };
        let text = match (Codec::from_stored(codec)?, self.packed) {
            (Codec::Plain, None) => Cow::Borrowed(self.text),
            (Codec::Zstd, Some(packed)) if self.text.is_empty() => Cow::Owned(unpack(packed, size, bytes_max)?),
            _ => return Err(format!("codec {codec} does not fit what is there")),
        };
        if i64::try_from(text.len()) != Ok(size) {
            return Err(format!("{} bytes, and the row says {size}", text.len()));
        }
        if checksum_of(&text, also) == checksum { Ok(text) } else { Err("the checksum does not fit".to_owned()) }
    }
}

/// The checksum of a text: the first 8 bytes of its SHA-256.
#[must_use]
pub fn checksum(text: &str) -> i64 {
    checksum_of(text, None)
}

fn checksum_of(text: &str, also: Option<&str>) -> i64 {
    let mut hash = Sha256::new();
    hash.update(text);
    hash.update(also.unwrap_or_default());
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

thread_local! {
    /// What zstd needs to work is half a megabyte of tables: made once a thread, not once a payload.
    static COMPRESSOR: RefCell<Compressor<'static>> = RefCell::default();
    static DECOMPRESSOR: RefCell<Decompressor<'static>> = RefCell::default();
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let compress = |kept: &RefCell<Compressor<'static>>| {
        let mut compressor = kept.borrow_mut();
        compressor.set_compression_level(LEVEL)?;
        compressor.compress(bytes)
    };
    let packed = COMPRESSOR.with(compress);
    let mut packed = packed.map_err(|error| Error::Internal(format!("zstd does not pack: {error}")))?;
    let seal = Sha256::digest(&packed);
    packed.extend(&seal[..SEAL_BYTES]);
    Ok(packed)
}

fn unpack(packed: &[u8], size: i64, bytes_max: usize) -> Result<String, String> {
    let size = usize::try_from(size).ok().filter(|size| *size <= bytes_max).ok_or_else(|| {
        format!("unpacked it has {size} bytes, and this node reads at most {bytes_max} (store.payload_bytes_max)")
    })?;
    let (packed, seal) = packed.split_at(packed.len().saturating_sub(SEAL_BYTES));
    if Sha256::digest(packed)[..SEAL_BYTES] != *seal {
        return Err("the packed bytes are damaged".to_owned());
    }
    let unpacked = DECOMPRESSOR.with(|kept| kept.borrow_mut().decompress(packed, size));
    let bytes = unpacked.map_err(|error| format!("zstd does not unpack it to {size} bytes: {error}"))?;
    String::from_utf8(bytes).map_err(|error| format!("unpacked it is no text: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { compress_above: 10_000, compress_min: 100, bytes_max: 50_000 };

    fn held(payload: &Payload) -> Held<'_> {
        Held {
            text: &payload.text,
            packed: payload.packed.as_deref(),
            codec: Some(payload.codec.into()),
            size: Some(payload.size),
            checksum: Some(payload.checksum),
        }
    }

    fn opened(payload: &Payload) -> Result<String, String> {
        held(payload).open(None, OPTIONS.bytes_max).map(Cow::into_owned)
    }

    async fn of(text: &str) -> Payload {
        Payload::of("entry", text.to_owned(), None, OPTIONS).await.unwrap()
    }

    /// A text that nothing makes much smaller. A long one always packs by a tenth: a character has 7 bits, a byte 8.
    fn noise(length: usize) -> String {
        use rand::RngExt as _;
        let mut rng = rand::rng();
        (0..length).map(|_| char::from(rng.random_range(0..128_u8))).collect()
    }

    #[tokio::test]
    async fn a_text_is_packed_where_that_pays() {
        for (text, codec) in [
            (String::new(), 0),
            ("a".repeat(100), 0),
            ("a".repeat(101), 1),
            (noise(101), 0),
            (noise(400), 0),
            (noise(10_000), 1),
            ("a".repeat(10_001), 1),
            (noise(10_001), 1),
            ("\u{1F3AD}".repeat(4_000), 1),
        ] {
            let payload = of(&text).await;
            assert_eq!((payload.codec, payload.size), (codec, text.len() as i64), "{} bytes", text.len());
            assert_eq!(payload.text.is_empty(), codec == 1 || text.is_empty());
            assert_eq!(payload.packed.is_some(), codec == 1);
            assert_eq!(opened(&payload).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_with_the_limit() {
        let error = Payload::of("memory", "a".repeat(50_001), None, OPTIONS).await.unwrap_err();
        assert_eq!(error, Error::TooLarge { what: "memory", bytes: 50_001, limit: 50_000 });
        assert!(error.to_string().contains("store.payload_bytes_max"), "{error}");
        assert!(Payload::of("memory", "a".repeat(50_000), None, OPTIONS).await.is_ok());
    }

    #[tokio::test]
    async fn what_would_unfold_to_more_than_it_says_is_refused() {
        let bomb = of(&"a".repeat(40_000)).await;
        assert!(bomb.packed.as_ref().is_some_and(|packed| packed.len() < 100));
        for (size, said) in
            [(100, "to 100 bytes"), (39_999, "to 39999 bytes"), (60_000, "at most 50000"), (-1, "-1 bytes")]
        {
            let error = opened(&Payload { size, ..bomb.clone() }).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        // It says more than is in it, within the limit.
        let error = opened(&Payload { size: 40_001, ..bomb }).unwrap_err();
        assert!(error.contains("the row says 40001"), "{error}");
    }

    #[tokio::test]
    async fn columns_that_do_not_fit_are_refused() {
        let (plain, packed) = (of("plain").await, of(&"a".repeat(200)).await);
        let unknown = opened(&Payload { codec: 7, ..plain.clone() }).unwrap_err();
        assert!(unknown.contains("codec 7") && unknown.contains("0 (plain) and 1 (zstd)"), "{unknown}");
        assert!(opened(&Payload { codec: 1, ..plain.clone() }).is_err());
        assert!(opened(&Payload { codec: 0, ..packed.clone() }).is_err());
        assert!(opened(&Payload { text: "both".into(), ..packed.clone() }).is_err());
        assert!(opened(&Payload { packed: packed.packed.clone(), ..plain.clone() }).is_err());
        for missing in [
            Held { codec: None, ..held(&plain) },
            Held { size: None, ..held(&plain) },
            Held { checksum: None, ..held(&packed) },
            Held { codec: None, size: None, checksum: None, ..held(&packed) },
        ] {
            assert!(missing.open(None, OPTIONS.bytes_max).is_err(), "{missing:?}");
        }
    }

    #[tokio::test]
    async fn a_row_from_before_is_read_as_it_is() {
        let old = Held { text: "old", packed: None, codec: None, size: None, checksum: None };
        assert_eq!(old.open(None, 1).unwrap(), "old");
    }

    #[tokio::test]
    async fn the_checksum_covers_the_second_text() {
        let payload = Payload::of("result", "body".into(), Some("outcome"), OPTIONS).await.unwrap();
        assert!(held(&payload).open(Some("outcome"), 100).is_ok());
        assert!(held(&payload).open(Some("outcomf"), 100).is_err());
        assert!(held(&payload).open(None, 100).is_err());
    }

    #[test]
    fn the_checksum_is_the_head_of_the_digest() {
        // sha256("abc") begins with ba7816bf8f01cfea.
        assert_eq!(checksum("abc"), 0xba78_16bf_8f01_cfea_u64.cast_signed());
    }

    /// Every single bit of every column, in both forms.
    #[tokio::test]
    async fn no_bit_flips_unnoticed() {
        for text in ["a short text".to_owned(), "a text to pack, ".repeat(20)] {
            let good = of(&text).await;
            for bit in 0..64 {
                assert!(opened(&Payload { size: good.size ^ (1 << bit), ..good.clone() }).is_err(), "size, {bit}");
                let checksum = good.checksum ^ (1 << bit);
                assert!(opened(&Payload { checksum, ..good.clone() }).is_err(), "checksum, {bit}");
            }
            for bit in 0..15 {
                assert!(opened(&Payload { codec: good.codec ^ (1 << bit), ..good.clone() }).is_err(), "codec, {bit}");
            }
            let bytes = good.packed.as_deref().unwrap_or(good.text.as_bytes()).to_vec();
            for at in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[at / 8] ^= 1 << (at % 8);
                let bad = if good.packed.is_some() {
                    Payload { packed: Some(bad), ..good.clone() }
                } else {
                    // What is no UTF-8 is refused before it gets here.
                    let Ok(text) = String::from_utf8(bad) else { continue };
                    Payload { text, ..good.clone() }
                };
                assert!(opened(&bad).is_err(), "bit {at}");
            }
        }
    }
}
