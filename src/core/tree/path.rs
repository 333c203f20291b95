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
    rest.split('/').all(|component| !matches!(component, "" | "." | "..")) && rest.chars().all(is_allowed)
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
