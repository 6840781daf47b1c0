//! The client's side of SCRAM-SHA-256, and the packets that carry it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use ringmq::broker::auth::scram::{self, Key};
use ringmq::config::{Config, ScramUser, Secret};
use ringmq::mqtt::{Connect, Packet, Properties, ReasonCode, Version, encode};
use sha2::{Digest, Sha256};

use super::world::{Client, World, connect, packet};

const SALT: [u8; 16] = [3; 16];
const ITERATIONS: u32 = 4_096;

/// A broker that knows ann, whose password is "secret", and bob, whose password is "hidden".
pub fn config() -> Config {
    let mut config = Config::default();
    config.auth.scram = vec![user("ann", "secret"), user("bob", "hidden")];
    config
}

fn user(name: &str, password: &str) -> ScramUser {
    let (stored_key, server_key) = scram::keys(&salted(password));
    ScramUser {
        user: name.to_owned(),
        iterations: ITERATIONS,
        salt: Secret(SALT),
        stored_key: Secret(stored_key),
        server_key: Secret(server_key),
    }
}

fn salted(password: &str) -> Key {
    let mut salted = [0; 32];
    pbkdf2_hmac::<Sha256>(password.as_bytes(), &SALT, ITERATIONS, &mut salted);
    salted
}

fn hmac(key: &[u8], text: &str) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// One log-in.
pub struct ScramClient {
    salted: Key,
    first_bare: String,
    signed: String,
}

impl ScramClient {
    pub fn new(user: &str, password: &str) -> ScramClient {
        ScramClient { salted: salted(password), first_bare: format!("n={user},r=nonce-of-{user}"), signed: String::new() }
    }

    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare).into_bytes()
    }

    /// The answer to the broker's challenge.
    pub fn last(&mut self, challenge: &[u8]) -> Vec<u8> {
        let challenge = std::str::from_utf8(challenge).expect("UTF-8");
        let nonce = challenge.split(',').next().and_then(|part| part.strip_prefix("r=")).expect("a nonce");
        assert!(challenge.ends_with(&format!(",s={},i={ITERATIONS}", STANDARD.encode(SALT))), "{challenge}");
        let without_proof = format!("c=biws,r={nonce}");
        self.signed = format!("{},{challenge},{without_proof}", self.first_bare);
        let client_key = hmac(&self.salted, "Client Key");
        let signature = hmac(&Sha256::digest(client_key), &self.signed);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
        format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
    }

    /// What the broker says if it knows the user, too.
    pub fn signature(&self) -> Vec<u8> {
        let server_key = hmac(&self.salted, "Server Key");
        format!("v={}", STANDARD.encode(hmac(&server_key, &self.signed))).into_bytes()
    }
}

/// A CONNECT that names a method.
pub fn connect_with<'a>(client_id: &'a str, method: &'a str, data: Option<&'a [u8]>) -> Connect<'a> {
    let properties = Properties { auth_method: Some(method), auth_data: data, ..Properties::default() };
    Connect { properties, ..connect(Version::V5, client_id) }
}

pub fn auth(reason: ReasonCode, method: Option<&str>, data: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::auth(&mut bytes, reason, &Properties { auth_method: method, auth_data: data, ..Properties::default() });
    bytes
}

/// AUTH 0x18 with the method that the tests use.
pub fn continued(data: &[u8]) -> Vec<u8> {
    auth(ReasonCode::CONTINUE_AUTHENTICATION, Some(scram::NAME), Some(data))
}

/// AUTH 0x19, likewise.
pub fn again(data: &[u8]) -> Vec<u8> {
    auth(ReasonCode::REAUTHENTICATE, Some(scram::NAME), Some(data))
}

/// The data of the AUTH 0x18 that the broker sent [MQTT-4.12.0-2] [MQTT-4.12.0-5].
pub fn challenge(world: &mut World, client: Client) -> Vec<u8> {
    let bytes = world.take(client);
    let Packet::Auth(auth) = packet(Version::V5, &bytes) else { panic!("no AUTH: {bytes:?}") };
    assert_eq!((auth.reason, auth.properties.auth_method), (ReasonCode::CONTINUE_AUTHENTICATION, Some(scram::NAME)));
    auth.properties.auth_data.unwrap_or_default().to_vec()
}

/// Sends a CONNECT with its first message and the last one; CONNACK has not been looked at.
pub fn log_in(world: &mut World, client: Client, connect: &Connect<'_>, user: &str, password: &str) -> ScramClient {
    let mut scram = ScramClient::new(user, password);
    let first = scram.first();
    let properties = Properties { auth_method: Some(scram::NAME), auth_data: Some(&first), ..connect.properties };
    world.send_connect(client, &Connect { properties, ..connect.clone() });
    let last = scram.last(&challenge(world, client));
    world.send(client, &continued(&last));
    scram
}

/// A client that has proven to be ann.
pub fn ann(world: &mut World, client_id: &str) -> Client {
    let client = world.open();
    log_in(world, client, &connect(Version::V5, client_id), "ann", "secret");
    assert_eq!(code(world, client), 0, "let in");
    client
}

/// The reason code of the CONNACK that the broker sent.
pub fn code(world: &mut World, client: Client) -> u8 {
    let bytes = world.take(client);
    match packet(Version::V5, &bytes) {
        Packet::Connack(connack) => connack.code,
        other => panic!("no CONNACK: {other:?}"),
    }
}

/// The reason code of the DISCONNECT that the broker sent before it closed.
pub fn goodbye(world: &mut World, client: Client) -> ReasonCode {
    let bytes = world.take(client);
    assert!(world.is_closed(client));
    match packet(Version::V5, &bytes) {
        Packet::Disconnect(disconnect) => disconnect.reason,
        other => panic!("no DISCONNECT: {other:?}"),
    }
}
