//! Jute, the encoding below every record: big-endian, no tags, counts and lengths as `int`. Spec: client-protocol 3.
//!
//! [`Reader`] walks over borrowed bytes and lends strings and buffers out of them; a read past the end, or a length
//! that cannot be, is a [`DecodeError`] and never a panic. Nothing is ever allocated from a count or length the sender
//! claims: vectors grow as their elements really arrive. Writers are free functions that append to a `Vec<u8>`.
//!
//! Not here, on purpose: records (`client`, `txn`) and frames (`frame`).
//! Java: `BinaryInputArchive`, `BinaryOutputArchive`.

use std::borrow::Cow;

/// A string of the protocol: null is not the empty string.
pub type Text<'a> = Option<Cow<'a, str>>;

/// Why bytes are not the record they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the record ends {missing_bytes} bytes early")]
    Truncated { missing_bytes: usize },
    #[error("a string or buffer of {length} bytes (at most {max_bytes} are allowed)")]
    ItemLength { length: i32, max_bytes: usize },
    #[error("unknown record type {0}")]
    UnknownType(i32),
    #[error("{0}")]
    Invalid(&'static str),
}

/// How long frames and the strings and buffers inside them may be. Java: `jute.maxbuffer` and its `.extrasize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame, without its length word.
    pub frame_bytes: usize,
    /// The longest single string or buffer.
    pub item_bytes: usize,
}

impl Limits {
    /// Nothing but the format's own bound: for bytes that were checked before they were stored (the transaction log).
    pub const FORMAT: Limits = Limits { frame_bytes: i32::MAX as usize, item_bytes: i32::MAX as usize };

    /// From the two settings; `extra_bytes` is `None` where `extrasize` is not set and so follows `max_buffer_bytes`.
    pub fn new(max_buffer_bytes: usize, extra_bytes: Option<usize>) -> Limits {
        // Java: BinaryInputArchive never lets the extra size fall below 1024.
        let extra_bytes = extra_bytes.unwrap_or(max_buffer_bytes).max(1024);
        let item_bytes = max_buffer_bytes.saturating_add(extra_bytes).min(Self::FORMAT.item_bytes);
        Limits { frame_bytes: max_buffer_bytes.min(Self::FORMAT.frame_bytes), item_bytes }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::new(crate::limits::JUTE_MAX_BUFFER_DEFAULT_BYTES, None)
    }
}

/// A place in some bytes. Every read consumes what it returns, or fails and leaves the place unspecified.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    item_bytes_max: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], limits: &Limits) -> Reader<'a> {
        Reader { rest: bytes, item_bytes_max: limits.item_bytes }
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn skip_rest(&mut self) {
        self.rest = &[];
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { missing_bytes: N - self.rest.len() });
        };
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Any byte but 0 is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u8()? != 0)
    }

    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A buffer; `None` is null, which clients can tell from empty.
    #[inline]
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= self.item_bytes_max);
        let Some(bytes) = bytes else {
            return Err(DecodeError::ItemLength { length, max_bytes: self.item_bytes_max });
        };
        let Some((head, rest)) = self.rest.split_at_checked(bytes) else {
            return Err(DecodeError::Truncated { missing_bytes: bytes - self.rest.len() });
        };
        self.rest = rest;
        Ok(Some(head))
    }

    /// A string, borrowed unless it is malformed. Malformed bytes never fail: see [`decode_utf8`].
    #[inline]
    pub fn string(&mut self) -> Result<Text<'a>, DecodeError> {
        Ok(self.buffer()?.map(decode_utf8))
    }

    /// A string where null has no meaning; `what` says so.
    #[inline]
    pub fn required_string(&mut self, what: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        self.string()?.ok_or(DecodeError::Invalid(what))
    }

    /// A vector's count: `None` is null, anything else below zero is an empty vector, as for Java.
    #[inline]
    pub fn count(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.i32()? {
            -1 => Ok(None),
            count => Ok(Some(usize::try_from(count).unwrap_or(0))),
        }
    }

    /// A vector of whatever `element` reads; `None` is null. Grows as elements arrive, whatever the count claims.
    /// Every element must take at least one byte, which is what bounds the vector by the input.
    pub fn vector<T, C: Default + Extend<T>>(
        &mut self,
        mut element: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<C>, DecodeError> {
        let Some(count) = self.count()? else {
            return Ok(None);
        };
        let mut elements = C::default();
        for _ in 0..count {
            let before_bytes = self.rest.len();
            elements.extend([element(self)?]);
            assert!(self.rest.len() < before_bytes, "an element without bytes would let a count allocate for nothing");
        }
        Ok(Some(elements))
    }
}

/// UTF-8 to text the way Java's decoder does it: each malformed sequence becomes one U+FFFD. Rust's lossy conversion
/// agrees except for encoded surrogates (`ed a0..bf xx`, also a truncated `ed a0`): one for the whole half, not one a
/// byte.
pub fn decode_utf8(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(decode_malformed_utf8(bytes)),
    }
}

#[cold]
fn decode_malformed_utf8(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return text;
            }
            Err(error) => error,
        };
        let (valid, malformed) = rest.split_at(error.valid_up_to());
        text.push_str(std::str::from_utf8(valid).expect("valid up to here"));
        text.push(char::REPLACEMENT_CHARACTER);
        let skipped_bytes = match malformed {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            [0xed, 0xa0..=0xbf, ..] => 2,
            _ => error.error_len().unwrap_or(malformed.len()),
        };
        rest = &malformed[skipped_bytes..];
    }
}

#[inline]
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

