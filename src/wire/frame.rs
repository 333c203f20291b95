//! Frames: a 4-byte length and that many bytes, both ways, on every port. Spec: client-protocol 1 and 2.
//!
//! A shell reads chunks from a socket and wants whole frames for the core. [`FrameAssembler`] gives it all complete
//! frames of a chunk as one slice of that very chunk; only a frame cut by the chunk's end is copied, until its rest
//! arrives. [`Frames`] walks over such a slice on the other side. [`first_bytes`] knows the four-letter words that may
//! stand where a connection's first length would.
//!
//! Not here, on purpose: sockets, and what the payloads mean. Java: `NIOServerCnxn.readLength`, `FourLetterCommands`.

use super::jute::Limits;

/// The length word before each payload.
pub const LENGTH_BYTES: usize = 4;
/// Header and Stat: most replies.
const SMALL_FRAME_BYTES: usize = 88;

/// A length no client may send. The connection closes without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes (0 to {max_bytes} are allowed)")]
pub struct FrameLengthError {
    pub length: i32,
    pub max_bytes: usize,
}

/// The payload length a length word announces, checked.
pub fn payload_bytes(word: [u8; LENGTH_BYTES], limits: &Limits) -> Result<usize, FrameLengthError> {
    let length = i32::from_be_bytes(word);
    match usize::try_from(length) {
        Ok(bytes) if bytes <= limits.frame_bytes => Ok(bytes),
        _ => Err(FrameLengthError { length, max_bytes: limits.frame_bytes }),
    }
}

/// How many bytes at the front of `bytes` are complete frames, and the length error that stands behind them, if any.
/// A length is checked as soon as its word is there, before its payload.
pub fn complete_bytes(bytes: &[u8], limits: &Limits) -> (usize, Result<(), FrameLengthError>) {
    let mut complete = 0;
    while let Some(word) = bytes[complete..].first_chunk() {
        let frame_bytes = match payload_bytes(*word, limits) {
            Ok(payload_bytes) => LENGTH_BYTES + payload_bytes,
            Err(error) => return (complete, Err(error)),
        };
        if bytes.len() - complete < frame_bytes {
            break;
        }
        complete += frame_bytes;
    }
    (complete, Ok(()))
}

/// Puts the frames of one connection together from whatever chunks its socket yields.
#[derive(Debug, Default)]
pub struct FrameAssembler {
    /// The beginning of one frame whose rest has not arrived. Never a whole frame.
    partial: Vec<u8>,
}

impl FrameAssembler {
    /// Bytes held back because their frame is not complete.
    pub fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Takes the next chunk and hands every run of complete frames to `deliver`, in order: at most one frame out of
    /// the held-back bytes, then all others as one slice of `chunk`. Frames before a bad length are still delivered;
    /// after an error the connection is beyond reading.
    pub fn push(
        &mut self,
        mut chunk: &[u8],
        limits: &Limits,
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<(), FrameLengthError> {
        if !self.partial.is_empty() {
            self.take(&mut chunk, LENGTH_BYTES);
            let Some(word) = self.partial.first_chunk() else {
                return Ok(());
            };
            let frame_bytes = LENGTH_BYTES + payload_bytes(*word, limits)?;
            self.take(&mut chunk, frame_bytes);
            if self.partial.len() < frame_bytes {
                return Ok(());
            }
            deliver(&self.partial);
            self.partial.clear();
            // One large frame must not pin its memory for the life of an idle connection.
            self.partial.shrink_to(crate::limits::CLIENT_READ_BYTES);
        }
        let (complete, checked) = complete_bytes(chunk, limits);
        let (frames, tail) = chunk.split_at(complete);
        if !frames.is_empty() {
            deliver(frames);
        }
        checked?;
        self.partial.extend_from_slice(tail);
        Ok(())
    }

    /// Moves bytes from the chunk until `wanted_bytes` are held, or the chunk is used up. Memory follows what arrives,
    /// not what a length word promises.
    fn take(&mut self, chunk: &mut &[u8], wanted_bytes: usize) {
        let moved_bytes = wanted_bytes.saturating_sub(self.partial.len()).min(chunk.len());
        let (moved, rest) = chunk.split_at(moved_bytes);
        self.partial.extend_from_slice(moved);
        *chunk = rest;
    }
}

/// The payloads of a run of complete frames, in order. An incomplete frame ends the walk; [`Frames::rest`] shows it.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    pub fn new(frames: &'a [u8]) -> Frames<'a> {
        Frames { rest: frames }
    }

    /// Bytes behind the last payload returned.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (word, behind) = self.rest.split_first_chunk::<LENGTH_BYTES>()?;
        let payload_bytes = usize::try_from(i32::from_be_bytes(*word)).ok()?;
        let (payload, rest) = behind.split_at_checked(payload_bytes)?;
        self.rest = rest;
        Some(payload)
    }
}

