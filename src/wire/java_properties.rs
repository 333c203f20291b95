//! The grammar of a Java properties file: of zoo.cfg (operations 1.1), and of configurations that peers tell each other.
//!
//! Bytes are ISO-8859-1, one byte one character; `\uXXXX` gives all others. A logical line is one or more natural lines
//! joined by an odd number of backslashes at the end. Entries keep their order and where they stand, duplicates
//! included: what a duplicate or an unknown name means is decided elsewhere.
//! Java: `java.util.Properties.load`, and the trimming of `QuorumPeerConfig.parseProperties`.

use std::ops::Range;

/// One `key=value`, trimmed the way ZooKeeper trims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The natural line the entry begins on, counted from 1.
    pub line: u32,
    /// Its bytes in the file: all its natural lines with their ends.
    pub range: Range<usize>,
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pub entries: Vec<Entry>,
    /// The first line with a byte above 0x7f: whoever wrote it probably meant UTF-8, which Java does not read.
    pub first_line_beyond_ascii: Option<u32>,
}

/// A `\u` without four hexadecimal digits: the one thing this grammar calls an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedEscape {
    pub line: u32,
}

pub fn parse(bytes: &[u8]) -> Result<Properties, MalformedEscape> {
    let mut properties = Properties::default();
    let mut lines = NaturalLines { rest: bytes, next_number: 1 };
    loop {
        let start = bytes.len() - lines.rest.len();
        let Some((number, first)) = lines.next() else { break };
        let first = without_leading_blanks(first);
        if matches!(first.first(), None | Some(b'#' | b'!')) {
            properties.note_bytes(number, first);
            continue;
        }
        let mut logical = Vec::new();
        let mut piece = first;
        loop {
            properties.note_bytes(number, piece);
            if !ends_in_continuation(piece) {
                logical.extend_from_slice(piece);
                break;
            }
            logical.extend_from_slice(&piece[..piece.len() - 1]);
            match lines.next() {
                Some((_, continued)) => piece = without_leading_blanks(continued),
                None => break, // a backslash at the end of the file joins nothing
            }
        }
        if !logical.is_empty() {
            let range = start..bytes.len() - lines.rest.len();
            properties.entries.push(entry(number, range, &logical)?);
        }
    }
    Ok(properties)
}

impl Properties {
    fn note_bytes(&mut self, line: u32, bytes: &[u8]) {
        if self.first_line_beyond_ascii.is_none() && !bytes.is_ascii() {
            self.first_line_beyond_ascii = Some(line);
        }
    }
}

/// Lines as they stand in the file, ended by `\n`, `\r` or `\r\n`.
struct NaturalLines<'a> {
    rest: &'a [u8],
    next_number: u32,
}

impl<'a> NaturalLines<'a> {
    fn next(&mut self) -> Option<(u32, &'a [u8])> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(self.rest.len());
        let (line, after) = self.rest.split_at(end);
        self.rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..)).unwrap_or_default();
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        Some((number, line))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0c')
}

fn without_leading_blanks(line: &[u8]) -> &[u8] {
    &line[line.iter().position(|byte| !is_blank(*byte)).unwrap_or(line.len())..]
}

fn ends_in_continuation(line: &[u8]) -> bool {
    line.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn entry(line: u32, range: Range<usize>, logical: &[u8]) -> Result<Entry, MalformedEscape> {
    let mut escaped = false;
    let key_end = logical
        .iter()
        .position(|&byte| {
            let ends = !escaped && (is_blank(byte) || byte == b'=' || byte == b':');
            escaped = byte == b'\\' && !escaped;
            ends
        })
        .unwrap_or(logical.len());
    let (key, after_key) = logical.split_at(key_end);
    let mut value = without_leading_blanks(after_key);
    if matches!(value.first(), Some(b'=' | b':')) {
        value = without_leading_blanks(&value[1..]);
    }
    let read = |bytes| unescape(bytes).map(|text| java_trim(&text).to_owned()).ok_or(MalformedEscape { line });
    Ok(Entry { line, range, key: read(key)?, value: read(value)? })
}

/// Resolves escapes. `None` when a `\u` lacks its four digits.
fn unescape(bytes: &[u8]) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(bytes.len()); // UTF-16, so that `\uD83D\uDE00` is one character
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            units.push(u16::from(byte));
            continue;
        }
        match rest.next() {
            Some(b'u') => {
                let mut unit = 0u16;
                for _ in 0..4 {
                    unit = unit << 4 | char::from(rest.next()?).to_digit(16)? as u16;
                }
                units.push(unit);
            }
            Some(b't') => units.push(u16::from(b'\t')),
            Some(b'n') => units.push(u16::from(b'\n')),
            Some(b'r') => units.push(u16::from(b'\r')),
            Some(b'f') => units.push(0x0c),
            Some(other) => units.push(u16::from(other)),
            None => {}
        }
    }
    Some(String::from_utf16_lossy(&units))
}

/// `value` such that [`parse`] reads it so: ASCII, with backslashes and all else escaped.
pub fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for unit in value.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'\\') => text.push_str("\\\\"),
            Ok(byte) if byte.is_ascii_graphic() || byte == b' ' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\u{unit:04x}")),
        }
    }
    text
}

