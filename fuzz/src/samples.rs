//! What runs begin with: bytes recorded from Java's servers (`tests/golden/`), and inputs that earlier runs found to take
//! ways of their own (`corpus/`, a file a target, a line of hexadecimal digits an input).

use std::fs;
use std::path::{Path, PathBuf};

use ringkeeper::snapshot_stream::{Form, SnapshotDecoder, SnapshotEncoder};
use ringkeeper::wire::frame::Frames;
use ringkeeper::wire::jute::Limits;
use ringkeeper::wire::quorum::Packet;
use ringkeeper_storage::Zxid;

use crate::targets::CONTROL_BYTES;

pub type Sample = Vec<u8>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Of one target.
pub fn of(target: &str) -> Result<Vec<Sample>, String> {
    let mut samples = recorded(target)?;
    samples.extend(kept(target)?);
    Ok(samples)
}

/// What earlier runs found.
pub fn kept(target: &str) -> Result<Vec<Sample>, String> {
    let file = corpus_file(target);
    if !file.exists() {
        return Ok(Vec::new());
    }
    lines(&file)?.iter().map(unhex).collect()
}

/// Writes what the next runs are to begin with, beside the recorded ones.
pub fn keep(target: &str, samples: &[Sample]) -> Result<(), String> {
    let mut lines: Vec<String> = samples.iter().map(|sample| hex(sample) + "\n").collect();
    lines.sort_by_key(|line| (line.len(), line.clone()));
    let file = corpus_file(target);
    let written = fs::create_dir_all(root().join("corpus")).and_then(|()| fs::write(&file, lines.concat()));
    written.map_err(|error| format!("{}: {error}", file.display()))
}

fn corpus_file(target: &str) -> PathBuf {
    root().join("corpus").join(format!("{target}.txt"))
}

/// From Java's servers.
pub fn recorded(target: &str) -> Result<Vec<Sample>, String> {
    match target {
        "frames" => Ok(client_frames()?.chunks(3).map(|frames| with_control(&frames.concat())).collect()),
        "words" => Ok(vec![b"ruok".to_vec(), b"stmk\0\0\0\0\0\0\x01\x02".to_vec(), vec![0xff, 0xf4, 0xff, 0xfd]]),
        "connect" => Ok(client_frames()?[..1].iter().flat_map(|frame| payload(frame)).collect()),
        "request" => Ok(client_frames()?[1..].iter().flat_map(|frame| payload(frame)).collect()),
        "transaction" => transactions(),
        "packets" => packets(),
        "introduction" => Ok(election()?.into_iter().filter(|(kind, _)| kind == "I").map(|(_, bytes)| bytes).collect()),
        "notification" => {
            let frames = election()?.into_iter().filter(|(kind, _)| kind == "N");
            Ok(frames.flat_map(|(_, frame)| payload(&frame)).collect())
        }
        "configuration" => configurations(),
        "java_snapshot" => Ok(snapshot_streams()?.iter().map(|stream| with_control(stream)).collect()),
        "native_snapshot" => snapshot_streams()?.iter().map(|stream| native(stream)).collect(),
        other => Err(format!("no samples of {other}")),
    }
}

/// Behind what decides how the harness deals with it.
fn with_control(bytes: &[u8]) -> Sample {
    [&[0; CONTROL_BYTES][..], bytes].concat()
}

fn client_frames() -> Result<Vec<Sample>, String> {
    let lines = golden("frames.txt")?;
    lines.iter().filter_map(|line| line.strip_prefix("C ")).map(unhex).collect()
}

fn payload(frame: &[u8]) -> Option<Sample> {
    Frames::new(frame).next().map(<[u8]>::to_vec)
}

/// Those of Java's logs: a header of 16 bytes, then checksum, length, transaction and an end mark each.
fn transactions() -> Result<Vec<Sample>, String> {
    let mut found = Vec::new();
    for name in ["100000001", "100000026", "10000004e"] {
        let file = root().join(format!("../tests/golden/java-3.9.3-log.{name}.bin"));
        let log = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut rest = &log[16..];
        while let Some((_checksum, behind)) = rest.split_at_checked(8) {
            let mut frame = Frames::new(behind);
            let Some(txn) = frame.next() else { break };
            found.push(txn.to_vec());
            rest = frame.rest().get(1..).unwrap_or_default();
        }
    }
    Ok(found)
}

