//! How clients prove who they are, as plain data: the settings of enhanced authentication (MQTT 5 section 4.12).
//!
//! The configuration never holds a password. What SCRAM needs of one is made by `ringmq passwd --scram`; whoever reads it can try passwords
//! against it and can pass as this broker, but cannot log in with it. Keys are not shown by `{:?}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Who may connect, and how they say who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether a client must authenticate. None: yes as soon as there is anything to authenticate with.
    pub required: Option<bool>,
    /// Users of the method SCRAM-SHA-256.
    pub scram: Vec<ScramUser>,
}

impl Auth {
    /// Whether a CONNECT without an authentication method is refused.
    pub fn required(&self) -> bool {
        self.required.unwrap_or(!self.scram.is_empty())
    }
}

/// What the broker keeps of a user for SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScramUser {
    pub user: String,
    /// Rounds of PBKDF2 that the client has to do.
    pub iterations: u32,
    pub salt: Secret<16>,
    /// The hash of the key that the client proves to have.
    pub stored_key: Secret<32>,
    /// The key with which the broker proves that it knows the user.
    pub server_key: Secret<32>,
}

/// `N` bytes, written in base64.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret<const N: usize>(pub [u8; N]);

impl<const N: usize> std::fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({N} bytes)")
    }
}

impl<const N: usize> TryFrom<String> for Secret<N> {
    type Error = String;

    /// The error does not repeat what was found: it would end up in logs.
    fn try_from(text: String) -> Result<Secret<N>, String> {
        let bytes = STANDARD.decode(&text).ok().and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
        bytes.map(Secret).ok_or_else(|| format!("expected {N} bytes in base64, as `ringmq passwd --scram` prints them"))
    }
}

impl<const N: usize> From<Secret<N>> for String {
    fn from(secret: Secret<N>) -> String {
        STANDARD.encode(secret.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_and_written_in_base64_and_not_shown() {
        let secret = Secret::<4>::try_from("AAEC/w==".to_owned()).unwrap();
        assert_eq!(secret.0, [0, 1, 2, 255]);
        assert_eq!(String::from(secret), "AAEC/w==");
        assert_eq!(format!("{secret:?}"), "(4 bytes)");
    }

    #[test]
    fn a_secret_of_another_length_or_alphabet_is_refused_without_being_repeated() {
        for text in ["", "AAEC", "AAEC/w", "AAEC_w==", "AAEC/wA=", "?"] {
            let error = Secret::<4>::try_from(text.to_owned()).unwrap_err();
            assert!(error.starts_with("expected 4 bytes in base64"), "{error}");
        }
    }

    #[test]
    fn whoever_names_users_wants_clients_to_authenticate() {
        let user = ScramUser {
            user: "ann".to_owned(),
            iterations: 4096,
            salt: Secret([0; 16]),
            stored_key: Secret([0; 32]),
            server_key: Secret([0; 32]),
        };
        assert!(!Auth::default().required());
        assert!(Auth { required: None, scram: vec![user.clone()] }.required());
        assert!(!Auth { required: Some(false), scram: vec![user] }.required());
        assert!(Auth { required: Some(true), scram: Vec::new() }.required());
    }
}