/// Where a frame under construction began, for [`end_frame`].
#[derive(Debug)]
#[must_use = "a frame that is not ended has no length"]
pub struct FrameStart(usize);

/// Leaves room for a length word; the payload follows.
pub fn begin_frame(out: &mut Vec<u8>) -> FrameStart {
    let start = FrameStart(out.len());
    out.reserve(SMALL_FRAME_BYTES); // once, rather than with each field
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    start
}

/// Writes the length of everything appended since `start`.
pub fn end_frame(out: &mut [u8], start: FrameStart) {
    let payload_start = start.0 + LENGTH_BYTES;
    let payload_bytes = i32::try_from(out.len() - payload_start).expect("a reply that fits a frame");
    out[start.0..payload_start].copy_from_slice(&payload_bytes.to_be_bytes());
}

/// What a new connection's first bytes are. Only asked before its ConnectRequest: later a word is just a bad length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// Not yet enough to tell.
    TooFew,
    /// Answer with text and close. Whatever stands behind the word is ignored, but for `stmk` ([`trace_mask`]).
    Word(FourLetterWord),
    Frames,
}

/// Recognises a four-letter word. Exact and case-sensitive.
pub fn first_bytes(bytes: &[u8]) -> FirstBytes {
    let Some(word) = bytes.first_chunk() else {
        return FirstBytes::TooFew;
    };
    FourLetterWord::from_bytes(*word).map_or(FirstBytes::Frames, FirstBytes::Word)
}

/// The mask `stmk` brings, if its 8 bytes came along with the word. Java does not wait for them either.
pub fn trace_mask(bytes: &[u8]) -> Option<i64> {
    bytes.get(4..)?.first_chunk().map(|mask| i64::from_be_bytes(*mask))
}

macro_rules! four_letter_words {
    ($($variant:ident $bytes:literal $name:literal,)*) => {
        /// The administrative words of the client port. Spec: client-protocol 2.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FourLetterWord { $($variant,)* }

        impl FourLetterWord {
            pub const ALL: &[FourLetterWord] = &[$(FourLetterWord::$variant,)*];

            pub fn from_bytes(bytes: [u8; 4]) -> Option<FourLetterWord> {
                match &bytes {
                    $($bytes => Some(FourLetterWord::$variant),)*
                    _ => None,
                }
            }

            /// As the whitelist setting and the refusal text spell it.
            pub fn name(self) -> &'static str {
                match self { $(FourLetterWord::$variant => $name,)* }
            }

            /// From the whitelist setting's spelling.
            pub fn from_name(name: &str) -> Option<FourLetterWord> {
                match name {
                    $($name => Some(FourLetterWord::$variant),)*
                    _ => None,
                }
            }

            /// The four bytes on the wire.
            pub fn bytes(self) -> [u8; 4] {
                match self { $(FourLetterWord::$variant => *$bytes,)* }
            }
        }
    };
}