fn packets() -> Result<Vec<Sample>, String> {
    let lines = [golden("quorum-packets.txt")?, golden("observer-master.txt")?].concat();
    let packets: Result<Vec<Sample>, String> = lines.iter().map(|line| unhex(last_word(line))).collect();
    // Most are proposals that differ little.
    let mut by_kind = std::collections::BTreeMap::<[u8; 4], Vec<Sample>>::new();
    for packet in packets? {
        by_kind.entry(*packet.first_chunk().ok_or("a packet without a type")?).or_default().push(packet);
    }
    Ok(by_kind
        .into_values()
        .flat_map(|packets| packets.into_iter().take(12))
        .map(|bytes| with_control(&bytes))
        .collect())
}

/// Introductions and frames of notifications.
fn election() -> Result<Vec<(String, Sample)>, String> {
    let lines = golden("election.txt")?;
    lines.iter().map(|line| Ok((line[..1].to_owned(), unhex(last_word(line))?))).collect()
}

/// As NEWLEADER brings them.
fn configurations() -> Result<Vec<Sample>, String> {
    let mut texts = Vec::new();
    for line in golden("quorum-packets.txt")? {
        let decoded =
            Packet::decode(&unhex(last_word(&line))?, &Limits::default()).map_err(|error| error.to_string())?;
        if let Some(Packet::NewLeader { config: Some(text), .. }) = decoded.and_then(|decoded| decoded.packet) {
            texts.push(text.to_vec());
        }
    }
    let groups = b"server.1=a:1:2:participant;3\nserver.2=[::1]:1:2|b:3:4:observer\ngroup.1=1\nweight.1=2\nversion=1f";
    texts.push(groups.to_vec());
    texts.sort();
    texts.dedup();
    Ok(texts)
}

/// With their signatures.
fn snapshot_streams() -> Result<Vec<Sample>, String> {
    let lines = golden("snapshot-streams.txt")?;
    lines.iter().map(|line| unhex(line.split(' ').skip(2).take(2).collect::<String>())).collect()
}

/// What one ringkeeper would send another of it.
fn native(java: &[u8]) -> Result<Sample, String> {
    let mut decoder = SnapshotDecoder::new(Form::Java, Zxid(0x10_0000_0000), Limits::default());
    let (mut encoder, mut out) = (SnapshotEncoder::new(Form::Native), vec![0; CONTROL_BYTES]);
    decoder.push(java).map_err(|error| error.to_string())?;
    while let Some(message) = decoder.take() {
        encoder.message(message, &mut out).map_err(|error| error.to_string())?;
    }
    Ok(out)
}

fn golden(name: &str) -> Result<Vec<String>, String> {
    lines(&root().join("../tests/golden").join(name))
}

/// But for those that are for people.
fn lines(file: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

fn last_word(line: &str) -> &str {
    line.rsplit(' ').next().unwrap_or_default()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: impl AsRef<str>) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.as_ref().bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2);
        pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    digits.chunks(2).map(byte).collect::<Option<_>>().ok_or_else(|| "not pairs of hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TARGETS;

    #[test]
    fn every_target_has_something_to_begin_with_that_it_takes() {
        for target in TARGETS {
            let samples = of(target.name).unwrap();
            assert!(!samples.is_empty(), "{}", target.name);
            samples.iter().for_each(|sample| (target.run)(sample));
        }
    }

    #[test]
    fn digits_are_bytes_and_nothing_else_is() {
        assert_eq!(unhex("00 fF10"), Ok(vec![0, 0xff, 0x10]));
        assert_eq!(hex(&[0, 0xff, 0x10]), "00ff10");
        assert!(unhex("0").is_err() && unhex("0x").is_err() && unhex("äa").is_err());
    }
}
