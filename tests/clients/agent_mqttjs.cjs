// MQTT.js as a test client: commands as JSON lines on standard input, what happens as JSON lines on standard output.
//
// One process holds any number of connections, told apart by `conn`. `harness/agent.py` describes the commands; the rumqttc agent speaks the same.
'use strict';

const mqtt = require('mqtt');
const readline = require('node:readline');

const links = new Map();

function report(conn, event, fields = {}) {
  process.stdout.write(JSON.stringify({ conn, event, ...fields }) + '\n');
}

function open(conn, wanted) {
  const v5 = wanted.version === 5;
  const link = mqtt.connect({
    host: '127.0.0.1',
    port: wanted.port,
    clientId: wanted.client_id,
    protocolId: wanted.version === 3 ? 'MQIsdp' : 'MQTT',
    protocolVersion: wanted.version,
    clean: wanted.clean,
    // The harness decides when to come back.
    reconnectPeriod: 0,
    ...(v5 && { properties: { sessionExpiryInterval: wanted.session_expiry } }),
    ...(wanted.will && { will: { ...wanted.will, payload: Buffer.from(wanted.will.payload, 'base64') } }),
  });
  links.set(conn, link);
  link.on('connect', (connack) => report(conn, 'connected', { session_present: connack.sessionPresent }));
  link.on('message', (topic, payload, packet) => {
    report(conn, 'message', { topic, payload: payload.toString('base64'), qos: packet.qos, retain: packet.retain, dup: packet.dup });
  });
  link.on('error', (error) => report(conn, 'failed', { why: String(error) }));
  link.on('close', () => report(conn, 'closed', { why: 'the socket closed' }));
}

function publish(conn, link, { topic, qos, retain, payloads }) {
  let missing = payloads.length;
  for (const payload of payloads) {
    link.publish(topic, Buffer.from(payload, 'base64'), { qos, retain }, (error) => {
      if (error) {
        report(conn, 'failed', { why: String(error) });
      } else if (--missing === 0) {
        report(conn, 'published');
      }
    });
  }
}

function carryOut(command) {
  const { op, conn } = command;
  if (op === 'connect') {
    return open(conn, command.connect);
  }
  const link = links.get(conn);
  switch (op) {
    case 'subscribe':
      return link.subscribe(command.topic, { qos: command.qos }, (error, granted) => {
        report(conn, error ? 'failed' : 'subscribed', error ? { why: String(error) } : { codes: granted.map((one) => one.qos) });
      });
    case 'publish':
      return publish(conn, link, command);
    case 'disconnect':
      return link.end(false);
    case 'abandon':
      // The socket closes without DISCONNECT.
      links.delete(conn);
      link.stream.destroy();
      return report(conn, 'abandoned');
    default:
      return report(conn, 'failed', { why: `no such command: ${op}` });
  }
}

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => carryOut(JSON.parse(line)));
lines.on('close', () => process.exit(0));
