//! How `ringmq sub` prints a message: the payload, topic and payload (`-v`), or a format of the user's own (`-F`) in mosquitto_sub's letters.
//!
//! A format is read once and then only walked. Times are UTC.

mod json;
mod time;

use std::time::SystemTime;

use super::client::Received;
use time::Clock;

/// A format that is valid.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(Vec<u8>),
    Field { kind: u8, align: Align, width: usize, most: usize },
    Time(u8),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Align {
    Right,
    RightZeros,
    Left,
}

/// The letters after `%`.
const FIELDS: &[u8] = b"ACDEFIJjlmPpqRrStUxX";
/// Those that are numbers or digits: only they are padded with zeros.
const NUMERIC: &[u8] = b"AEFlmSXx";
/// Those that may be cut to a length.
const CUTTABLE: &[u8] = b"CIRt";
/// Widest field; more would only be a slip of the pen.
const MAX_WIDTH: usize = 10_000;

impl Format {
    /// The payload alone.
    pub(super) fn payload() -> Format {
        Format(vec![field(b'p')])
    }

    /// Topic, space, payload.
    pub(super) fn verbose() -> Format {
        Format(vec![field(b't'), Piece::Literal(b" ".to_vec()), field(b'p')])
    }

    /// Reads a format.
    ///
    /// # Errors
    /// Names the sequence that means nothing.
    pub(super) fn parse(text: &str) -> Result<Format, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            let piece = match char {
                '%' => percent(&mut chars)?,
                '@' => at(chars.next())?,
                '\\' => Piece::Literal(vec![escape(chars.next())?]),
                other => Piece::Literal(other.to_string().into_bytes()),
            };
            match (pieces.last_mut(), piece) {
                (Some(Piece::Literal(before)), Piece::Literal(more)) => before.extend(more),
                (_, piece) => pieces.push(piece),
            }
        }
        Ok(Format(pieces))
    }

    /// Appends `message`, which arrived `now`, to `out`.
    ///
    /// # Errors
    /// `%J` and a payload that is no JSON.
    pub(super) fn write(&self, message: &Received, now: SystemTime, out: &mut Vec<u8>) -> Result<(), String> {
        let clock = Clock::at(now);
        for piece in &self.0 {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Time(letter) => out.extend_from_slice(clock.strftime(*letter).unwrap_or_default().as_bytes()),
                Piece::Field { kind: b'J', .. } => json::write(message, &clock, true, out)?,
                Piece::Field { kind: b'j', .. } => json::write(message, &clock, false, out)?,
                Piece::Field { kind, align, width, most } => {
                    let start = out.len();
                    value(*kind, message, &clock, out);
                    cut(out, start, *most);
                    pad(out, start, *width, *align, NUMERIC.contains(kind));
                }
            }
        }
        Ok(())
    }
}

fn field(kind: u8) -> Piece {
    Piece::Field { kind, align: Align::Right, width: 0, most: usize::MAX }
}

/// `%`, then `-` and `0` in any number, a width, `.` and a length, and a letter.
fn percent(chars: &mut std::str::Chars<'_>) -> Result<Piece, String> {
    let rest = chars.as_str();
    let flags = prefix(chars, |char| matches!(char, '-' | '0'));
    let align = match (flags.contains('-'), flags.contains('0')) {
        (true, _) => Align::Left,
        (false, true) => Align::RightZeros,
        (false, false) => Align::Right,
    };
    let width = number(prefix(chars, |char| char.is_ascii_digit()));
    let most = match prefix(chars, |char| char == '.') {
        "" => usize::MAX,
        _ => number(prefix(chars, |char| char.is_ascii_digit())),
    };
    match chars.next() {
        Some('%') => Ok(Piece::Literal(b"%".to_vec())),
        Some(letter) if letter.is_ascii() && FIELDS.contains(&(letter as u8)) => {
            let kind = letter as u8;
            Ok(Piece::Field { kind, align, width, most: if CUTTABLE.contains(&kind) { most } else { usize::MAX } })
        }
        _ => {
            let sequence = &rest[..rest.len() - chars.as_str().len()];
            Err(format!("-F: '%{sequence}' means nothing; see `ringmq sub --help` for the letters"))
        }
    }
}

