//! `ringmq sub`: prints what arrives, with the letters, formats and exit codes of mosquitto_sub.
//!
//! A lost connection is made again, with waits that grow up to half a minute; a DISCONNECT of the broker and a failed first attempt are final.
//! SIGINT and SIGTERM end it in order: no will is published.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Failure;
use super::client::{ClientError, ConnectOptions, Connection, Event, Message, Received};
use super::client_args::{ClientArgs, ClientSetup};
use super::format::Format;
use crate::mqtt::{RetainHandling, SubscribeOptions, TopicFilter, TopicName};

/// Exit code of mosquitto_sub when `-W` ran out.
const TIMED_OUT: u8 = 27;
/// Longest wait before the next attempt to connect again.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  ringmq sub -t 'sensors/#' -v               topic and payload of everything below sensors
  ringmq sub -t a -t b -C 10 -W 5            ten messages, or 27 as exit code after 5 s
  ringmq sub -t '#' -F '%I %t %q%r %p'       a format of one's own
  ringmq sub -t a -i me -c -q 1 -E           make a lasting session, to be read later
  ringmq sub -t '$SYS/broker/#' -v           what the broker says of itself

Format (-F):
  %t topic  %p payload  %x %X payload in hex  %l its length  %q QoS  %r retained  %m packet id
  %j JSON, payload as a string  %J JSON, payload as it is  %I ISO 8601 time  %U Unix time
  %C content type  %D correlation data  %E expiry  %F payload format  %P user properties
  %R response topic  %S subscription identifiers  %A topic alias (all of MQTT 5)
  @Y @m @d @H @M @S @N ... as strftime, in UTC  \\n \\t \\0 \\e ...  %% @@ \\\\ the characters themselves
  Between % and the letter: - for left, 0 for zeros, a width, and .length";