/// `String.trim()`: every character up to the blank, at both ends.
pub fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(u32, String, String)> {
        let entries = parse(text.as_bytes()).unwrap().entries;
        entries.into_iter().map(|entry| (entry.line, entry.key, entry.value)).collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{all:?}");
        let (_, key, value) = all.remove(0);
        (key, value)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_file_a_java_server_started_with_reads_the_same() {
        let text = "tickTime: 2000\n  dataDir = /var/\\\n   lib\nclient\\u0050ort=23582\nadmin.enableServer false\n\
                    ! comment\nno.such.key=1   \n# another\n";
        let expected = [
            (1, "tickTime", "2000"),
            (2, "dataDir", "/var/lib"),
            (4, "clientPort", "23582"),
            (5, "admin.enableServer", "false"),
            (7, "no.such.key", "1"),
        ];
        assert_eq!(pairs(text), expected.map(|(line, key, value)| (line, key.to_owned(), value.to_owned())));
    }

    #[test]
    fn separators() {
        for text in ["a=b", "a:b", "a b", "a\tb", "a\x0cb", "a = b", "a : b", "  a   b", "a =b"] {
            assert_eq!(one(text), pair("a", "b"), "{text:?}");
        }
        assert_eq!(one("a == b"), pair("a", "= b")); // at most one separator
        assert_eq!(one("a = = b"), pair("a", "= b"));
        assert_eq!(one("a b=c"), pair("a", "b=c"));
        assert_eq!(one("a"), pair("a", ""));
        assert_eq!(one("a="), pair("a", ""));
        assert_eq!(one("=b"), pair("", "b"));
        assert_eq!(one(r"a\=b\:c\ d=e"), pair("a=b:c d", "e"));
        assert_eq!(one(r"a\\=b"), pair(r"a\", "b")); // the backslash is escaped, the separator is not
    }

    #[test]
    fn escapes_and_their_one_error() {
        assert_eq!(one(r"a=x\ty\nz\q\u00e9\uD83D\uDE00"), pair("a", "x\ty\nzqé😀"));
        assert_eq!(one("path=C:\\\\zk"), pair("path", r"C:\zk"));
        for bad in [r"a=\u12", r"a=\uzzzz", "ok=1\r\na=\\u", r"a=\u12\n4"] {
            let line = if bad.contains("ok") { 2 } else { 1 };
            assert_eq!(parse(bad.as_bytes()), Err(MalformedEscape { line }), "{bad:?}");
        }
    }

    #[test]
    fn continuations() {
        assert_eq!(one("a=b\\\n  #c"), pair("a", "b#c")); // a comment character on a continued line is data
        assert_eq!(one("a=b\\\\\n"), pair("a", r"b\")); // an even number joins nothing
        assert_eq!(one("a=b\\\r\n   c"), pair("a", "bc"));
        // An empty continued line ends the logical line.
        let both = pairs("a=b\\\n\nc=d\n");
        assert_eq!(both, [(1, "a", "b"), (3, "c", "d")].map(|(line, k, v)| (line, k.to_owned(), v.to_owned())));
    }

    #[test]
    fn comments_do_not_continue_and_line_ends_are_three() {
        assert_eq!(
            pairs("#x\\\na=1\rb=2\r\nc=3"),
            [(2, "a", "1"), (3, "b", "2"), (4, "c", "3")].map(|(line, k, v)| { (line, k.to_owned(), v.to_owned()) })
        );
        assert!(pairs(" \t\x0c\n\n   # only\n!\n").is_empty());
        assert!(pairs("\\\n\\").is_empty());
    }

    #[test]
    fn entries_know_all_their_bytes() {
        let text = "# c\\\na=1\\\r\n  2\rb=3\\ \n\n c=\\\n";
        let entries = parse(text.as_bytes()).unwrap().entries;
        let ranges: Vec<_> = entries.into_iter().map(|entry| &text[entry.range]).collect();
        assert_eq!(ranges, ["a=1\\\r\n  2\r", "b=3\\ \n", " c=\\\n"]);
    }

    #[test]
    fn what_was_escaped_is_read_as_it_was() {
        for text in [r"C:\zk\u0041", "/caf\u{e9}/😀", "/a b", "/tab\there\nx", "#x=:!"] {
            let escaped = escaped(text);
            assert!(escaped.is_ascii(), "{escaped}");
            assert_eq!(one(&format!("a={escaped}")), pair("a", text));
        }
        assert_eq!(escaped(r"\é"), r"\\\u00e9");
    }

    #[test]
    fn duplicates_and_order_are_kept() {
        assert_eq!(
            pairs("k=5\nk=7").into_iter().map(|(line, _, value)| (line, value)).collect::<Vec<_>>(),
            [(1, "5".to_owned()), (2, "7".to_owned())]
        );
    }

    #[test]
    fn bytes_beyond_ascii_are_latin_1_and_noticed() {
        let read = parse(b"# plain\na=caf\xc3\xa9\n").unwrap();
        assert_eq!(read.entries[0].value, "caf\u{c3}\u{a9}");
        assert_eq!(read.first_line_beyond_ascii, Some(2));
        assert_eq!(parse(b"a=b").unwrap().first_line_beyond_ascii, None);
    }

    #[test]
    fn white_space_and_control_characters_are_trimmed_like_java() {
        assert_eq!(one("a=b \t\\u0001\\ "), pair("a", "b"));
    }

    #[test]
    fn no_bytes_panic() {
        for seed in 0u32..2000 {
            let alphabet = b"\\u0a=: \t\n\r#!\xff";
            let mut state = seed;
            let bytes: Vec<u8> = (0..24)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    alphabet[(state >> 16) as usize % alphabet.len()]
                })
                .collect();
            let _ = parse(&bytes);
        }
    }
}
