//! One connection: the client's handle, and the task that polls its event loop and reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rumqttc::v5::mqttbytes::v5::{LastWill as LastWillV5, Packet as PacketV5, SubscribeReasonCode as CodeV5};
use rumqttc::v5::{self, mqttbytes::QoS as QoSV5};
use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Outgoing, Packet, QoS, SubscribeReasonCode};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{Connect, decode, report};

/// More than the largest message of the tests; rumqttc's own limit is 10 KiB.
const MAX_PACKET_BYTES: u32 = 64 * 1024 * 1024;
/// Requests that may wait for the event loop.
const REQUESTS: usize = 100;

#[derive(Clone)]
enum Client {
    V311(AsyncClient),
    V5(v5::AsyncClient),
}

/// A connection. Dropping it closes the socket without DISCONNECT.
pub struct Link {
    conn: u32,
    client: Client,
    progress: Arc<Progress>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How far the present `publish` command has come.
#[derive(Default)]
struct Progress {
    missing: AtomicUsize,
}

impl Progress {
    fn one_done(&self, conn: u32) {
        if self.missing.fetch_sub(1, Ordering::SeqCst) == 1 {
            report(conn, "published", json!({}));
        }
    }
}

/// What both versions of the library tell, in one form.
enum Happened {
    Connected {
        session_present: bool,
    },
    Subscribed(Vec<u8>),
    Message {
        topic: String,
        payload: Vec<u8>,
        qos: u8,
        retain: bool,
        dup: bool,
    },
    /// The exchange of one publish is over.
    Published,
    Nothing,
}

impl Happened {
    fn report(self, conn: u32, progress: &Progress) {
        match self {
            Happened::Connected { session_present } => report(conn, "connected", json!({ "session_present": session_present })),
            Happened::Subscribed(codes) => report(conn, "subscribed", json!({ "codes": codes })),
            Happened::Message { topic, payload, qos, retain, dup } => {
                let payload = BASE64_STANDARD.encode(payload);
                report(conn, "message", json!({ "topic": topic, "payload": payload, "qos": qos, "retain": retain, "dup": dup }));
            }
            Happened::Published => progress.one_done(conn),
            Happened::Nothing => {}
        }
    }
}

impl Link {
    pub fn open(conn: u32, connect: &Connect) -> Link {
        let progress = Arc::new(Progress::default());
        let for_task = Arc::clone(&progress);
        let (client, task) = if connect.version == 5 {
            let (client, mut eventloop) = v5::AsyncClient::new(options_v5(connect), REQUESTS);
            let task = tokio::spawn(async move {
                loop {
                    match eventloop.poll().await {
                        Ok(event) => happened_v5(event).report(conn, &for_task),
                        Err(error) => return report(conn, "closed", json!({ "why": error.to_string() })),
                    }
                }
            });
            (Client::V5(client), task)
        } else {
            let (client, mut eventloop) = AsyncClient::new(options(connect), REQUESTS);
            eventloop.network_options.set_tcp_nodelay(true);
            let task = tokio::spawn(async move {
                loop {
                    match eventloop.poll().await {
                        Ok(event) => happened(event).report(conn, &for_task),
                        Err(error) => return report(conn, "closed", json!({ "why": error.to_string() })),
                    }
                }
            });
            (Client::V311(client), task)
        };
        Link { conn, client, progress, task }
    }

    pub async fn subscribe(&self, filter: String, qos: u8) {
        let failed = match &self.client {
            Client::V311(client) => client.subscribe(filter, self::qos(qos)).await.is_err(),
            Client::V5(client) => client.subscribe(filter, qos_v5(qos)).await.is_err(),
        };
        if failed {
            report(self.conn, "failed", json!({ "why": "rumqttc takes no SUBSCRIBE" }));
        }
    }

