//! What a client's way in costs the broker, step by step: all clients of a crowd take a step, and the next begins when the broker has come to rest.
//!
//! The last step, a ping, is the least that a packet in and a packet out cost there. In a crowd of one, every packet also wakes the broker up.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringmq::mqtt::{Connect, Properties, SubscribeEntry, SubscribeOptions, Version, encode};
use socket2::SockRef;

use crate::measure;

#[derive(clap::Args)]
pub struct Arguments {
    /// The broker
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    /// The broker's process, for its CPU time
    #[arg(long)]
    pid: u32,
    /// Clients, in crowds that come and go
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// Sizes of crowds
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000])]
    at_once: Vec<usize>,
    /// Use MQTT 5.0 instead of 3.1.1
    #[arg(long)]
    v5: bool,
}

/// What clients do, one after the other, and the length of the broker's answer to it.
const STEPS: [&str; 4] = ["TCP, accepted", "CONNECT to CONNACK", "SUBSCRIBE to SUBACK", "PINGREQ to PINGRESP"];
const PATIENCE: Duration = Duration::from_secs(10);
/// A broker that takes no CPU time for so long rests.
const REST: Duration = Duration::from_micros(500);

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let limit = measure::raise_descriptor_limit()?;
    println!("CPU time of the broker for each client, us:\n{:>9}  {}", "at once", STEPS.join("  "));
    for &size in &arguments.at_once {
        if size == 0 || size as u64 + 100 > limit {
            return Err(format!("--at-once {size}: between 1 and {} with this limit of descriptors", limit - 100).into());
        }
        let mut total = [0_u64; STEPS.len()];
        let waves = arguments.clients.div_ceil(size);
        for _ in 0..waves {
            for (total, spent) in total.iter_mut().zip(wave(arguments, size)?) {
                *total += spent;
            }
        }
        let each = |(total, step): (&u64, &str)| format!("{:>width$.1}", *total as f64 / 1e3 / (waves * size) as f64, width = step.len());
        println!("{size:>9}  {}", total.iter().zip(STEPS).map(each).collect::<Vec<_>>().join("  "));
    }
    Ok(())
}

/// One crowd comes, takes all steps, and goes; gives the broker's CPU time for each, ns.
fn wave(arguments: &Arguments, size: usize) -> Result<[u64; STEPS.len()], Box<dyn Error>> {
    let version = if arguments.v5 { Version::V5 } else { Version::V311 };
    let mut spent = [0; STEPS.len()];
    let mut before = rested(arguments.pid)?;
    let mut clients = Vec::with_capacity(size);
    for _ in 0..size {
        clients.push(open(arguments.address)?);
    }
    let mut done = |step: usize| -> Result<(), Box<dyn Error>> {
        let now = rested(arguments.pid)?;
        spent[step] = now - before;
        before = now;
        Ok(())
    };
    done(0)?;
    for (step, name) in STEPS.iter().enumerate().skip(1) {
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&packet(step, number, version))?;
        }
        for client in &mut clients {
            answer(client).map_err(|error| format!("{name}: {error}"))?;
        }
        done(step)?;
    }
    Ok(spent)
}

fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Leaves no TIME_WAIT behind: ports would run out.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

fn packet(step: usize, number: usize, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    let name = format!("handshake-{number}");
    match step {
        1 => {
            let connect = Connect {
                version,
                clean_start: true,
                keep_alive: 60,
                client_id: &name,
                will: None,
                user_name: None,
                password: None,
                properties: Properties::default(),
            };
            encode::connect(&mut bytes, &connect);
        }
        2 => {
            let entry = SubscribeEntry { filter: &name, options: SubscribeOptions::default() };
            encode::subscribe(&mut bytes, version, 1, &[entry], &Properties::default());
        }
        _ => bytes.extend_from_slice(&[0xC0, 0]),
    }
    bytes
}

/// Reads one packet of less than 128 bytes and sees that it refuses nothing.
fn answer(client: &mut TcpStream) -> Result<(), Box<dyn Error>> {
    let mut head = [0; 2];
    client.read_exact(&mut head)?;
    let mut body = [0; 127];
    let body = &mut body[..usize::from(head[1] & 0x7F)];
    client.read_exact(body)?;
    let refused = match head[0] >> 4 {
        2 => body.get(1).is_none_or(|&code| code != 0),
        9 => body.last().is_none_or(|&code| code >= 0x80),
        13 => false,
        _ => true,
    };
    if refused { Err(format!("the broker answered {head:02x?} {body:02x?}").into()) } else { Ok(()) }
}

/// The broker's CPU time once it has come to rest, ns.
fn rested(pid: u32) -> Result<u64, Box<dyn Error>> {
    let start = Instant::now();
    let mut last = measure::cpu_time_ns(pid)?;
    loop {
        std::thread::sleep(REST);
        let now = measure::cpu_time_ns(pid)?;
        if now == last {
            return Ok(now);
        }
        if start.elapsed() > PATIENCE {
            return Err("the broker does not come to rest: somebody else uses it".into());
        }
        last = now;
    }
}
