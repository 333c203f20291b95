//! Permission lists, and who a connection has proved to be.
//!
//! Lists are interned: a node holds a number, equal lists are kept once and counted. Schemes known here are `world`, `ip`,
//! `digest`, `auth` (which never outlives [`fix_up`]) and, as an identity only, `super`. An entry of any other scheme is
//! refused in requests and, where it comes from a Java server, kept and never matched.
//!
//! Spec: semantics 8. Java: `ReferenceCountedACLCache`, `PrepRequestProcessor.fixupACL`, `ZooKeeperServer.checkACL`,
//! `DigestAuthenticationProvider`, `IPAuthenticationProvider`.

mod password_hash;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use compact_str::{CompactString, format_compact};
use foldhash::fast::FixedState;
use hashbrown::{HashSet, HashTable};
use ringkeeper_storage::{AclImage, AclListImage};

pub use self::password_hash::PasswordHash;
use super::load_error::LoadError;
use crate::wire::ErrorCode;
use crate::wire::client::{Acl, perms};
use crate::wire::jute::decode_utf8;
use crate::wire::txn::AclList;

/// Number of an interned list, as snapshots carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AclRef(pub u32);

impl AclRef {
    /// `world:anyone` with all permissions; not in the table, not counted. Java: `OPEN_UNSAFE_ACL_ID`, -1.
    pub const OPEN: AclRef = AclRef(u32::MAX);
}

/// Whether this list is kept as [`AclRef::OPEN`].
pub fn is_open(list: &[Acl<'_>]) -> bool {
    is_same(list, &OPEN_LIST)
}

static OPEN_LIST: [Acl<'static>; 1] =
    [Acl { perms: perms::ALL, scheme: Some(Cow::Borrowed("world")), id: Some(Cow::Borrowed("anyone")) }];

/// What `auth` entries of one request may come to, bytes: many of them times many identities would be more than any transaction
/// can carry.
const EXPANSION_BYTES_MAX: usize = 512 << 10;
/// Of an entry, beside its scheme and id.
const ENTRY_BYTES: usize = 12;

/// One thing a connection has proved to be. A connection keeps a set of them: see [`add_identity`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub scheme: CompactString,
    pub id: CompactString,
}

pub fn add_identity(identities: &mut Vec<Identity>, identity: Identity) {
    if !identities.contains(&identity) {
        identities.push(identity);
    }
}

/// The identity every connection starts with: its address as Java writes it, IPv6 as eight groups without `::`.
pub fn ip_identity(peer: IpAddr) -> Identity {
    let id = match peer.to_canonical() {
        IpAddr::V4(address) => format_compact!("{address}"),
        IpAddr::V6(address) => {
            let groups = address.segments().map(|group| format!("{group:x}"));
            CompactString::from(groups.join(":"))
        }
    };
    Identity { scheme: "ip".into(), id }
}

/// `user:hash of auth` of a digest auth packet; bytes that are not UTF-8 become U+FFFD first, as many as in Java.
pub fn digest_identity(auth: &[u8], hash: PasswordHash) -> CompactString {
    let auth = decode_utf8(auth);
    let user = auth.split(':').next().unwrap_or_default();
    format_compact!("{user}:{}", hash.of(auth.as_bytes()))
}

/// Takes a digest auth packet, which always succeeds: adds `digest:<id>`, and `super:` if the id is the configured
/// superDigest.
pub fn authenticate_digest(
    auth: &[u8],
    hash: PasswordHash,
    super_digest: Option<&str>,
    identities: &mut Vec<Identity>,
) {
    let id = digest_identity(auth, hash);
    if super_digest == Some(id.as_str()) {
        add_identity(identities, Identity { scheme: "super".into(), id: CompactString::default() });
    }
    add_identity(identities, Identity { scheme: "digest".into(), id });
}

/// Makes a client's list storable (semantics 8.3): drops duplicates, expands `auth`, refuses what no scheme accepts.
/// `expansion_bytes`: what `auth` has come to in this request so far.
pub fn fix_up(
    list: &[Acl<'_>],
    identities: &[Identity],
    expansion_bytes: &mut usize,
) -> Result<AclList<'static>, ErrorCode> {
    if list.is_empty() {
        return Err(ErrorCode::InvalidAcl);
    }
    let mut fixed = AclList::new();
    let mut seen = BTreeSet::new();
    for entry in list {
        if list.len() > 1 && !seen.insert(entry) {
            continue;
        }
        let scheme = entry.scheme.as_deref().ok_or(ErrorCode::InvalidAcl)?;
        if scheme == "auth" {
            let mut proved = identities.iter().filter(|identity| identity.scheme == "digest").peekable();
            proved.peek().ok_or(ErrorCode::InvalidAcl)?;
            for identity in proved {
                *expansion_bytes += ENTRY_BYTES + identity.scheme.len() + identity.id.len();
                if *expansion_bytes > EXPANSION_BYTES_MAX {
                    return Err(ErrorCode::InvalidAcl);
                }
                fixed.push(owned(entry.perms, &identity.scheme, &identity.id));
            }
            continue;
        }
        if !matches!(scheme, "world" | "digest" | "ip") {
            return Err(ErrorCode::InvalidAcl);
        }
        let id = entry.id.as_deref().ok_or(ErrorCode::MarshallingError)?;
        let is_valid = match scheme {
            "world" => id == "anyone",
            "digest" => is_digest_id(id),
            _ => AddressRange::parse(id).is_some(),
        };
        if !is_valid {
            return Err(ErrorCode::InvalidAcl);
        }
        fixed.push(owned(entry.perms, scheme, id));
    }
    Ok(fixed)
}

fn owned(perms: i32, scheme: &str, id: &str) -> Acl<'static> {
    Acl { perms, scheme: Some(Cow::Owned(scheme.to_owned())), id: Some(Cow::Owned(id.to_owned())) }
}