#[inline]
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A length or count as the format carries it. Longer than 2 GiB is our own mistake: limits lie far below.
#[inline]
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    put_i32(out, i32::try_from(count).expect("a length that fits the format"));
}

#[inline]
pub fn put_buffer(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_count(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        None => put_i32(out, -1),
    }
}

/// Proper UTF-8, also for code points above U+FFFF, where Java writes surrogate pairs (client-protocol 3).
#[inline]
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    put_buffer(out, Some(text.as_bytes()));
}

/// A string that may be null.
#[inline]
pub fn put_text(out: &mut Vec<u8>, text: &Text<'_>) {
    put_buffer(out, text.as_ref().map(|text| text.as_bytes()));
}

/// A vector of `count` strings, none of them null. The count is asked for because not every iterator knows its own.
pub fn put_strings<'s>(out: &mut Vec<u8>, count: usize, strings: impl Iterator<Item = &'s str>) {
    put_count(out, count);
    let mut written = 0;
    for string in strings {
        put_string(out, string);
        written += 1;
    }
    assert_eq!(written, count, "a vector must hold as many strings as it announces");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, &Limits::default())
    }

    #[test]
    fn null_empty_and_impossible_lengths_are_told_apart() {
        assert_eq!(reader(&[0xff; 4]).buffer(), Ok(None));
        assert_eq!(reader(&[0; 4]).buffer(), Ok(Some(&[][..])));
        assert_eq!(reader(&[0xff; 4]).string(), Ok(None));
        assert_eq!(reader(&[0; 4]).string(), Ok(Some("".into())));
        let minus_two = (-2i32).to_be_bytes();
        assert!(matches!(reader(&minus_two).string(), Err(DecodeError::ItemLength { length: -2, .. })));
        assert_eq!(reader(&[0xff; 4]).count(), Ok(None));
        assert_eq!(reader(&minus_two).count(), Ok(Some(0)), "Java reads a vector of -2 elements as empty");
        assert_eq!(reader(&[0, 0, 0, 2, b'a']).buffer(), Err(DecodeError::Truncated { missing_bytes: 1 }));
        assert_eq!(reader(&[0, 0, 0]).i32(), Err(DecodeError::Truncated { missing_bytes: 1 }));
        assert_eq!(reader(&[7]).bool(), Ok(true));
    }

    #[test]
    fn one_item_may_be_as_long_as_both_settings_together() {
        let limits = Limits::new(10, Some(0));
        assert_eq!(limits.item_bytes, 10 + 1024, "the extra size is never below 1024");
        let mut bytes = Vec::new();
        put_buffer(&mut bytes, Some(&[7; 1034]));
        assert!(Reader::new(&bytes, &limits).buffer().is_ok());
        let mut bytes = Vec::new();
        put_buffer(&mut bytes, Some(&[7; 1035]));
        let error = DecodeError::ItemLength { length: 1035, max_bytes: 1034 };
        assert_eq!(Reader::new(&bytes, &limits).buffer(), Err(error));
        assert_eq!(Limits::new(usize::MAX, None), Limits::FORMAT);
        assert_eq!(Limits::new(4096, None).item_bytes, 8192);
    }

    /// Counts what a vector is asked to hold, instead of holding it.
    #[derive(Default)]
    struct Counted(usize);

    impl<T> Extend<T> for Counted {
        fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
            let elements = elements.into_iter();
            assert_eq!(elements.size_hint(), (1, Some(1)), "nothing is reserved beyond the element that arrived");
            self.0 += elements.count();
        }
    }

    #[test]
    fn a_vector_holds_what_arrived_not_what_was_claimed() {
        let mut held = 0;
        let mut bytes = i32::MAX.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0; 9]);
        let vector = reader(&bytes).vector::<_, Counted>(|r| {
            let element = r.i32()?;
            held += 1;
            Ok(element)
        });
        assert!(matches!(vector, Err(DecodeError::Truncated { missing_bytes: 3 })));
        assert_eq!(held, 2);
        let whole = reader(&[0, 0, 0, 1, 0, 0, 0, 5]).vector::<_, Counted>(|r| r.i32());
        assert!(whole.is_ok_and(|vector| vector.is_some_and(|vector| vector.0 == 1)));
    }

    #[test]
    fn malformed_utf8_reads_as_java_reads_it() {
        let table: [(&[u8], &str); 16] = [
            (b"plain", "plain"),
            ("/gr\u{fc}n/\u{1f600}".as_bytes(), "/gr\u{fc}n/\u{1f600}"),
            (b"a\xffb", "a\u{fffd}b"),
            (b"\xc0\xaf", "\u{fffd}\u{fffd}"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xe2\x82A", "\u{fffd}A"),
            (b"\xe0\x80\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xf0\x90\x80", "\u{fffd}"),
            // Encoded surrogates: one replacement for each half.
            (b"\xed\xa0\x80", "\u{fffd}"),
            (b"x\xed\xbf\xbfy", "x\u{fffd}y"),
            (b"\xed\xa0\xbd\xed\xb8\x80", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0", "\u{fffd}"),
            (b"\xed\xa0A", "\u{fffd}A"),
            (b"\xed\xa0\xed\xa0\x80", "\u{fffd}\u{fffd}"),
            (b"\xed\x9f\xbf\xed", "\u{d7ff}\u{fffd}"),
        ];
        for (bytes, text) in table {
            assert_eq!(decode_utf8(bytes), text, "{bytes:02x?}");
        }
        assert!(matches!(decode_utf8(b"/a/b"), Cow::Borrowed(_)), "a good string is lent, not copied");
    }
}
