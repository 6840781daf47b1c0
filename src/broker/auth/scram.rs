//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the client proves that it has the password, the broker that it knows the keys made from it, and neither
//! sends anything that could be used again.
//!
//! ```text
//! CONNECT, AUTH 0x19   n,,n=user,r=<client nonce>
//! AUTH 0x18                                        r=<both nonces>,s=<salt>,i=<iterations>
//! AUTH 0x18            c=biws,r=<both nonces>,p=<proof>
//! CONNACK, AUTH 0x00                               v=<signature of the broker>
//! ```
//!
//! It costs the broker four hashes of short strings; the expensive part (PBKDF2) is the client's. A user that does not exist is answered as one that does, with a
//! salt that stays the same, so that nobody can find out who exists. Left out: channel binding (the gs2 flags "n" and "y" are taken, "p" is
//! not), and normalization of user names, which are compared byte for byte.

mod message;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use self::message::{ClientFinal, ClientFirst};
use super::{Exchange, Fresh, Method, Step};
use crate::config::ScramUser;

/// The name of the method.
pub const NAME: &str = "SCRAM-SHA-256";

/// The longest message that is looked at, bytes: room for names of 1,024 bytes, each of them escaped.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// Bytes of a nonce before they are put into base64 without padding.
const NONCE_BYTES: usize = 24;

/// A hash, or a key of that size.
pub type Key = [u8; 32];

/// The method, with all of its users.
#[derive(Debug)]
pub struct Scram {
    users: Arc<Users>,
}

impl Scram {
    /// The method for these users.
    pub fn new(users: &[ScramUser]) -> Scram {
        let mut hash = Sha256::new();
        users.iter().for_each(|user| hash.update(user.server_key.0));
        let decoy_key = hash.finalize().into();
        let iterations = users.first().map_or(4_096, |user| user.iterations);
        let by_name = users.iter().map(|user| (user.user.as_str().into(), Credentials::from(user))).collect();
        Scram { users: Arc::new(Users { by_name, decoy_key, decoy_iterations: iterations }) }
    }
}

impl Method for Scram {
    fn name(&self) -> &str {
        NAME
    }

    fn begin(&self, fresh: Fresh) -> Box<dyn Exchange> {
        let nonce = STANDARD.encode(&fresh[..NONCE_BYTES]);
        Box::new(ScramExchange { users: Arc::clone(&self.users), nonce, stage: Stage::Start })
    }
}

/// What is kept of one user.
#[derive(Clone)]
struct Credentials {
    salt: [u8; 16],
    iterations: u32,
    stored_key: Key,
    server_key: Key,
    /// A decoy can never log in.
    exists: bool,
}

impl From<&ScramUser> for Credentials {
    fn from(user: &ScramUser) -> Credentials {
        Credentials {
            salt: user.salt.0,
            iterations: user.iterations,
            stored_key: user.stored_key.0,
            server_key: user.server_key.0,
            exists: true,
        }
    }
}

/// All users.
struct Users {
    by_name: BTreeMap<Box<str>, Credentials>,
    /// For the salts of users that do not exist: the same after a restart, and unknown to clients.
    decoy_key: Key,
    decoy_iterations: u32,
}

impl Users {
    /// The credentials of `user`, or some that look like them.
    fn find(&self, user: &str) -> Credentials {
        let decoy = hmac(&self.decoy_key, &[user.as_bytes()]);
        let mut salt = [0; 16];
        salt.copy_from_slice(&decoy[..16]);
        let decoy = Credentials { salt, iterations: self.decoy_iterations, stored_key: decoy, server_key: self.decoy_key, exists: false };
        self.by_name.get(user).cloned().unwrap_or(decoy)
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users", self.by_name.len())
    }
}

/// How far an exchange has come.
enum Stage {
    /// Nothing was said, or nothing but the name of the method.
    Start,
    /// The client was asked for its first message.
    Asked,
    /// The client was sent salt and iterations.
    Challenged(Box<Challenge>),
    Over,
}

/// What the client's proof is compared with.
struct Challenge {
    user: Box<str>,
    credentials: Credentials,
    /// What the client's last message must repeat of its first.
    gs2_header: String,
    /// Both nonces.
    nonce: String,
    /// The messages so far, as they are signed.
    signed: String,
}

struct ScramExchange {
    users: Arc<Users>,
    nonce: String,
    stage: Stage,
}

impl std::fmt::Debug for ScramExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = match &self.stage {
            Stage::Start => "start",
            Stage::Asked => "asked",
            Stage::Challenged(_) => "challenged",
            Stage::Over => "over",
        };
        write!(f, "{NAME}, {stage}")
    }
}

impl Exchange for ScramExchange {
    fn next(&mut self, data: &[u8]) -> Step {
        let text = std::str::from_utf8(data).ok().filter(|text| text.len() <= MAX_MESSAGE_BYTES);
        let Some(text) = text else { return Step::Fail };
        match std::mem::replace(&mut self.stage, Stage::Over) {
            // A client may leave its first message to the first AUTH.
            Stage::Start if text.is_empty() => {
                self.stage = Stage::Asked;
                Step::Continue(Vec::new())
            }
            Stage::Start | Stage::Asked => match ClientFirst::parse(text) {
                Some(first) => self.challenge(&first),
                None => Step::Fail,
            },
            Stage::Challenged(challenge) => match ClientFinal::parse(text) {
                Some(last) => challenge.judge(&last),
                None => Step::Fail,
            },
            Stage::Over => Step::Fail,
        }
    }
}

impl ScramExchange {
    fn challenge(&mut self, first: &ClientFirst<'_>) -> Step {
        let credentials = self.users.find(&first.user);
        let nonce = format!("{}{}", first.nonce, self.nonce);
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(credentials.salt), credentials.iterations);
        let challenge = Challenge {
            user: first.user.as_ref().into(),
            credentials,
            gs2_header: first.gs2_header.to_owned(),
            nonce,
            signed: format!("{},{server_first},", first.bare),
        };
        self.stage = Stage::Challenged(Box::new(challenge));
        Step::Continue(server_first.into_bytes())
    }
}

impl Challenge {
    fn judge(self, last: &ClientFinal<'_>) -> Step {
        if last.channel_binding != STANDARD.encode(&self.gs2_header) || last.nonce != self.nonce {
            return Step::Fail;
        }
        let signed = [self.signed.as_bytes(), last.without_proof.as_bytes()];
        let signature = hmac(&self.credentials.stored_key, &signed);
        let mut client_key = last.proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        let proven: Choice =
            Sha256::digest(client_key).ct_eq(&self.credentials.stored_key[..]) & Choice::from(u8::from(self.credentials.exists));
        if !bool::from(proven) {
            return Step::Fail;
        }
        let data = format!("v={}", STANDARD.encode(hmac(&self.credentials.server_key, &signed))).into_bytes();
        Step::Success { data, user: self.user }
    }
}

/// What the broker keeps of a password (stored key and server key), from the password as PBKDF2 has salted it.
pub fn keys(salted_password: &Key) -> (Key, Key) {
    let stored_key = Sha256::digest(hmac(salted_password, &[b"Client Key"])).into();
    (stored_key, hmac(salted_password, &[b"Server Key"]))
}

/// HMAC-SHA-256 of the parts as if they were one.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}
