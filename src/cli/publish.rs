//! `ringmq pub`: sends messages from an argument, a file or standard input, with the letters and habits of mosquitto_pub.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::Failure;
use super::client::{ClientError, Connection, Event, Message};
use super::client_args::ClientArgs;

const EXAMPLES: &str = "\
Examples:
  ringmq pub -t sensors/1 -m 21.5                    one message
  ringmq pub -t sensors/1 -m 21.5 -r -q 1            retained, acknowledged
  ringmq pub -t sensors/1 -n -r                      clear a retained message
  tail -f log | ringmq pub -t log -l                 one message per line
  ringmq pub -t a -m b -D publish user-property k v  MQTT 5 properties";

#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("payload").required(true).multiple(false))]
pub(super) struct PubArgs {
    /// Topic to publish to
    #[arg(short, long)]
    topic: Option<String>,
    /// The message
    #[arg(short, long, group = "payload", allow_hyphen_values = true)]
    message: Option<String>,
    /// Send what is in this file as one message
    #[arg(short, long, value_name = "FILE", group = "payload", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Send each line of standard input as a message
    #[arg(short = 'l', long, group = "payload")]
    stdin_line: bool,
    /// Send all of standard input as one message
    #[arg(short = 's', long, group = "payload")]
    stdin_file: bool,
    /// Send an empty message
    #[arg(short, long, group = "payload")]
    null_message: bool,
    /// Retain the message: later subscribers get it at once
    #[arg(short, long)]
    retain: bool,
    /// Send the message N times, each when the one before is delivered
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "stdin_line")]
    repeat: u32,
    /// Seconds to wait between repetitions, fractions allowed
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    repeat_delay: Option<Duration>,
    /// QoS 1 and 2 messages on the way at once
    #[arg(short = 'M', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    max_inflight: u16,
    #[command(flatten)]
    client: ClientArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected a number of seconds".to_owned())
}

/// Publishes what the arguments say.
pub(super) fn run(args: &PubArgs) -> Result<(), Failure> {
    publish(args).map_err(|failure| failure.quiet_if(args.client.quiet))
}

fn publish(args: &PubArgs) -> Result<(), Failure> {
    let setup = args.client.setup()?;
    let mut options = setup.options;
    options.max_inflight = args.max_inflight;
    let topic = args.topic.clone().or(setup.topic).unwrap_or_default();
    if topic.is_empty() && setup.properties.publish.topic_alias.is_none() {
        return Err("no topic given: add -t TOPIC".to_owned().into());
    }
    let payload = args.payload()?;
    let message = Message {
        topic,
        payload: payload.clone().unwrap_or_default(),
        qos: args.client.qos,
        retain: args.retain,
        properties: setup.properties.publish.clone(),
    };
    let mut publisher = Publisher { connection: Connection::open(&options)?, message, refused: 0 };
    match payload {
        Some(_) => publisher.repeat(args.repeat, args.repeat_delay.unwrap_or_default())?,
        None => publisher.lines(stdin()?)?,
    }
    let refused = publisher.refused;
    publisher.connection.disconnect(&setup.properties.disconnect)?;
    match refused {
        0 => Ok(()),
        _ => Err(format!("the broker refused {refused} messages").into()),
    }
}

impl PubArgs {
    /// The payload of the one message, or none where lines are to be sent.
    fn payload(&self) -> Result<Option<Vec<u8>>, String> {
        if self.stdin_line {
            return Ok(None);
        }
        let mut payload = Vec::new();
        if let Some(path) = &self.file {
            payload = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        } else if self.stdin_file {
            std::io::stdin().lock().read_to_end(&mut payload).map_err(|error| format!("cannot read standard input: {error}"))?;
        } else if let Some(message) = &self.message {
            payload = message.clone().into_bytes();
        }
        Ok(Some(payload))
    }
}

/// Standard input without a buffer in between, so that poll(2) tells the truth about it.
fn stdin() -> Result<File, String> {
    let fd = std::io::stdin().as_fd().try_clone_to_owned();
    fd.map(File::from).map_err(|error| format!("cannot read standard input: {error}"))
}

struct Publisher {
    connection: Connection,
    /// What is sent; for lines, with the payload put in.
    message: Message,
    /// Messages that the broker acknowledged with an error.
    refused: u64,
}

impl Publisher {
    fn repeat(&mut self, times: u32, delay: Duration) -> Result<(), ClientError> {
        for time in 0..times {
            if time > 0 {
                self.wait_until(Instant::now() + delay)?;
            }
            self.connection.publish(&self.message)?;
            self.wait_for_acks()?;
        }
        Ok(())
    }

    fn wait_until(&mut self, moment: Instant) -> Result<(), ClientError> {
        loop {
            match self.connection.next(Some(moment))? {
                Event::TimedOut => return Ok(()),
                event => self.note(&event),
            }
        }
    }

    fn wait_for_acks(&mut self) -> Result<(), ClientError> {
        while self.connection.in_flight() > 0 {
            let event = self.connection.next(None)?;
            self.note(&event);
        }
        Ok(())
    }

