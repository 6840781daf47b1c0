//! rumqttc as a test client: commands as JSON lines on standard input, what happens as JSON lines on standard output.
//!
//! One process holds any number of connections, told apart by `conn`. `harness/agent.py` describes the commands; `agent_mqttjs.cjs` speaks the same.
//! Speaks 3.1.1 (`version` 4) and 5.0 (`version` 5): rumqttc has no 3.1.

mod link;

use std::collections::HashMap;
use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use link::Link;

/// A line of standard input.
#[derive(Deserialize)]
struct Command {
    op: String,
    conn: u32,
    #[serde(default)]
    connect: Option<Connect>,
    #[serde(default)]
    topic: String,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    /// Base64.
    #[serde(default)]
    payloads: Vec<String>,
}

/// What a connection is opened with.
#[derive(Deserialize)]
struct Connect {
    port: u16,
    client_id: String,
    version: u8,
    clean: bool,
    /// Seconds; 5.0 only.
    session_expiry: u32,
    will: Option<Will>,
}

#[derive(Deserialize)]
struct Will {
    topic: String,
    /// Base64.
    payload: String,
    qos: u8,
    retain: bool,
}

/// Writes one line for the harness.
fn report(conn: u32, event: &str, mut fields: Value) {
    fields["conn"] = json!(conn);
    fields["event"] = json!(event);
    // The harness has gone if this fails, and this process goes with it when its input ends.
    let _ = writeln!(std::io::stdout().lock(), "{fields}");
}

fn decode(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).expect("the harness sends base64")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut links: HashMap<u32, Link> = HashMap::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let command: Command = serde_json::from_str(&line).expect("the harness sends commands");
        if let Some(connect) = &command.connect {
            links.insert(command.conn, Link::open(command.conn, connect));
            continue;
        }
        if command.op == "abandon" {
            links.remove(&command.conn);
            report(command.conn, "abandoned", json!({}));
            continue;
        }
        let Some(link) = links.get(&command.conn) else { continue };
        match command.op.as_str() {
            "subscribe" => link.subscribe(command.topic, command.qos).await,
            "publish" => link.publish(command.topic, command.qos, command.retain, command.payloads),
            "disconnect" => link.disconnect().await,
            other => report(command.conn, "failed", json!({ "why": format!("no such command: {other}") })),
        }
    }
}