/// Takes the characters that `wanted` wants off the front.
fn prefix<'t>(chars: &mut std::str::Chars<'t>, wanted: impl Fn(char) -> bool) -> &'t str {
    let text = chars.as_str();
    let end = text.find(|char| !wanted(char)).unwrap_or(text.len());
    *chars = text[end..].chars();
    &text[..end]
}

fn number(digits: &str) -> usize {
    if digits.is_empty() { 0 } else { digits.parse().unwrap_or(MAX_WIDTH).min(MAX_WIDTH) }
}

fn at(letter: Option<char>) -> Result<Piece, String> {
    match letter {
        Some('@') => Ok(Piece::Literal(b"@".to_vec())),
        Some(letter) if letter.is_ascii() && Clock::at(SystemTime::UNIX_EPOCH).strftime(letter as u8).is_some() => {
            Ok(Piece::Time(letter as u8))
        }
        _ => Err(format!("-F: '@{}' means nothing; @@ is a literal @", letter.map(String::from).unwrap_or_default())),
    }
}

fn escape(letter: Option<char>) -> Result<u8, String> {
    match letter {
        Some('\\') => Ok(b'\\'),
        Some('0') => Ok(0),
        Some('a') => Ok(7),
        Some('e') => Ok(27),
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('v') => Ok(11),
        _ => Err(format!("-F: '\\{}' means nothing; \\\\ is a literal \\", letter.map(String::from).unwrap_or_default())),
    }
}

/// Appends the value of a field; nothing for a property that is not there.
fn value(kind: u8, message: &Received, clock: &Clock, out: &mut Vec<u8>) {
    let properties = message.properties();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let text = match kind {
        b'p' => return out.extend_from_slice(&message.payload),
        b'D' => return out.extend_from_slice(properties.correlation_data.unwrap_or_default()),
        b'A' => number(properties.topic_alias.map(u64::from)),
        b'E' => number(properties.message_expiry.map(u64::from)),
        b'F' => number(properties.payload_format.map(u64::from)),
        b'C' => properties.content_type.unwrap_or_default().to_owned(),
        b'R' => properties.response_topic.unwrap_or_default().to_owned(),
        b'P' => properties.user.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join(" "),
        b'S' => message.subscription_ids().map(|id| id.to_string()).collect::<Vec<_>>().join(" "),
        b'l' => message.payload.len().to_string(),
        b'm' => message.packet_id.to_string(),
        b'q' => (message.qos as u8).to_string(),
        b'r' => u8::from(message.retain).to_string(),
        b't' => message.topic.clone(),
        b'x' => message.payload.iter().map(|byte| format!("{byte:02x}")).collect(),
        b'X' => message.payload.iter().map(|byte| format!("{byte:02X}")).collect(),
        b'I' => clock.iso8601(),
        _ => clock.unix(),
    };
    out.extend_from_slice(text.as_bytes());
}

/// Cuts what was appended since `start` to `most` characters.
fn cut(out: &mut Vec<u8>, start: usize, most: usize) {
    if most < out.len() - start {
        let text = String::from_utf8_lossy(&out[start..]).chars().take(most).collect::<String>();
        out.truncate(start);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Fills what was appended since `start` up to `width` characters.
fn pad(out: &mut Vec<u8>, start: usize, width: usize, align: Align, numeric: bool) {
    if width == 0 {
        return;
    }
    let missing = width.saturating_sub(String::from_utf8_lossy(&out[start..]).chars().count());
    match align {
        Align::Left => out.extend(std::iter::repeat_n(b' ', missing)),
        Align::RightZeros if numeric => drop(out.splice(start..start, std::iter::repeat_n(b'0', missing))),
        _ => drop(out.splice(start..start, std::iter::repeat_n(b' ', missing))),
    }
}

#[cfg(test)]
mod tests;