    /// Publishes all payloads in order, as fast as the library takes them; reports when the last exchange is over.
    pub fn publish(&self, topic: String, qos: u8, retain: bool, payloads: Vec<String>) {
        self.progress.missing.store(payloads.len(), Ordering::SeqCst);
        let (conn, client) = (self.conn, self.client.clone());
        tokio::spawn(async move {
            for payload in payloads {
                let payload = decode(&payload);
                let failed = match &client {
                    Client::V311(client) => client.publish(&topic, self::qos(qos), retain, payload).await.is_err(),
                    Client::V5(client) => client.publish(&topic, qos_v5(qos), retain, payload).await.is_err(),
                };
                if failed {
                    return report(conn, "failed", json!({ "why": "rumqttc takes no PUBLISH" }));
                }
            }
        });
    }

    pub async fn disconnect(&self) {
        // Fails only where the connection is gone already, which the task has reported.
        let _ = match &self.client {
            Client::V311(client) => client.disconnect().await.is_ok(),
            Client::V5(client) => client.disconnect().await.is_ok(),
        };
    }
}

fn options(connect: &Connect) -> MqttOptions {
    let mut options = MqttOptions::new(&connect.client_id, "127.0.0.1", connect.port);
    options.set_clean_session(connect.clean).set_keep_alive(Duration::from_secs(60));
    options.set_max_packet_size(MAX_PACKET_BYTES as usize, MAX_PACKET_BYTES as usize);
    if let Some(will) = &connect.will {
        options.set_last_will(LastWill::new(&will.topic, decode(&will.payload), qos(will.qos), will.retain));
    }
    options
}

fn options_v5(connect: &Connect) -> v5::MqttOptions {
    let mut options = v5::MqttOptions::new(&connect.client_id, "127.0.0.1", connect.port);
    options.set_clean_start(connect.clean).set_keep_alive(Duration::from_secs(60));
    options.set_max_packet_size(Some(MAX_PACKET_BYTES));
    options.set_session_expiry_interval(Some(connect.session_expiry));
    if let Some(will) = &connect.will {
        options.set_last_will(LastWillV5::new(&will.topic, decode(&will.payload), qos_v5(will.qos), will.retain, None));
    }
    options
}

fn happened(event: Event) -> Happened {
    match event {
        Event::Incoming(Packet::ConnAck(ack)) => Happened::Connected { session_present: ack.session_present },
        Event::Incoming(Packet::SubAck(ack)) => {
            let code = |code: &SubscribeReasonCode| match code {
                SubscribeReasonCode::Success(qos) => *qos as u8,
                SubscribeReasonCode::Failure => 0x80,
            };
            Happened::Subscribed(ack.return_codes.iter().map(code).collect())
        }
        Event::Incoming(Packet::Publish(message)) => Happened::Message {
            topic: message.topic,
            payload: message.payload.to_vec(),
            qos: message.qos as u8,
            retain: message.retain,
            dup: message.dup,
        },
        Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) | Event::Outgoing(Outgoing::Publish(0)) => Happened::Published,
        _ => Happened::Nothing,
    }
}

fn happened_v5(event: v5::Event) -> Happened {
    match event {
        v5::Event::Incoming(PacketV5::ConnAck(ack)) => Happened::Connected { session_present: ack.session_present },
        v5::Event::Incoming(PacketV5::SubAck(ack)) => {
            let code = |code: &CodeV5| match code {
                CodeV5::Success(qos) => *qos as u8,
                _ => 0x80,
            };
            Happened::Subscribed(ack.return_codes.iter().map(code).collect())
        }
        v5::Event::Incoming(PacketV5::Publish(message)) => Happened::Message {
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
            payload: message.payload.to_vec(),
            qos: message.qos as u8,
            retain: message.retain,
            dup: message.dup,
        },
        v5::Event::Incoming(PacketV5::PubAck(_) | PacketV5::PubComp(_)) | v5::Event::Outgoing(Outgoing::Publish(0)) => Happened::Published,
        _ => Happened::Nothing,
    }
}

fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

fn qos_v5(level: u8) -> QoSV5 {
    match level {
        0 => QoSV5::AtMostOnce,
        1 => QoSV5::AtLeastOnce,
        _ => QoSV5::ExactlyOnce,
    }
}
