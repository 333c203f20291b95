//! How much memory a decoder takes, counted.

/// What a decoder may take beside a multiple of its input: a page of a table, a message for people.
const ALLOWANCE_BYTES: usize = 4096;

/// The whole process under libFuzzer.
pub const RSS_MIB_MAX: usize = 1024;

/// Runs a decoder and wants it to take at most `times` as much memory, at any moment, as its input has bytes.
///
/// # Panics
/// If it took more: then a length or a count was believed before its bytes were there.
pub fn bounded<T>(what: &str, input_bytes: usize, times: usize, decode: impl FnOnce() -> T) -> T {
    bounded_beside(what, input_bytes, times, ALLOWANCE_BYTES, decode)
}

/// The same for those that begin with tables of a fixed size.
pub fn bounded_beside<T>(
    what: &str,
    input_bytes: usize,
    times: usize,
    allowance_bytes: usize,
    decode: impl FnOnce() -> T,
) -> T {
    let mut decoded = None;
    let taken_bytes = allocation_counter::measure(|| decoded = Some(decode())).bytes_max as usize;
    let most_bytes = input_bytes * times + allowance_bytes;
    assert!(taken_bytes <= most_bytes, "{what}: {taken_bytes} bytes of memory for {input_bytes} bytes of input");
    decoded.expect("it was run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_believes_a_length_is_found_out() {
        let honest = || vec![0u8; 100];
        assert_eq!(bounded("honest", 100, 1, honest).len(), 100);
        let caught = std::panic::catch_unwind(|| bounded("credulous", 100, 8, || Vec::<u8>::with_capacity(1 << 20)));
        assert!(caught.is_err());
        // Not only what is left at the end counts.
        let caught = std::panic::catch_unwind(|| bounded("for a moment", 100, 8, || drop(vec![1u8; 1 << 20])));
        assert!(caught.is_err());
    }
}
