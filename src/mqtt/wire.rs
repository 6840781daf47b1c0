//! The primitive data types of the wire (3.1.1 section 1.5, 5.0 section 1.5): a cursor that reads them, functions that append them.
//!
//! Reading allocates nothing and never panics; whatever is missing is a malformed packet. Writing never puts a length on the wire that
//! does not fit: a field over 65,535 bytes is cut there (topic names and filters are checked long before, so only free text ever is).

use super::types::DecodeError;

/// The largest string or binary field, in bytes.
pub(crate) const MAX_FIELD_BYTES: usize = u16::MAX as usize;
/// The largest value of a variable byte integer.
pub const MAX_VAR_INT: u32 = 268_435_455;

const TRUNCATED: DecodeError = DecodeError::malformed("packet ends inside a field");
pub(crate) const CONTROL: DecodeError = DecodeError::malformed("control character in a name");

/// Reads the fields of a packet one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails if anything is left over: a packet ends where its last field ends.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::malformed("bytes left over after the last field")) }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(first)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (&bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Binary data: two bytes of length, then that many bytes.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 encoded string.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let text = utf8(self.binary()?)?;
        // [MQTT-1.5.3-2] [MQTT-1.5.4-2] no U+0000
        if has_any(text.as_bytes(), [0, 0, 0]) { Err(DecodeError::malformed("U+0000 in a string")) } else { Ok(text) }
    }

    /// A string that names something: a topic, a client, a user. Control characters in it are malformed, as the standard allows (3.1.1 section 1.5.3,
    /// 5.0 section 1.5.4): names turn up in logs and on terminals.
    pub(crate) fn name(&mut self) -> Result<&'a str, DecodeError> {
        let text = utf8(self.binary()?)?;
        // [MQTT-1.5.3-2] [MQTT-1.5.4-2]
        if has_control(text) { Err(CONTROL) } else { Ok(text) }
    }

    /// A packet identifier, which is never 0. [MQTT-2.3.1-1] [MQTT-2.2.1-3]
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<u16, DecodeError> {
        match self.u16()? {
            0 => Err(DecodeError::protocol("packet identifier 0")),
            id => Ok(id),
        }
    }

    /// A variable byte integer.
    #[inline]
    pub(crate) fn var_int(&mut self) -> Result<u32, DecodeError> {
        let (value, used) = var_int(self.rest)?.ok_or(TRUNCATED)?;
        self.take(used)?;
        Ok(value)
    }
}

/// The variable byte integer at the start of `bytes` and its length; `None` if it goes on after the end of `bytes`.
///
/// Five bytes or more are malformed, and so are more bytes than the value needs. [MQTT-1.5.5-1]
#[inline]
pub(crate) fn var_int(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0u32;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(DecodeError::malformed("variable byte integer is longer than needed"));
            }
            return Ok(Some((value, index + 1)));
        }
        if index == 3 {
            return Err(DecodeError::malformed("variable byte integer of more than four bytes"));
        }
    }
    Ok(None)
}

/// Well-formed UTF-8, which excludes the surrogates U+D800 to U+DFFF. [MQTT-1.5.3-1] [MQTT-1.5.4-1]
///
/// A byte order mark U+FEFF is a character like any other and stays. [MQTT-1.5.3-3] [MQTT-1.5.4-3]
#[inline]
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| DecodeError::malformed("string is not well-formed UTF-8"))
}

/// Whether there is a control character, U+0000 to U+001F or U+007F to U+009F.
#[inline]
pub(crate) fn has_control(text: &str) -> bool {
    let suspicious = text.bytes().fold(false, |found, byte| found | may_be_control(byte));
    suspicious && text.chars().any(char::is_control)
}

/// Whether a control character may begin with this byte.
#[inline]
pub(crate) fn may_be_control(byte: u8) -> bool {
    (byte < 0x20) | (byte == 0x7F) | (byte == 0xC2)
}

/// Whether any of three bytes occurs. No early exit, so that the compiler compares sixteen bytes at a time.
#[inline]
pub(crate) fn has_any(bytes: &[u8], [a, b, c]: [u8; 3]) -> bool {
    bytes.iter().fold(false, |found, &byte| found | (byte == a) | (byte == b) | (byte == c))
}

/// The bytes of a variable byte integer, and how many of them count. Values over [`MAX_VAR_INT`] do not exist on the wire.
#[inline]
pub(crate) fn var_int_bytes(value: u32) -> ([u8; 4], usize) {
    let len = var_int_len(value);
    // Seven bits to a byte, all at once; then the continuation bit on every byte but the last.
    let spread = value & 0x7F | (value & 0x3F80) << 1 | (value & 0x1F_C000) << 2 | (value & 0xFE0_0000) << 3;
    let more = 0x0080_8080 & ((1u32 << (8 * (len - 1))) - 1);
    ((spread | more).to_le_bytes(), len)
}

/// How many bytes a variable byte integer takes.
#[inline]
pub(crate) const fn var_int_len(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

#[inline]
pub(crate) fn put_var_int(out: &mut Vec<u8>, value: u32) {
    let (bytes, len) = var_int_bytes(value);
    out.extend_from_slice(&bytes[..len]);
}

#[inline]
pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_FIELD_BYTES)];
    put_u16(out, bytes.len() as u16);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_binary(out, clip(text).as_bytes());
}

/// The part of `text` that fits into a string field, cut between two characters.
#[inline]
pub(crate) fn clip(text: &str) -> &str {
    if text.len() <= MAX_FIELD_BYTES {
        return text;
    }
    let end = (0..=MAX_FIELD_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// Appends what `body` writes, with its length before it as a variable byte integer of the minimum number of bytes. [MQTT-1.5.5-1]
pub(crate) fn with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    body(out);
    let (bytes, len) = var_int_bytes((out.len() - at - 1) as u32);
    out[at] = bytes[0];
    if len > 1 {
        out.splice(at + 1..at + 1, bytes[1..len].iter().copied());
    }
}
