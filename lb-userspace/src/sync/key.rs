//! The keys that nodes prove themselves with: what a key file may say. No error quotes it. Pure.
//!
//! A line is a key of 32 bytes, in hexadecimal or base64; empty lines and those that start with `#` are none. The
//! first is used, the second is accepted too: a new key is put in front on one node after the other, and the old
//! one is removed likewise.

use std::fmt;

use thiserror::Error;

/// Bytes of a key.
pub const LENGTH: usize = 32;
/// One that is used, and one that is accepted.
const MOST: usize = 2;

/// A shared secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; LENGTH]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(...)")
    }
}

/// The keys of a file, the one to use first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// The key to use, or another that a peer may know in its place.
    pub fn nth(&self, attempt: usize) -> Key {
        // Never empty.
        self.0[attempt % self.0.len()]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.0.contains(key)
    }
}

/// Why a file has no keys; then, after a semicolon, what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("has no key; make one with: openssl rand -hex 32")]
    Empty,
    #[error("has more than {MOST} keys; keep the one to use and the one before it")]
    TooMany,
    #[error(
        "has a line {0} that is no key; write 32 bytes in hexadecimal, as openssl rand -hex 32 does, or in base64"
    )]
    Line(usize),
    #[error("has a key of one byte repeated in line {0}; make one with: openssl rand -hex 32")]
    Weak(usize),
    #[error("has the same key twice; remove one")]
    Twice,
}

/// Reads a key file.
pub fn parse(bytes: &[u8]) -> Result<Keys, KeyError> {
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let key = from_hex(line).or_else(|| from_base64(line)).ok_or(KeyError::Line(number))?;
        if key.iter().all(|byte| *byte == key[0]) {
            return Err(KeyError::Weak(number));
        }
        if keys.contains(&Key(key)) {
            return Err(KeyError::Twice);
        }
        keys.push(Key(key));
    }
    match keys.len() {
        0 => Err(KeyError::Empty),
        1..=MOST => Ok(Keys(keys)),
        _ => Err(KeyError::TooMany),
    }
}

fn from_hex(text: &[u8]) -> Option<[u8; LENGTH]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    if rest.is_empty() { bytes.try_into().ok() } else { None }
}

/// RFC 4648 section 4, with padding: 43 digits of six bits, of which the last has two bits of nothing.
fn from_base64(text: &[u8]) -> Option<[u8; LENGTH]> {
    const DIGITS: usize = 43;
    let digits = text.strip_suffix(b"=").filter(|digits| digits.len() == DIGITS)?;
    let mut bytes = Vec::with_capacity(LENGTH);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    let is_padded_with_zeros = bits & ((1 << count) - 1) == 0;
    bytes.try_into().ok().filter(|_| is_padded_with_zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn a_key_is_read_in_both_forms_and_the_first_is_used() {
        let expected = Key(std::array::from_fn(|index| u8::try_from(index).unwrap()));
        let other = HEX.replace("00", "ff");
        assert_eq!(parse(HEX.as_bytes()).unwrap().nth(0), expected);
        assert_eq!(
            parse(format!("# a comment\n\n  {BASE64}\r\n").as_bytes()).unwrap().nth(0),
            expected
        );
        let both = parse(format!("{}\n{HEX}\n", other.to_uppercase()).as_bytes()).unwrap();
        assert_ne!(both.nth(0), expected);
        assert_eq!((both.nth(1), both.iter().count()), (expected, 2));
        assert!(both.contains(&expected));
        assert_eq!(both.nth(2), both.nth(0));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_quoted() {
        let same = "00".repeat(32);
        let odd = format!("{HEX}0");
        // Bits that mean nothing make two texts of one key.
        let unpadded = BASE64.replace("h8=", "h9=");
        let three = format!("{HEX}\n{}\n{}", HEX.replace("00", "aa"), HEX.replace("00", "bb"));
        for (text, expected) in [
            ("", KeyError::Empty),
            ("# nothing", KeyError::Empty),
            ("secret", KeyError::Line(1)),
            (&HEX[2..], KeyError::Line(1)),
            (&odd, KeyError::Line(1)),
            (&unpadded, KeyError::Line(1)),
            (&BASE64[1..], KeyError::Line(1)),
            (&same, KeyError::Weak(1)),
            (&format!("{HEX}\n{HEX}"), KeyError::Twice),
            (&format!("{HEX}\nä"), KeyError::Line(2)),
            (&three, KeyError::TooMany),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(expected), "{text}");
            assert!(!expected.to_string().contains("secret"));
        }
        assert_eq!(format!("{:?}", parse(HEX.as_bytes()).unwrap()), "Keys([Key(...)])");
    }
}