#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, after_help = EXAMPLES)]
pub(super) struct SubArgs {
    /// Topic filter to subscribe to. May be repeated
    #[arg(short, long)]
    topic: Vec<String>,
    /// Do not print messages of topics that this filter matches. May be repeated
    #[arg(short = 'T', long, value_name = "FILTER")]
    filter_out: Vec<String>,
    /// End this subscription of a lasting session. May be repeated
    #[arg(short = 'U', long, value_name = "FILTER")]
    unsubscribe: Vec<String>,
    /// Exit after N messages
    #[arg(short = 'C', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Exit after this many seconds, with code 27
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    wait: Option<u32>,
    /// Print the topic before the payload
    #[arg(short, long)]
    verbose: bool,
    /// Print each message in this format
    #[arg(short = 'F', value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// No line feed after a message
    #[arg(short = 'N')]
    no_line_feed: bool,
    /// Do not print retained messages
    #[arg(short = 'R', conflicts_with = "retained_only")]
    no_retained: bool,
    /// Print retained messages only, and exit at the first other one
    #[arg(long)]
    retained_only: bool,
    /// Clear each retained message that arrives
    #[arg(long)]
    remove_retained: bool,
    /// Exit when the broker has acknowledged the subscriptions
    #[arg(short = 'E')]
    exit_after_subscribe: bool,
    /// Show the retain flag as it was published (5.0)
    #[arg(long)]
    retain_as_published: bool,
    /// Which retained messages to ask for (5.0) [default: always]
    #[arg(long, value_name = "WHEN")]
    retain_handling: Option<RetainWhen>,
    /// Do not receive what this client publishes (5.0)
    #[arg(long)]
    no_local: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum RetainWhen {
    #[value(alias = "0")]
    Always,
    #[value(alias = "1")]
    New,
    #[value(alias = "2")]
    Never,
}

/// Subscribes and prints.
pub(super) fn run(args: &SubArgs) -> Result<(), Failure> {
    subscribe(args).map_err(|failure| failure.quiet_if(args.client.quiet))
}

fn subscribe(args: &SubArgs) -> Result<(), Failure> {
    let setup = args.client.setup()?;
    let mut subscriber = Subscriber::new(args, setup)?;
    let mut connection = Connection::open(&subscriber.setup.options)?;
    let mut wait = Duration::from_secs(1);
    loop {
        match subscriber.listen(&mut connection) {
            Ok(End::Done) => return Ok(connection.disconnect(&subscriber.setup.properties.disconnect)?),
            Ok(End::TimedOut) => {
                // What counts is the exit code; a broker that does not take the goodbye changes nothing.
                let _ = connection.disconnect(&subscriber.setup.properties.disconnect);
                return Err(timed_out());
            }
            Ok(End::AllRefused) => return Err("the broker refused all subscriptions".to_owned().into()),
            Err(ClientError::Lost(reason)) => {
                subscriber.say(&format!("the connection was lost: {reason}; connecting again"));
                connection = match subscriber.connect_again(connection, &mut wait)? {
                    Ok(connection) => connection,
                    Err(End::TimedOut) => return Err(timed_out()),
                    Err(_) => return Ok(()),
                };
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn timed_out() -> Failure {
    Failure { message: "timed out".to_owned(), code: TIMED_OUT }
}

/// Why listening ended.
#[derive(Debug, PartialEq)]
enum End {
    Done,
    TimedOut,
    AllRefused,
}

struct Subscriber<'a> {
    args: &'a SubArgs,
    setup: ClientSetup,
    filters: Vec<(String, SubscribeOptions)>,
    format: Format,
    deadline: Option<Instant>,
    left: Option<u64>,
    /// Readable once a signal asked to stop.
    stop: UnixStream,
    out: Vec<u8>,
}

impl<'a> Subscriber<'a> {
    fn new(args: &'a SubArgs, mut setup: ClientSetup) -> Result<Subscriber<'a>, String> {
        let topics: Vec<String> = args.topic.iter().cloned().chain(setup.topic.take()).collect();
        if topics.is_empty() && args.unsubscribe.is_empty() {
            return Err("no topic given: add -t FILTER, for example -t '#' for everything".to_owned());
        }
        for filter in &args.filter_out {
            TopicFilter::new(filter).map_err(|error| format!("-T {filter}: {error}"))?;
        }
        let options = args.options(&setup.options)?;
        let format = match &args.format {
            Some(format) => Format::parse(format)?,
            None if args.verbose => Format::verbose(),
            None => Format::payload(),
        };
        Ok(Subscriber {
            filters: topics.into_iter().map(|topic| (topic, options)).collect(),
            format,
            deadline: args.wait.map(|seconds| Instant::now() + Duration::from_secs(seconds.into())),
            left: args.count,
            stop: stop_signal().map_err(|error| format!("cannot watch for signals: {error}"))?,
            out: Vec::new(),
            args,
            setup,
        })
    }

    fn listen(&mut self, connection: &mut Connection) -> Result<End, ClientError> {
        let mut waiting = self.send_subscriptions(connection)?;
        loop {
            if !connection.has_more() && !self.flush() {
                return Ok(End::Done);
            }
            let end = match connection.next_or_input(self.deadline, Some(self.stop.as_fd()))? {
                Event::Message(message) => self.on_message(connection, &message)?,
                Event::Subscribed { codes, .. } => {
                    waiting -= 1;
                    self.on_subscribed(&codes)
                }
                Event::Unsubscribed { .. } => {
                    waiting -= 1;
                    None
                }
                Event::InputReady => Some(End::Done),
                Event::TimedOut => Some(End::TimedOut),
                Event::Published { .. } => None,
            };
            let subscribed = waiting == 0 && (self.args.exit_after_subscribe || self.filters.is_empty());
            if let Some(end) = end.or(subscribed.then_some(End::Done)) {
                self.flush();
                return Ok(end);
            }
        }
    }

    /// Gives the number of acknowledgements to wait for.
    fn send_subscriptions(&self, connection: &mut Connection) -> Result<u32, ClientError> {
        let properties = &self.setup.properties;
        let mut sent = 0;
        if !self.filters.is_empty() {
            let filters: Vec<_> = self.filters.iter().map(|(filter, options)| (filter.as_str(), *options)).collect();
            connection.subscribe(&filters, &properties.subscribe)?;
            sent += 1;
        }
        if !self.args.unsubscribe.is_empty() {
            let filters: Vec<_> = self.args.unsubscribe.iter().map(String::as_str).collect();
            connection.unsubscribe(&filters, &properties.unsubscribe)?;
            sent += 1;
        }
        Ok(sent)
    }

    fn on_subscribed(&self, codes: &[u8]) -> Option<End> {
        for ((filter, _), code) in self.filters.iter().zip(codes).filter(|(_, code)| **code >= 0x80) {
            self.say(&format!("the broker refused the subscription to '{filter}': {}", crate::mqtt::ReasonCode(*code).name()));
        }
        codes.iter().all(|code| *code >= 0x80).then_some(End::AllRefused)
    }

    fn on_message(&mut self, connection: &mut Connection, message: &Received) -> Result<Option<End>, ClientError> {
        if self.args.retained_only && !message.retain {
            return Ok(Some(End::Done));
        }
        if (self.args.no_retained && message.retain) || self.is_filtered_out(&message.topic) {
            return Ok(None);
        }
        if self.args.remove_retained && message.retain {
            connection.publish(&Message { retain: true, ..Message::new(message.topic.as_str(), "") })?;
        }
        let start = self.out.len();
        match self.format.write(message, SystemTime::now(), &mut self.out) {
            Ok(()) if !self.args.no_line_feed => self.out.push(b'\n'),
            Ok(()) => {}
            Err(problem) => {
                self.out.truncate(start);
                self.say(&problem);
            }
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok((self.left == Some(0)).then_some(End::Done))
    }

    fn is_filtered_out(&self, topic: &str) -> bool {
        let Ok(topic) = TopicName::new(topic) else { return false };
        self.args.filter_out.iter().any(|filter| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic)))
    }

    /// Writes what has gathered; says whether anybody still reads it.
    fn flush(&mut self) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(&self.out).and_then(|()| stdout.flush());
        self.out.clear();
        written.is_ok()
    }

    /// Tries until it works, or gives the reason to end: the deadline, or a signal.
    fn connect_again(&self, lost: Connection, wait: &mut Duration) -> Result<Result<Connection, End>, Failure> {
        let mut lost = Some(lost);
        loop {
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if self.stopped_within(left.unwrap_or(*wait).min(*wait)) {
                return Ok(Err(End::Done));
            }
            if left.is_some_and(|left| left <= *wait) {
                return Ok(Err(End::TimedOut));
            }
            let options = &self.setup.options;
            let attempt = match lost.take() {
                Some(lost) => lost.reopen(options),
                None => Connection::open(options),
            };
            match attempt {
                Ok(connection) => {
                    *wait = Duration::from_secs(1);
                    return Ok(Ok(connection));
                }
                Err(ClientError::Unreachable(_) | ClientError::Lost(_)) => *wait = (*wait * 2).min(MAX_RETRY_WAIT),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a signal asked to stop before the time was over.
    fn stopped_within(&self, time: Duration) -> bool {
        let timeout = rustix::event::Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let mut fds = [rustix::event::PollFd::new(&self.stop, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    fn say(&self, line: &str) {
        if !self.args.client.quiet {
            eprintln!("warning: {line}");
        }
    }
}

impl SubArgs {
    fn options(&self, connect: &ConnectOptions) -> Result<SubscribeOptions, String> {
        let v5_only = self.retain_as_published || self.no_local || self.retain_handling.is_some();
        if v5_only && !connect.version.is_v5() {
            return Err("--retain-as-published, --retain-handling and --no-local need MQTT 5.0: add -V 5".to_owned());
        }
        let retain_handling = match self.retain_handling {
            None | Some(RetainWhen::Always) => RetainHandling::Send,
            Some(RetainWhen::New) => RetainHandling::SendIfNew,
            Some(RetainWhen::Never) => RetainHandling::DoNotSend,
        };
        Ok(SubscribeOptions {
            qos: self.client.qos,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retain_handling,
        })
    }
}

/// A stream that becomes readable at SIGINT or SIGTERM.
fn stop_signal() -> std::io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