/// Exactly two parts at `:`, trailing empty parts not counted (Java's `split`).
fn is_digest_id(id: &str) -> bool {
    let id = id.trim_end_matches(':');
    id.bytes().filter(|byte| *byte == b':').count() == 1
}

/// Whether `identities` hold any of the `wanted` bits (semantics 8.4).
pub fn allowed(acl: &[Acl<'_>], wanted: i32, identities: &[Identity], skip_acl: bool) -> bool {
    skip_acl
        || acl.is_empty()
        || acl.iter().any(|entry| entry.perms & wanted != 0 && is_anyone(entry))
        || identities.iter().any(|identity| identity.scheme == "super")
        || acl
            .iter()
            .any(|entry| entry.perms & wanted != 0 && identities.iter().any(|identity| matches(entry, identity)))
}

fn is_anyone(entry: &Acl<'_>) -> bool {
    entry.scheme.as_deref() == Some("world") && entry.id.as_deref() == Some("anyone")
}

fn matches(entry: &Acl<'_>, identity: &Identity) -> bool {
    let (Some(scheme), Some(id)) = (entry.scheme.as_deref(), entry.id.as_deref()) else {
        return false;
    };
    if scheme != identity.scheme {
        return false;
    }
    match scheme {
        "digest" => id == identity.id,
        "ip" => match (AddressRange::parse(id), parse_address(&identity.id)) {
            (Some(range), Some(address)) => range.contains(address),
            _ => false,
        },
        _ => false,
    }
}

/// The list as someone without ADMIN may see it (semantics 8.5).
pub fn redacted<'a>(acl: &'a [Acl<'_>]) -> AclList<'a> {
    let redact = |entry: &'a Acl<'_>| {
        let id = entry.id.as_deref().map(|id| match id.split_once(':') {
            Some((user, _)) if entry.scheme.as_deref() == Some("digest") => Cow::Owned(format!("{user}:x")),
            _ => Cow::Borrowed(id),
        });
        Acl { perms: entry.perms, scheme: entry.scheme.as_deref().map(Cow::Borrowed), id }
    };
    acl.iter().map(redact).collect()
}

/// `address` or `address/bits`.
struct AddressRange {
    address: IpAddr,
    bits: u32,
}

impl AddressRange {
    fn parse(id: &str) -> Option<AddressRange> {
        let (address, bits) = match id.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (id, None),
        };
        let address = parse_address(address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => u32::try_from(bits.parse::<i32>().ok()?).ok().filter(|bits| *bits <= most)?,
            None => most,
        };
        Some(AddressRange { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                (range.to_bits() ^ address.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                (range.to_bits() ^ address.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// As Java's provider reads addresses, which is neither stricter nor looser than the standard library in all points.
fn parse_address(text: &str) -> Option<IpAddr> {
    if text.contains(':') { parse_ipv6(text).map(IpAddr::V6) } else { parse_ipv4(text).map(IpAddr::V4) }
}

fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = u8::try_from(parts.next()?.parse::<i32>().ok()?).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// Eight groups, or one `::` and fewer than eight; no embedded IPv4.
fn parse_ipv6(text: &str) -> Option<Ipv6Addr> {
    let groups = |text: &str| -> Option<Vec<u16>> {
        if text.is_empty() {
            return Some(vec![]);
        }
        let group = |group: &str| {
            let is_hex = (1..=4).contains(&group.len()) && group.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hex.then(|| u16::from_str_radix(group, 16).ok()).flatten()
        };
        text.split(':').take(9).map(group).collect()
    };
    let mut segments = [0; 8];
    match text.split_once("::") {
        None => segments = groups(text)?.try_into().ok()?,
        Some((head, tail)) => {
            let (head, tail) = (groups(head)?, groups(tail)?);
            if head.len() + tail.len() >= 8 {
                return None;
            }
            segments[..head.len()].copy_from_slice(&head);
            segments[8 - tail.len()..].copy_from_slice(&tail);
        }
    }
    Some(Ipv6Addr::from(segments))
}

/// All lists in use, each once, with a count of its users.
#[derive(Debug)]
pub struct AclTable {
    places: Vec<Place>,
    free: Vec<u32>,
    /// Numbers, by the hash of their list.
    index: HashTable<u32>,
    state: FixedState,
}

#[derive(Debug, Default)]
struct Place {
    list: Box<[Acl<'static>]>,
    /// 0: the place is free.
    users: u64,
}

impl AclTable {
    /// `hash_seed`: [`Settings::hash_seed`](crate::core::Settings).
    pub fn new(hash_seed: u64) -> AclTable {
        let state = FixedState::with_seed(hash_seed);
        AclTable { places: Vec::new(), free: Vec::new(), index: HashTable::new(), state }
    }

    /// Whether these can be a snapshot's table: each list used, under a number of its own. `slot_count` nodes at most ever were
    /// there to have lists.
    pub fn check_images(lists: &[AclListImage], slot_count: u32) -> Result<(), LoadError> {
        let mut seen = HashSet::with_hasher(FixedState::default());
        let is_good =
            |list: &AclListImage| list.number <= slot_count && list.uses != 0 && list.number != AclRef::OPEN.0;
        match lists.iter().find(|list| !is_good(list) || !seen.insert(list.number)) {
            Some(list) => Err(LoadError::BadAclNumber { acl: list.number }),
            None => Ok(()),
        }
    }

    /// The table of a snapshot, with its numbers.
    pub fn from_images(lists: &[AclListImage], slot_count: u32, hash_seed: u64) -> Result<AclTable, LoadError> {
        AclTable::check_images(lists, slot_count)?;
        let mut table = AclTable::new(hash_seed);
        let places = lists.iter().map(|list| list.number + 1).max().unwrap_or(0);
        table.places.resize_with(places as usize, Place::default);
        for AclListImage { number, uses, entries } in lists {
            let place = &mut table.places[*number as usize];
            let of_image = |image: &AclImage| owned(image.perms, &image.scheme, &image.id);
            *place = Place { list: entries.iter().map(of_image).collect(), users: *uses };
            let AclTable { places, index, state, .. } = &mut table;
            let hash = |at: &u32| state.hash_one(&places[*at as usize].list);
            index.insert_unique(hash(number), *number, hash);
        }
        table.free = (0..places).rev().filter(|at| table.places[*at as usize].users == 0).collect();
        Ok(table)
    }

    /// Counts one more user of this list.
    pub fn intern(&mut self, list: &[Acl<'_>]) -> AclRef {
        if is_open(list) {
            return AclRef::OPEN;
        }
        let AclTable { places, free, index, state } = self;
        let hash = state.hash_one(list);
        if let Some(&at) = index.find(hash, |at| is_same(&places[*at as usize].list, list)) {
            places[at as usize].users += 1;
            return AclRef(at);
        }
        let place = Place { list: list.iter().map(to_owned).collect(), users: 1 };
        let at = match free.pop() {
            Some(at) => {
                places[at as usize] = place;
                at
            }
            None => {
                places.push(place);
                u32::try_from(places.len() - 1).ok().filter(|at| *at < u32::MAX).expect("fewer lists than nodes")
            }
        };
        index.insert_unique(hash, at, |at| state.hash_one(&places[*at as usize].list));
        AclRef(at)
    }

    /// Counts one more user of a list already in use.
    pub fn retain(&mut self, acl: AclRef) {
        if acl != AclRef::OPEN {
            let users = &mut self.places[acl.0 as usize].users;
            assert!(*users > 0, "retaining {acl:?}, which nobody uses");
            *users += 1;
        }
    }

    /// Counts one user less; without users the list is forgotten and its number may come again.
    pub fn release(&mut self, acl: AclRef) {
        if acl == AclRef::OPEN {
            return;
        }
        let place = &mut self.places[acl.0 as usize];
        assert!(place.users > 0, "releasing {acl:?}, which nobody uses");
        place.users -= 1;
        if place.users == 0 {
            let list = std::mem::take(&mut place.list);
            self.index
                .find_entry(self.state.hash_one(&list), |at| *at == acl.0)
                .expect("a list in use is in the index")
                .remove();
            self.free.push(acl.0);
        }
    }

    pub fn get(&self, acl: AclRef) -> &[Acl<'static>] {
        if acl == AclRef::OPEN { &OPEN_LIST } else { &self.places[acl.0 as usize].list }
    }

    /// How many use this list; 0 for the open one, which is not counted.
    pub fn uses(&self, acl: AclRef) -> u64 {
        if acl == AclRef::OPEN { 0 } else { self.places[acl.0 as usize].users }
    }

    /// Distinct lists in use, the open one aside.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = (AclRef, &[Acl<'static>])> {
        let used = (0u32..).zip(&self.places).filter(|(_, place)| place.users > 0);
        used.map(|(at, place)| (AclRef(at), &*place.list))
    }
}

fn is_same(a: &[Acl<'_>], b: &[Acl<'_>]) -> bool {
    let parts = |acl| -> (i32, Option<&str>, Option<&str>) {
        let acl: &Acl<'_> = acl;
        (acl.perms, acl.scheme.as_deref(), acl.id.as_deref())
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| parts(a) == parts(b))
}

pub(super) fn to_owned(acl: &Acl<'_>) -> Acl<'static> {
    let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(|text| Cow::Owned(text.to_owned()));
    Acl { perms: acl.perms, scheme: text(&acl.scheme), id: text(&acl.id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(perms: i32, scheme: &str, id: &str) -> Acl<'static> {
        owned(perms, scheme, id)
    }

    fn identity(scheme: &str, id: &str) -> Identity {
        Identity { scheme: scheme.into(), id: id.into() }
    }

    #[test]
    fn digest_identities_are_javas() {
        for (auth, id) in [
            ("bob:secret", "bob:fyVmFCwVbTJYrznoSu1koqYEYF0="),
            ("super:admin", "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="),
            ("u:p", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="),
            ("nocolon", "nocolon:Ra+cHr2ZoHvBjtNArFGNGlVie4g="),
            ("a:b:c", "a:cLzgnoJ6mP5qz3w+mwvPE2vDgu0="),
        ] {
            assert_eq!(digest_identity(auth.as_bytes(), PasswordHash::Sha1), id);
        }
        let (halves, told) = (b"u:\xed\xa0\x80\xed\xb0\x80", "u:\u{fffd}\u{fffd}");
        let id = |auth: &[u8]| digest_identity(auth, PasswordHash::Sha1);
        assert_eq!(id(halves), id(told.as_bytes()), "one for each half of a pair");
        let mut identities = vec![];
        let sha1 = PasswordHash::default();
        authenticate_digest(b"super:admin", sha1, Some("super:xQJmxLMiHGwaqBvst5y6rkB6HQs="), &mut identities);
        authenticate_digest(b"super:admin", sha1, None, &mut identities);
        assert_eq!(identities, [identity("super", ""), identity("digest", "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=")]);
    }

    #[test]
    fn addresses_are_written_as_java_writes_them() {
        for (address, id) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("fe80::ABCD:0", "fe80:0:0:0:0:0:abcd:0"),
        ] {
            assert_eq!(ip_identity(address.parse().unwrap()), identity("ip", id));
        }
    }

    #[test]
    fn fix_up_follows_javas_table() {
        let alice = [identity("digest", "alice:x"), identity("ip", "1.2.3.4"), identity("digest", "al:y")];
        let fix = |list: &[Acl<'_>]| fix_up(list, &alice, &mut 0).map(|list| list.to_vec());
        let invalid = Err(ErrorCode::InvalidAcl);
        assert_eq!(fix(&[]), invalid);
        let world = acl(31, "world", "anyone");
        assert_eq!(
            fix(&[world.clone(), acl(1, "ip", "1.1.1.1"), world.clone()]),
            Ok(vec![world.clone(), acl(1, "ip", "1.1.1.1")])
        );
        let expanded = vec![acl(5, "digest", "alice:x"), acl(5, "digest", "al:y")];
        assert_eq!(fix(&[acl(5, "auth", "whatever")]), Ok(expanded.clone()));
        let no_id = |scheme: &'static str| Acl { perms: 5, scheme: Some(scheme.into()), id: None };
        assert_eq!(fix(&[no_id("auth")]), Ok(expanded));
        // Who is the super user is that by another scheme, too: A8.
        let boss = [identity("super", ""), identity("digest", "super:h"), identity("ip", "1.2.3.4")];
        assert_eq!(
            fix_up(&[acl(5, "auth", "")], &boss, &mut 0).map(|list| list.to_vec()),
            Ok(vec![acl(5, "digest", "super:h")])
        );
        assert_eq!(
            fix_up(&[acl(5, "auth", "")], &alice[1..2], &mut 0),
            invalid.clone().map(|_: Vec<_>| unreachable!())
        );
        for scheme in ["world", "digest", "ip"] {
            assert_eq!(fix(&[no_id(scheme)]), Err(ErrorCode::MarshallingError));
        }
        for scheme in ["sasl", "x509", "super", "", "nonsense"] {
            assert_eq!((fix(&[no_id(scheme)]), fix(&[acl(1, scheme, "bob")])), (invalid.clone(), invalid.clone()));
        }
        assert_eq!(fix(&[Acl { perms: 1, scheme: None, id: Some("x".into()) }]), invalid);
        assert_eq!(fix(&[acl(1, "world", "someone")]), invalid);
        for perms in [0, 255, -1] {
            assert_eq!(fix(&[acl(perms, "world", "anyone")]), Ok(vec![acl(perms, "world", "anyone")]));
        }
        let is_valid = |scheme: &str, id: &str| fix(&[acl(1, scheme, id)]).is_ok();
        for id in ["a:b", ":b", "a:b:", "a:b::"] {
            assert!(is_valid("digest", id), "{id}");
        }
        for id in ["", "a", "a:", ":", "a:b:c", "a::b"] {
            assert!(!is_valid("digest", id), "{id}");
        }
        for id in ["1.2.3.4", "1.2.3.4/0", "1.2.3.4/32", "::", "1::", "::1", "1:2:3:4:5:6:7:8/128", "1:2:3::8/0"] {
            assert!(is_valid("ip", id), "{id}");
        }
        for id in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.-1",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "1.2.3.4/",
            "1.2.3.4/8/8",
            "localhost",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "1::2::3",
            ":1:2:3:4:5:6:7",
            "12345::",
            "::g",
            "::1/129",
            "1:2:3:4::5:6:7:8",
            "::1.2.3.4",
            ":",
        ] {
            assert!(!is_valid("ip", id), "{id}");
        }
    }

    #[test]
    fn auth_entries_do_not_multiply_without_bound() {
        let identities: Vec<_> = (0..1000).map(|n| identity("digest", &format!("u{n}:h"))).collect();
        let list: Vec<_> = (0..1000).map(|perms| acl(perms, "auth", "")).collect();
        assert_eq!(fix_up(&list, &identities, &mut 0), Err(ErrorCode::InvalidAcl));
        // Nor over the items of a multi; nor long ones.
        let (one, mut bytes) = ([acl(31, "auth", "")], 0);
        let taken = (0..1000).take_while(|_| fix_up(&one, &identities, &mut bytes).is_ok()).count();
        assert!((10..100).contains(&taken), "{taken}");
        let long = [identity("digest", &"u".repeat(300 << 10))];
        assert!(fix_up(&list[..1], &long, &mut 0).is_ok() && fix_up(&list[..2], &long, &mut 0).is_err());
    }

    #[test]
    fn permission_needs_a_bit_and_a_match() {
        let bob = [identity("ip", "10.1.2.3"), identity("digest", "bob:h")];
        let may = |list: &[Acl<'_>], wanted| allowed(list, wanted, &bob, false);
        assert!(may(&[], 1));
        assert!(may(&[acl(1, "world", "anyone")], 1) && !may(&[acl(1, "world", "anyone")], 2));
        assert!(may(&[acl(1, "world", "anyone"), acl(31, "digest", "eve:h")], 1 | 16));
        assert!(may(&[acl(2, "digest", "bob:h")], 2) && !may(&[acl(2, "digest", "bob:H")], 2));
        assert!(may(&[acl(1, "digest", "eve:h"), acl(4, "digest", "bob:h")], 4));
        for (range, matches) in [
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("10.1.0.0/16", true),
            ("10.2.0.0/16", false),
            ("99.9.9.9/0", true),
            ("10.1.2.2/31", true),
            ("::/0", false),
            ("junk", false),
        ] {
            assert_eq!(may(&[acl(1, "ip", range)], 1), matches, "{range}");
        }
        let six = [identity("ip", "fe80:0:0:0:0:0:0:1")];
        assert!(allowed(&[acl(1, "ip", "fe80::/10")], 1, &six, false));
        assert!(!allowed(&[acl(1, "ip", "fe80::/128")], 1, &six, false));
        for never in ["sasl", "x509", "auth"] {
            assert!(!allowed(&[acl(31, never, "bob")], 1, &[identity(never, "bob")], false));
        }
        let nobody = [acl(0, "world", "anyone")];
        assert!(!may(&nobody, 31) && allowed(&nobody, 31, &bob, true));
        assert!(allowed(&nobody, 31, &[identity("super", "")], false));
    }

    #[test]
    fn without_admin_digest_hashes_stay_hidden() {
        let list = [acl(1, "digest", "bob:hash:rest"), acl(2, "ip", "::1"), acl(3, "digest", "odd")];
        let shown = [acl(1, "digest", "bob:x"), acl(2, "ip", "::1"), acl(3, "digest", "odd")];
        assert_eq!(redacted(&list).as_slice(), shown);
    }

    #[test]
    fn equal_lists_are_one_until_nobody_uses_them() {
        let mut table = AclTable::new(7);
        let (a, b) = ([acl(1, "ip", "1.1.1.1")], [acl(2, "ip", "1.1.1.1")]);
        assert_eq!(table.intern(&[acl(31, "world", "anyone")]), AclRef::OPEN);
        assert_eq!(table.get(AclRef::OPEN), [acl(31, "world", "anyone")]);
        table.release(AclRef::OPEN);
        let first = table.intern(&a);
        assert_eq!(table.intern(&a), first);
        let second = table.intern(&b);
        assert_ne!(first, second);
        table.release(first);
        assert_eq!((table.get(first), table.len()), (&a[..], 2));
        table.release(first);
        assert_eq!((table.len(), table.iter().next()), (1, Some((second, &b[..]))));
        assert_eq!(table.intern(&[acl(7, "ip", "2.2.2.2")]), first);
    }
}