four_letter_words! {
    Conf b"conf" "conf",
    Cons b"cons" "cons",
    Crst b"crst" "crst",
    Dirs b"dirs" "dirs",
    Dump b"dump" "dump",
    Envi b"envi" "envi",
    Gtmk b"gtmk" "gtmk",
    Hash b"hash" "hash",
    Isro b"isro" "isro",
    Mntr b"mntr" "mntr",
    Ruok b"ruok" "ruok",
    Srst b"srst" "srst",
    Srvr b"srvr" "srvr",
    Stat b"stat" "stat",
    Stmk b"stmk" "stmk",
    Wchc b"wchc" "wchc",
    Wchp b"wchp" "wchp",
    Wchs b"wchs" "wchs",
    // What telnet sends on interrupt. Never answers anything: enabled, the connection just closes.
    TelnetClose b"\xff\xf4\xff\xfd" "telnet close",
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            let frame = begin_frame(&mut bytes);
            bytes.extend_from_slice(payload);
            end_frame(&mut bytes, frame);
        }
        bytes
    }

    fn payloads(frames: &[u8]) -> Vec<Vec<u8>> {
        let mut walk = Frames::new(frames);
        let payloads = walk.by_ref().map(<[u8]>::to_vec).collect();
        assert!(walk.rest().is_empty(), "only complete frames are delivered");
        payloads
    }

    proptest! {
        #[test]
        fn frames_arrive_whole_and_in_order_however_the_stream_is_cut(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            chunk_bytes in prop::collection::vec(1usize..60, 1..40),
        ) {
            let stream = frames(&sent);
            let mut assembler = FrameAssembler::default();
            let (mut rest, mut received) = (&stream[..], Vec::new());
            for bytes in chunk_bytes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, behind) = rest.split_at((*bytes).min(rest.len()));
                assembler.push(chunk, &Limits::default(), |frames| received.extend(payloads(frames))).unwrap();
                rest = behind;
            }
            prop_assert_eq!(received, sent);
            prop_assert_eq!(assembler.partial_bytes(), 0);
        }
    }

    #[test]
    fn whole_frames_of_a_chunk_are_one_slice_of_that_chunk() {
        let stream = frames(&[vec![1; 10], vec![2; 20], vec![3; 30]]);
        let (chunk, tail) = stream.split_at(14 + 24 + 7);
        let mut assembler = FrameAssembler::default();
        let mut delivered = Vec::new();
        assembler.push(chunk, &Limits::default(), |frames| delivered.push(frames.as_ptr_range())).unwrap();
        assert_eq!(delivered, [chunk[..14 + 24].as_ptr_range()]);
        assert_eq!(assembler.partial_bytes(), 7);
        assembler.push(tail, &Limits::default(), |frames| assert_eq!(payloads(frames), [[3; 30]])).unwrap();
        assert_eq!(assembler.partial_bytes(), 0);
    }

    #[test]
    fn a_bad_length_is_named_after_the_frames_before_it() {
        let limits = Limits::new(8, None);
        for (length, at) in [(9i32, 0usize), (-5, 0), (i32::MIN, 3), (i32::MAX, 3)] {
            let mut stream = frames(&[vec![1; 8], vec![]]);
            stream.extend_from_slice(&length.to_be_bytes());
            // `at` bytes of the stream come first, so that the bad length is met in either half of `push`.
            let cut = if at == 0 { 0 } else { stream.len() - at };
            let mut assembler = FrameAssembler::default();
            let mut received = Vec::new();
            let mut push = |chunk: &[u8]| assembler.push(chunk, &limits, |frames| received.extend(payloads(frames)));
            let results = [push(&stream[..cut]), push(&stream[cut..])];
            assert_eq!(results, [Ok(()), Err(FrameLengthError { length, max_bytes: 8 })]);
            assert_eq!(received, [vec![1; 8], vec![]]);
        }
    }

    #[test]
    fn a_promised_length_alone_takes_no_memory() {
        let mut assembler = FrameAssembler::default();
        let length = (crate::limits::JUTE_MAX_BUFFER_DEFAULT_BYTES as i32).to_be_bytes();
        assembler.push(&length, &Limits::default(), |_| unreachable!()).unwrap();
        assembler.push(&[0; 16], &Limits::default(), |_| unreachable!()).unwrap();
        assert!(assembler.partial.capacity() < 256);
    }

    #[test]
    fn words_are_known_exactly_and_only_as_first_bytes() {
        for word in FourLetterWord::ALL {
            let bytes = [&word.bytes()[..], b"\n"].concat();
            assert_eq!(first_bytes(&bytes), FirstBytes::Word(*word));
            assert_eq!(first_bytes(&bytes[..3]), FirstBytes::TooFew);
            assert_eq!(FourLetterWord::from_name(word.name()), Some(*word));
        }
        assert_eq!(FourLetterWord::ALL.len(), 19);
        for other in [&b"RUOK"[..], b"xxxx", &[0, 0, 0, 45], b"ruo\0"] {
            assert_eq!(first_bytes(other), FirstBytes::Frames);
        }
        assert_eq!(first_bytes(b"\xff\xf4\xff\xfd\x06"), FirstBytes::Word(FourLetterWord::TelnetClose));
        assert_eq!(trace_mask(b"stmk\0\0\0\0\0\0\x01\x02"), Some(0x102));
        assert_eq!(trace_mask(b"stmk\0\0\0\0\0\0\x01"), None);
    }
}
