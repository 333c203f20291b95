//! One snapshot file, read front to back in bounded memory.
//!
//! ```text
//! A  "ZKSN" | version i32 = 2 | dbid i64          B  sessions: count | (id i64, timeout i32) ...
//! C  ACL lists: count | (ref i64, list) ...       D  nodes: (path | data | ref i64 | stat 60 bytes) ... path "/"
//! S1 | E  digest: zxid i64 | version i32 | digest | S2 | F  last zxid i64 | S3      E and F: newer writers only
//! ```
//!
//! A seal is the Adler-32 of everything before it, earlier seals included, and the string "/". Nothing of a snapshot may be
//! used before [`SnapReader::finish`] has seen the seals: the nodes come long before they can be believed.
//! Java: `FileSnap`, `SnapStream`, `SerializeUtils`. Spec: on-disk formats 4.

use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use simd_adler32::Adler32;

use super::JavaError;
use super::names::Compression;
use crate::Zxid;

pub const MAGIC: [u8; 4] = *b"ZKSN";
/// The root's own path is the empty string; this one ends the nodes.
pub const END_OF_NODES: &[u8] = b"/";
/// Nothing a server ever wrote is longer: `jute.maxbuffer` is far below.
const ITEM_BYTES_MAX: usize = 1 << 30;

/// What comes before the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapHead {
    /// Session and its timeout in milliseconds.
    pub sessions: Vec<(i64, i32)>,
    /// Lists by their references. -1 is the open list and is not here.
    pub acls: Vec<(i64, Vec<JavaAcl>)>,
}

/// One entry of a permission list; texts as the file has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JavaAcl {
    pub perms: i32,
    pub scheme: Vec<u8>,
    pub id: Vec<u8>,
}

/// The stat as it is stored, in the order of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JavaStat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub pzxid: i64,
}

pub const STAT_BYTES: usize = 60;

impl From<&[u8; STAT_BYTES]> for JavaStat {
    fn from(bytes: &[u8; STAT_BYTES]) -> JavaStat {
        let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        JavaStat {
            czxid: long(0),
            mzxid: long(8),
            ctime: long(16),
            mtime: long(24),
            version: int(32),
            cversion: int(36),
            aversion: int(40),
            ephemeral_owner: long(44),
            pzxid: long(52),
        }
    }
}

/// A node, parents first. The path of the root is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JavaNode<'a> {
    pub path: &'a [u8],
    pub data: Option<&'a [u8]>,
    pub acl: i64,
    pub stat: JavaStat,
}

/// The tree's digest as of a zxid. The tree of a fuzzy snapshot has it once the log has been replayed up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeDigest {
    pub zxid: Zxid,
    pub version: i32,
    pub digest: u64,
}

/// What comes behind the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapTail {
    pub digest: Option<TreeDigest>,
    pub last_zxid: Option<Zxid>,
}

/// The seals checked on the way through.
pub struct SnapReader<'d> {
    file: PathBuf,
    input: Sealed<'d>,
    path: Vec<u8>,
    data: Vec<u8>,
}

struct Sealed<'d> {
    input: BufReader<Box<dyn Read + 'd>>,
    sum: Adler32,
    at: u64,
}