    /// Sends each line of `input` as it comes, the last one even without its line feed.
    fn lines(&mut self, mut input: File) -> Result<(), Failure> {
        let mut lines = Lines::default();
        while !(lines.ended && lines.complete.is_empty()) {
            while self.connection.has_room()
                && let Some(line) = lines.complete.pop_front()
            {
                self.message.payload = line;
                self.connection.publish(&self.message)?;
            }
            // While lines wait for acknowledgements no more of them are read.
            let wanted = lines.complete.is_empty() && !lines.ended;
            if !wanted && lines.complete.is_empty() {
                break;
            }
            match self.connection.next_or_input(None, wanted.then(|| input.as_fd()))? {
                Event::InputReady => lines.read(&mut input).map_err(|error| format!("cannot read standard input: {error}"))?,
                event => self.note(&event),
            }
        }
        Ok(self.wait_for_acks()?)
    }

    fn note(&mut self, event: &Event) {
        if let Event::Published { reason, .. } = event
            && reason.is_error()
        {
            self.refused += 1;
            eprintln!("warning: the broker refused a message: {}", reason.name());
        }
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    complete: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
    ended: bool,
}

impl Lines {
    fn read(&mut self, input: &mut impl Read) -> std::io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        match input.read(&mut buffer) {
            Ok(0) => {
                self.ended = true;
                if !self.partial.is_empty() {
                    self.complete.push_back(std::mem::take(&mut self.partial));
                }
            }
            Ok(length) => {
                let mut pieces = buffer[..length].split(|byte| *byte == b'\n');
                self.partial.extend_from_slice(pieces.next().unwrap_or_default());
                for piece in pieces {
                    self.complete.push_back(std::mem::replace(&mut self.partial, piece.to_vec()));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::QoS;
    use clap::Parser;

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        args: PubArgs,
    }

    fn parse(arguments: &[&str]) -> Result<PubArgs, clap::Error> {
        Harness::try_parse_from([&["pub"], arguments].concat()).map(|harness| harness.args)
    }

    #[test]
    fn every_letter_is_understood_short_and_long() {
        for arguments in [
            &["-t", "a", "-m", "x"][..],
            &["--topic", "a", "--message", "x"],
            &["-t", "a", "-f", "x"],
            &["-t", "a", "--file", "x"],
            &["-t", "a", "-l"],
            &["-t", "a", "--stdin-line"],
            &["-t", "a", "-s"],
            &["-t", "a", "--stdin-file"],
            &["-t", "a", "-n"],
            &["-t", "a", "--null-message"],
            &["-t", "a", "-n", "-r"],
            &["-t", "a", "-n", "--retain"],
            &["-t", "a", "-m", "x", "--repeat", "3", "--repeat-delay", "0.5"],
            &["-t", "a", "-m", "x", "-M", "5"],
            &["-L", "mqtt://h/t", "-m", "x"],
            &["-t", "a", "-m", "-5"],
            &["-t", "a", "-m", "-h"],
        ] {
            parse(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        }
        let args = parse(&["-t", "a", "-m", "x", "-q", "2", "-h", "host", "-D", "publish", "content-type", "t", "-r"]).unwrap();
        assert_eq!((args.client.qos, args.retain), (QoS::ExactlyOnce, true));
    }

    #[test]
    fn one_kind_of_payload_is_needed_and_only_one() {
        for arguments in [&["-t", "a"][..], &["-t", "a", "-m", "x", "-n"], &["-t", "a", "-l", "-s"], &["-t", "a", "-l", "--repeat", "2"]] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
        for arguments in [
            &["-t", "a", "-m", "x", "--repeat", "0"][..],
            &["-t", "a", "-m", "x", "--repeat-delay", "-1"],
            &["-t", "a", "-m", "x", "-M", "0"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_topic_is_needed_before_anybody_connects() {
        let failure = run(&parse(&["-m", "x", "-p", "1"]).unwrap()).unwrap_err();
        assert_eq!(failure.message, "no topic given: add -t TOPIC");
    }

    #[test]
    fn quiet_keeps_the_exit_code_and_drops_the_words() {
        let failure = run(&parse(&["-m", "x", "--quiet"]).unwrap()).unwrap_err();
        assert_eq!((failure.message.as_str(), failure.code), ("", 1));
    }

    #[test]
    fn payloads_come_from_where_the_arguments_say() {
        assert_eq!(parse(&["-t", "a", "-n"]).unwrap().payload(), Ok(Some(Vec::new())));
        assert_eq!(parse(&["-t", "a", "-m", "x"]).unwrap().payload(), Ok(Some(b"x".to_vec())));
        assert_eq!(parse(&["-t", "a", "-l"]).unwrap().payload(), Ok(None));
        assert!(parse(&["-t", "a", "-f", "/no/such/file"]).unwrap().payload().unwrap_err().starts_with("cannot read /no/such/file: "));
    }

    #[test]
    fn lines_are_cut_wherever_the_reads_end() {
        let mut lines = Lines::default();
        for mut piece in [&b"a\n\nbc"[..], b"d", b"\n", b"e"] {
            lines.read(&mut piece).unwrap();
        }
        assert_eq!(lines.complete, [&b"a"[..], b"", b"bcd"]);
        assert!(!lines.ended);
        lines.read(&mut &b""[..]).unwrap();
        assert_eq!((lines.complete.back().unwrap().as_slice(), lines.ended), (&b"e"[..], true));
    }
}
