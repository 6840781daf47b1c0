//! What can go wrong for a client, in words that name the next step.

use crate::mqtt::{DecodeError, ReasonCode, Version};

/// Why a connection could not be made or did not last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// No network connection to the broker: what the operating system says, and what to do about it.
    Unreachable(String),
    /// CONNACK with a code other than success.
    Refused { code: u8, version: Version, reason_string: Option<String> },
    /// DISCONNECT of the broker (5.0).
    Disconnected { reason: ReasonCode, reason_string: Option<String> },
    /// The connection ended without DISCONNECT: what was seen of it.
    Lost(String),
    /// The broker sent what it must not send.
    Protocol(DecodeError),
    /// What was asked for cannot be sent.
    Invalid(String),
}

impl ClientError {
    /// The exit code that mosquitto_pub and mosquitto_sub would give: the code of CONNACK, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Refused { code, .. } => *code,
            _ => 1,
        }
    }
}

impl From<DecodeError> for ClientError {
    fn from(error: DecodeError) -> ClientError {
        ClientError::Protocol(error)
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Unreachable(text) | ClientError::Invalid(text) => write!(f, "{text}"),
            ClientError::Refused { code, version, reason_string } => {
                let (name, advice) = refusal(*code, *version);
                write!(f, "the broker refused the connection: {name} ({code})")?;
                write_reason_string(f, reason_string)?;
                if advice.is_empty() { Ok(()) } else { write!(f, "; {advice}") }
            }
            ClientError::Disconnected { reason, reason_string } => {
                write!(f, "the broker ended the connection: {} (0x{:02X})", reason.name(), reason.0)?;
                write_reason_string(f, reason_string)
            }
            ClientError::Lost(text) => write!(f, "the connection was lost: {text}"),
            ClientError::Protocol(error) => write!(f, "the broker broke the protocol: {error}; is it an MQTT broker?"),
        }
    }
}

impl std::error::Error for ClientError {}

fn write_reason_string(f: &mut std::fmt::Formatter<'_>, text: &Option<String>) -> std::fmt::Result {
    text.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
}

/// Name of a CONNACK code, and what the user may do.
fn refusal(code: u8, version: Version) -> (&'static str, &'static str) {
    const VERSION: &str = "choose another version with -V";
    const CLIENT_ID: &str = "choose another client identifier with -i";
    const PASSWORD: &str = "give user name and password with -u and -P";
    match (code, version) {
        // A broker that does not know 5.0 answers with a return code of 3.1.1.
        (1, _) => ("unacceptable protocol version", VERSION),
        (2, _) => ("client identifier rejected", CLIENT_ID),
        (3, _) => ("server unavailable", ""),
        (4, _) => ("bad user name or password", PASSWORD),
        (5, _) => ("not authorized", PASSWORD),
        (0x84, Version::V5) => (ReasonCode(code).name(), VERSION),
        (0x85, Version::V5) => (ReasonCode(code).name(), CLIENT_ID),
        (0x86 | 0x87, Version::V5) => (ReasonCode(code).name(), PASSWORD),
        (_, Version::V5) => (ReasonCode(code).name(), ""),
        _ => ("unknown return code", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_reason_and_the_next_step() {
        let refused = |code, version| ClientError::Refused { code, version, reason_string: None };
        let text = refused(5, Version::V311).to_string();
        assert_eq!(text, "the broker refused the connection: not authorized (5); give user name and password with -u and -P");
        assert_eq!(refused(5, Version::V311).exit_code(), 5);
        assert!(refused(0x85, Version::V5).to_string().contains("-i"));
        assert!(refused(1, Version::V5).to_string().contains("-V"));
        assert_eq!(refused(0x89, Version::V5).to_string(), "the broker refused the connection: server busy (137)");
    }

    #[test]
    fn the_brokers_own_words_are_shown() {
        let error = ClientError::Disconnected { reason: ReasonCode::SESSION_TAKEN_OVER, reason_string: Some("bye".to_owned()) };
        assert_eq!(error.to_string(), "the broker ended the connection: session taken over (0x8E): bye");
    }
}