impl<'d> SnapReader<'d> {
    /// Reads what comes before the nodes.
    pub fn open(
        file: PathBuf,
        input: impl Read + 'd,
        packing: Compression,
    ) -> Result<(SnapHead, SnapReader<'d>), JavaError> {
        let input: Box<dyn Read + 'd> = match packing {
            Compression::Plain => Box::new(input),
            Compression::Gzip => Box::new(GzDecoder::new(input)),
            Compression::Snappy => Box::new(SnappyStream::new(input)),
        };
        let input = BufReader::with_capacity(256 << 10, input);
        let mut input = Sealed { input, sum: Adler32::new(), at: 0 };
        match read_head(&mut input) {
            Ok(head) => Ok((head, SnapReader { file, input, path: Vec::new(), data: Vec::new() })),
            Err(error) => Err(input.error(file, &error)),
        }
    }

    /// `None` after the last one.
    pub fn next_node(&mut self) -> Result<Option<JavaNode<'_>>, JavaError> {
        match self.read_node() {
            Ok(Some((has_data, acl, stat))) => {
                let data = has_data.then_some(&*self.data);
                Ok(Some(JavaNode { path: &self.path, data, acl, stat }))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.input.error(self.file.clone(), &error)),
        }
    }

    /// After the last node: the seals, and what stands between them.
    pub fn finish(mut self) -> Result<SnapTail, JavaError> {
        self.read_tail().map_err(|error| self.input.error(self.file.clone(), &error))
    }

    /// Bytes of the unpacked snapshot so far.
    pub fn bytes_read(&self) -> u64 {
        self.input.at
    }

    fn read_node(&mut self) -> io::Result<Option<(bool, i64, JavaStat)>> {
        if !self.input.buffer(&mut self.path)? {
            return Err(invalid("a node without a path"));
        }
        if self.path == END_OF_NODES {
            return Ok(None);
        }
        let has_data = self.input.buffer(&mut self.data)?;
        let acl = self.input.i64()?;
        let stat = JavaStat::from(&self.input.array::<STAT_BYTES>()?);
        Ok(Some((has_data, acl, stat)))
    }

    fn read_tail(&mut self) -> io::Result<SnapTail> {
        self.input.seal()?;
        let mut tail = SnapTail::default();
        if self.input.is_at_end()? {
            return Ok(tail);
        }
        let (zxid, version) = (Zxid(self.input.i64()? as u64), self.input.i32()?);
        // Version 1 wrote it as text.
        let digest = if version < 2 {
            let mut text = Vec::new();
            self.input.buffer(&mut text)?;
            let digits = std::str::from_utf8(&text).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
            digits.ok_or_else(|| invalid("a digest that is no number"))?
        } else {
            self.input.i64()? as u64
        };
        self.input.seal()?;
        tail.digest = (zxid != Zxid::ZERO).then_some(TreeDigest { zxid, version, digest });
        if !self.input.is_at_end()? {
            tail.last_zxid = Some(Zxid(self.input.i64()? as u64));
            self.input.seal()?;
            // A packed stream has a checksum of its own behind the last byte.
            self.input.is_at_end()?;
        }
        Ok(tail)
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn read_head(input: &mut Sealed<'_>) -> io::Result<SnapHead> {
    if input.array::<4>()? != MAGIC {
        return Err(invalid("not a snapshot (no ZKSN at its beginning)"));
    }
    if input.i32()? != 2 {
        return Err(invalid("a format version other than 2"));
    }
    input.i64()?; // the database id, which nobody looks at
    let mut head = SnapHead::default();
    for _ in 0..input.count()? {
        head.sessions.push((input.i64()?, input.i32()?));
    }
    for _ in 0..input.count()? {
        let reference = input.i64()?;
        // A null list counts as an empty one.
        let entries = input.i32()?.max(0);
        let mut list = Vec::new();
        for _ in 0..entries {
            let mut acl = JavaAcl { perms: input.i32()?, scheme: Vec::new(), id: Vec::new() };
            input.buffer(&mut acl.scheme)?;
            input.buffer(&mut acl.id)?;
            list.push(acl);
        }
        head.acls.push((reference, list));
    }
    Ok(head)
}

impl Sealed<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(bytes)?;
        self.sum.write(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn count(&mut self) -> io::Result<i32> {
        let count = self.i32()?;
        if count < 0 { Err(invalid("a negative count")) } else { Ok(count) }
    }

    /// False for null. Memory grows with the bytes that come, not with the length that is claimed.
    fn buffer(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        const STEP_BYTES: usize = 1 << 20;
        out.clear();
        let length = self.i32()?;
        if length == -1 {
            return Ok(false);
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= ITEM_BYTES_MAX);
        let length = length.ok_or_else(|| invalid("an impossible length"))?;
        while out.len() < length {
            let from = out.len();
            out.resize(length.min(from + STEP_BYTES), 0);
            self.fill(&mut out[from..])?;
        }
        Ok(true)
    }

    fn seal(&mut self) -> io::Result<()> {
        let expected = i64::from(self.sum.finish());
        let mut end = Vec::new();
        if self.i64()? != expected || !self.buffer(&mut end)? || end != b"/" {
            return Err(invalid("checksum mismatch"));
        }
        Ok(())
    }

    fn is_at_end(&mut self) -> io::Result<bool> {
        use io::BufRead as _;
        Ok(self.input.fill_buf()?.is_empty())
    }

    fn error(&self, file: PathBuf, error: &io::Error) -> JavaError {
        let what =
            if error.kind() == io::ErrorKind::UnexpectedEof { "the file ends early".into() } else { error.to_string() };
        JavaError::Snapshot { file, why: format!("{what}, at byte {} of the unpacked snapshot", self.at) }
    }
}

/// snappy-java's container: a header of 16 bytes, then blocks, each behind its length. Not snappy's own framing format.
struct SnappyStream<R> {
    input: R,
    begun: bool,
    packed: Vec<u8>,
    block: Vec<u8>,
    taken: usize,
}

const SNAPPY_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// snappy-java's own bound of a block.
const SNAPPY_BLOCK_BYTES_MAX: usize = 512 << 20;

impl<R: Read> SnappyStream<R> {
    fn new(input: R) -> SnappyStream<R> {
        SnappyStream { input, begun: false, packed: Vec::new(), block: Vec::new(), taken: 0 }
    }

    /// False at the end of the stream.
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.begun {
            let mut header = [0; 16];
            self.input.read_exact(&mut header)?;
            if header[..8] != SNAPPY_MAGIC {
                return Err(invalid("not a stream of snappy-java"));
            }
            self.begun = true;
        }
        let mut length = Vec::with_capacity(4);
        self.input.by_ref().take(4).read_to_end(&mut length)?;
        let length = match <[u8; 4]>::try_from(length) {
            Ok(length) => i32::from_be_bytes(length),
            Err(part) if part.is_empty() => return Ok(false),
            Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let length = u64::try_from(length).map_err(|_| invalid("a packed block of negative length"))?;
        self.packed.clear();
        if self.input.by_ref().take(length).read_to_end(&mut self.packed)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = snap::raw::decompress_len(&self.packed)?;
        if bytes > SNAPPY_BLOCK_BYTES_MAX {
            return Err(invalid("a packed block that is too large"));
        }
        self.block.resize(bytes, 0);
        self.taken = 0;
        let unpacked = snap::raw::Decoder::new().decompress(&self.packed, &mut self.block)?;
        self.block.truncate(unpacked);
        Ok(true)
    }
}

impl<R: Read> Read for SnappyStream<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.block.len() {
            if bytes.is_empty() || !self.next_block()? {
                return Ok(0);
            }
        }
        let count = bytes.len().min(self.block.len() - self.taken);
        bytes[..count].copy_from_slice(&self.block[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}
