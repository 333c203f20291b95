//! What the password of a digest user is hashed with. Java names its algorithms, and so do we; MD2 is the one that is missing.
//! Spec: semantics 8.2, operations 6.1. Java: `DigestAuthenticationProvider.digest`, `MessageDigest.getInstance`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::Digest;

/// `DigestAuthenticationProvider.digestAlg`. Must be the same on all servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PasswordHash {
    Md5,
    #[default]
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512To224,
    Sha512To256,
    Sha3To224,
    Sha3To256,
    Sha3To384,
    Sha3To512,
}

impl PasswordHash {
    /// By Java's names for them, in any letter case.
    pub fn named(name: &str) -> Option<PasswordHash> {
        use PasswordHash::*;
        Some(match &name.to_ascii_uppercase()[..] {
            "MD5" => Md5,
            "SHA" | "SHA1" | "SHA-1" => Sha1,
            "SHA224" | "SHA-224" => Sha224,
            "SHA256" | "SHA-256" => Sha256,
            "SHA384" | "SHA-384" => Sha384,
            "SHA512" | "SHA-512" => Sha512,
            "SHA512/224" | "SHA-512/224" => Sha512To224,
            "SHA512/256" | "SHA-512/256" => Sha512To256,
            "SHA3-224" => Sha3To224,
            "SHA3-256" => Sha3To256,
            "SHA3-384" => Sha3To384,
            "SHA3-512" => Sha3To512,
            _ => return None,
        })
    }

    /// Base64.
    pub fn of(self, text: &[u8]) -> String {
        match self {
            PasswordHash::Md5 => hashed::<md5::Md5>(text),
            PasswordHash::Sha1 => hashed::<sha1::Sha1>(text),
            PasswordHash::Sha224 => hashed::<sha2::Sha224>(text),
            PasswordHash::Sha256 => hashed::<sha2::Sha256>(text),
            PasswordHash::Sha384 => hashed::<sha2::Sha384>(text),
            PasswordHash::Sha512 => hashed::<sha2::Sha512>(text),
            PasswordHash::Sha512To224 => hashed::<sha2::Sha512_224>(text),
            PasswordHash::Sha512To256 => hashed::<sha2::Sha512_256>(text),
            PasswordHash::Sha3To224 => hashed::<sha3::Sha3_224>(text),
            PasswordHash::Sha3To256 => hashed::<sha3::Sha3_256>(text),
            PasswordHash::Sha3To384 => hashed::<sha3::Sha3_384>(text),
            PasswordHash::Sha3To512 => hashed::<sha3::Sha3_512>(text),
        }
    }
}

fn hashed<H: Digest>(text: &[u8]) -> String {
    BASE64.encode(H::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By Java 17's `MessageDigest`.
    #[test]
    fn each_algorithm_gives_what_java_gives() {
        for (names, hash) in [
            (&["MD5", "md5"][..], "a0jjl2hSRgOYyP70Eq+wUw=="),
            (&["SHA", "SHA1", "SHA-1", "sha-1"], "lK75jTNcA+U9vtVEw5vB51mj/w4="),
            (&["SHA224", "SHA-224"], "SLmP5pzv7J/lzB7FLtFE6OUZQ/8aiqll5AYE4w=="),
            (&["SHA256", "SHA-256", "sha-256"], "WTA5ucCHTdJq645xIMibj8HviTPeB5mMuJ4/+v1dIEw="),
            (&["SHA384", "SHA-384"], "yaR4GNq//Zm1FIAZgRDJRLsjqeAhcFB1gCgPuP6H7HvhX1mS/VXzN0yzopiOx2BJ"),
            (
                &["SHA512", "SHA-512"],
                "YCUumaodxrQ8ju8rJ0IaMlm8XX/1KyZEsjkowYsnA9bsE7LNCzc8Manpy55Ds+mDeMOYNh9+komaD5MRpOIkHg==",
            ),
            (&["SHA512/224", "SHA-512/224"], "C+D1Ck+MJyQXmPzio8wNhK2kCKaXn/0Og08zzA=="),
            (&["SHA512/256", "SHA-512/256"], "KBy0TIF51hD+Dr4wcFk0avm0bSypEbyLoGAgI9Pc2WA="),
            (&["SHA3-224"], "6RFSMMHf4EyJt7Wtdfr+De0N7vX+wbBfdo4QoA=="),
            (&["SHA3-256", "sha3-256"], "WC0fcBtN15KqFfwpcvg0TG3tZUPFtDZkMpN7SZ6bt4g="),
            (&["SHA3-384"], "w66s+uAgwmP2PeHOLHcf0PprxANnxqPqLv2uJ954u0H2PSXUzK4UkZIC6+Kip1p2"),
            (&["SHA3-512"], "aZ/+VdHwC0eYFCDZP6jKlvGMuTK0OrbD2+LzIwh1kO6QH9XyQD9WRWfcFLrcv8gfQLI2xxJzcM7b8i13wy3Lbg=="),
        ] {
            for name in names {
                assert_eq!(PasswordHash::named(name).expect(name).of(b"super:secret"), hash, "{name}");
            }
        }
        for name in ["", " SHA-256", "SHA_256", "SHAKE128", "CRC32"] {
            assert_eq!(PasswordHash::named(name), None);
        }
    }
}
