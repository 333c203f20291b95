//! Reading one value by its kind. Errors say what is wrong and what to write instead.

use super::keys::Kind;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    Double(f64),
    Bool(bool),
    Text(String),
    /// An interval, in milliseconds.
    Millis(u64),
    Auto,
}

const MS_PER_HOUR: u64 = 3_600_000;

/// Reads `text` as a value of `kind`.
pub fn check(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Int { min, max } => integer(text, min, max).map(Value::Int),
        Kind::Decoded { min, max } => decoded(text, min, max).map(Value::Int),
        Kind::Double => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Double(number)),
            _ => Err(format!("{text:?} is not a number; write one like 0.33")),
        },
        Kind::StrictBool if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        Kind::StrictBool if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        Kind::StrictBool => Err(format!("invalid option {text:?}; write true or false")),
        Kind::PropertyBool => Ok(Value::Bool(text.eq_ignore_ascii_case("true"))),
        Kind::Word(word) => Ok(Value::Bool(text == word)),
        Kind::Path if text.is_empty() => Err("is empty; write a path".to_owned()),
        Kind::Path | Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Interval => interval(text).map(Value::Millis),
        Kind::OneOf(words) => match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
            Some(word) => Ok(Value::Text((*word).to_owned())),
            None => {
                let known: Vec<_> = words.iter().filter(|word| !word.is_empty()).copied().collect();
                Err(format!("{text:?} is not known; write one of {}", known.join(", ")))
            }
        },
        Kind::AutoOrInt { .. } if text.eq_ignore_ascii_case("auto") => Ok(Value::Auto),
        Kind::AutoOrInt { min, max } => integer(text, min, max).map(Value::Int).map_err(|why| why + ", or auto"),
    }
}

/// Decimal with an optional sign; nothing else, as `Integer.parseInt` has it.
fn integer(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let number = text.parse::<i128>().map_err(|_| {
        let range = range(min, max);
        format!("{text:?} is not an integer; write one {range}")
    })?;
    match i64::try_from(number) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{text} is out of range; write an integer {}", range(min, max))),
    }
}

/// Java: `Integer.decode`, but for a sign in front of another radix.
fn decoded(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let hexadecimal = ["0x", "0X", "#"].iter().find_map(|prefix| text.strip_prefix(prefix));
    let octal = text.strip_prefix('0').filter(|digits| !digits.is_empty());
    let (digits, radix) =
        hexadecimal.map(|digits| (digits, 16)).or(octal.map(|digits| (digits, 8))).unwrap_or((text, 10));
    match i64::from_str_radix(digits, radix) {
        Ok(number) if radix != 10 && !digits.starts_with(['+', '-']) => integer(&number.to_string(), min, max),
        _ => integer(text, min, max),
    }
}

fn range(min: i64, max: i64) -> String {
    match (min, max) {
        (i64::MIN, i64::MAX) => "of at most 64 bits".to_owned(),
        _ => format!("from {min} to {max}"),
    }
}

/// `N` hours, or `Nms`, `Ns`, `Nm`, `Nh`, `Nd` (the suffixes of 3.10). Zero and less mean off.
fn interval(text: &str) -> Result<u64, String> {
    let digits =
        text.len() - text.trim_start_matches(['+', '-']).trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "" | "h" => MS_PER_HOUR,
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "d" => 24 * MS_PER_HOUR,
        _ => {
            return Err(format!("{text:?} is not an interval; write hours, or a number followed by ms, s, m, h or d"));
        }
    };
    let number = integer(number, i64::from(i32::MIN), i64::from(i32::MAX))
        .map_err(|_| format!("{text:?} is not an interval; write hours, or a number followed by ms, s, m, h or d"))?;
    Ok(u64::try_from(number).unwrap_or(0) * unit_ms) // at most 31 bits times 27
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT: Kind = Kind::Int { min: i32::MIN as i64, max: i32::MAX as i64 };

    #[test]
    fn integers_are_decimal_and_bounded() {
        for (text, number) in [("0", 0), ("-1", -1), ("+7", 7), ("2147483647", i64::from(i32::MAX))] {
            assert_eq!(check(INT, text), Ok(Value::Int(number)));
        }
        for text in ["", "abc", "1_000", "10k", "0x10", "1.5", "2147483648", "9".repeat(60).as_str(), "- 1"] {
            assert!(check(INT, text).is_err(), "{text}");
        }
        assert_eq!(
            check(INT, "abc").unwrap_err(),
            "\"abc\" is not an integer; write one from -2147483648 to 2147483647"
        );
    }

    #[test]
    fn some_properties_are_decoded() {
        const DECODED: Kind = Kind::Decoded { min: 1, max: i32::MAX as i64 };
        for (text, number) in [("0xfffff", 1_048_575), ("#FF", 255), ("010", 8), ("4194304", 4_194_304)] {
            assert_eq!(check(DECODED, text), Ok(Value::Int(number)), "{text}");
        }
        for text in ["0x", "0xg", "0x-1", "0", "0x80000000", "08"] {
            let read = check(DECODED, text);
            assert!(read.is_err() || text == "08", "{text}: {read:?}");
        }
    }

    #[test]
    fn booleans_of_the_parser_are_strict_and_those_of_properties_are_not() {
        assert_eq!(check(Kind::StrictBool, "TRUE"), Ok(Value::Bool(true)));
        assert!(check(Kind::StrictBool, "yes").is_err());
        assert_eq!(check(Kind::PropertyBool, "yes"), Ok(Value::Bool(false)));
        assert_eq!(check(Kind::PropertyBool, "True"), Ok(Value::Bool(true)));
        assert_eq!(check(Kind::Word("yes"), "yes"), Ok(Value::Bool(true)));
        assert_eq!(check(Kind::Word("yes"), "YES"), Ok(Value::Bool(false)));
    }

    #[test]
    fn intervals_are_hours_unless_they_say() {
        for (text, ms) in
            [("0", 0), ("1", MS_PER_HOUR), ("-3", 0), ("90s", 90_000), ("2d", 48 * MS_PER_HOUR), ("5ms", 5)]
        {
            assert_eq!(check(Kind::Interval, text), Ok(Value::Millis(ms)), "{text}");
        }
        for text in ["", "h", "1w", "1 hour", "--1", "99999999999"] {
            assert!(check(Kind::Interval, text).is_err(), "{text}");
        }
    }
}
