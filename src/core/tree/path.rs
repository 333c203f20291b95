//! Paths: which are valid, and their pieces. Nothing here allocates, except into a string the caller brings.
//!
//! Spec: semantics 1 and 5. Java: `PathUtils.validatePath`.

use std::fmt::Write as _;

use crate::wire::ErrorCode;

pub const ROOT: &str = "/";

/// Nodes that exist on every server and that no client may delete.
pub const RESERVED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// Full validation (semantics 1.1). Every broken rule is BADARGUMENTS.
pub fn validate(path: &str) -> Result<(), ErrorCode> {
    if is_valid(path) { Ok(()) } else { Err(ErrorCode::BadArguments) }
}

/// The first, loose look of create and delete (semantics 1.2): has a `/` and no U+0000.
pub fn validate_form(path: &str) -> Result<(), ErrorCode> {
    let bytes = path.as_bytes();
    if bytes.contains(&b'/') && !bytes.contains(&0) { Ok(()) } else { Err(ErrorCode::BadArguments) }
}

fn is_valid(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    rest.split('/').all(|component| !matches!(component, "" | "." | "..")) && is_allowed_text(rest)
}

/// Nearly every path is plain ASCII, which a look at its bytes settles.
fn is_allowed_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) || text.chars().all(is_allowed)
}

/// Java looks at UTF-16 code units, so everything above U+FFFF (surrogates) is refused together with the private use area.
fn is_allowed(character: char) -> bool {
    !matches!(character, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// Parent path and last component, cut at the last `/`. The parent of `/a` is `/`; of `/` itself it is `/` with an empty
/// leaf. `None` without any `/`.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let at = path.rfind('/')?;
    Some((if at == 0 { ROOT } else { &path[..at] }, &path[at + 1..]))
}

/// Appends the suffix of a sequential node: the parent's create counter, ten characters with sign (semantics 5).
pub fn push_sequence(path: &mut String, counter: i32) {
    write!(path, "{counter:010}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_paths_are_javas() {
        for path in [
            "/",
            "/a",
            "/a/b",
            "/...",
            "/.a",
            "/a..",
            "/\u{e9}",
            "/\u{4e2d}\u{6587}",
            "/a b",
            "/\u{a0}",
            "/\u{f900}",
            "/\u{ffef}",
        ] {
            assert_eq!(validate(path), Ok(()), "{path:?}");
        }
        let bad_characters = [
            "\0",
            "\u{1}",
            "\u{1f}",
            "\u{7f}",
            "\u{9f}",
            "\u{e000}",
            "\u{f8ff}",
            "\u{fff0}",
            "\u{fffd}",
            "\u{10000}",
            "\u{1f600}",
        ];
        let bad_paths = ["", "a", "a/b", "/a/", "//", "//a", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/a/.."];
        for path in bad_paths.map(String::from).into_iter().chain(bad_characters.map(|bad| format!("/a{bad}b"))) {
            assert_eq!(validate(&path), Err(ErrorCode::BadArguments), "{path:?}");
        }
        assert_eq!((validate_form("/a/"), validate_form("a/b")), (Ok(()), Ok(())));
        assert!(validate_form("a").is_err() && validate_form("/\0").is_err() && validate_form("").is_err());
    }

    #[test]
    fn the_parent_of_a_roots_child_is_the_root() {
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/a/"), Some(("/a", "")));
        assert_eq!(split("/"), Some(("/", "")));
        assert_eq!((split(""), split("a")), (None, None));
    }

    #[test]
    fn sequence_numbers_have_ten_characters_sign_included() {
        for (counter, suffix) in [
            (0, "0000000000"),
            (42, "0000000042"),
            (-1, "-000000001"),
            (i32::MAX, "2147483647"),
            (i32::MIN, "-2147483648"),
        ] {
            let mut path = String::from("/q-");
            push_sequence(&mut path, counter);
            assert_eq!(path, format!("/q-{suffix}"));
        }
    }
}
