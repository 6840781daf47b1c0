//! What `pub` and `sub` have in common: the letters of mosquitto_pub and mosquitto_sub, turned into [`ConnectOptions`].

use std::net::IpAddr;

use clap::Args;

use super::client::{ConnectOptions, Message};
use super::property_args::PropertyArgs;
use super::url::Url;
use crate::mqtt::{QoS, Version};

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(super) struct ClientArgs {
    /// Broker to connect to [default: localhost]
    #[arg(short = 'h', long, help_heading = CONNECTION)]
    host: Option<String>,
    /// Port to connect to [default: 1883]
    #[arg(short, long, help_heading = CONNECTION)]
    port: Option<u16>,
    /// All at once: mqtt://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC]
    #[arg(short = 'L', long, value_name = "URL", value_parser = super::url::parse, help_heading = CONNECTION)]
    url: Option<Url>,
    /// Local address to connect from
    #[arg(short = 'A', long, value_name = "ADDR", help_heading = CONNECTION)]
    bind: Option<IpAddr>,
    /// Client identifier [default: the broker chooses one]
    #[arg(short, long, conflicts_with = "id_prefix", help_heading = CONNECTION)]
    id: Option<String>,
    /// Client identifier made of this and the process id
    #[arg(short = 'I', long, value_name = "PREFIX", help_heading = CONNECTION)]
    id_prefix: Option<String>,
    /// User name
    #[arg(short, long, help_heading = CONNECTION)]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD", help_heading = CONNECTION)]
    password: Option<String>,
    /// 31, 311 or 5 (mqttv31, mqttv311, mqttv5) [default: 311, or 5 where -D or -x need it]
    #[arg(short = 'V', long, value_name = "VERSION", value_parser = version, help_heading = CONNECTION)]
    protocol_version: Option<Version>,
    /// Seconds between two signs of life; 0 for none
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60, help_heading = CONNECTION)]
    keepalive: u16,
    /// Keep the session beyond this connection; needs -i
    #[arg(short = 'c', long, help_heading = CONNECTION)]
    disable_clean_session: bool,
    /// Seconds that the session outlives the connection, -1 for ever (5.0) [default: -1 with -c, else 0]
    #[arg(short = 'x', long, value_name = "SECONDS", value_parser = session_expiry, allow_negative_numbers = true, help_heading = CONNECTION)]
    session_expiry_interval: Option<u32>,
    /// Accepted for compatibility: Nagle's algorithm is always off
    #[arg(long, hide = true)]
    nodelay: bool,
    /// Show each packet on standard error
    #[arg(short, long)]
    debug: bool,
    /// Do not print errors that occur while running
    #[arg(long)]
    pub(super) quiet: bool,
    /// QoS of messages: 0, 1 or 2
    #[arg(short, long, value_parser = qos, default_value = "0")]
    pub(super) qos: QoS,
    /// Property of a packet (5.0): -D PACKET NAME VALUE, or -D PACKET user-property NAME VALUE. May be repeated
    #[arg(short = 'D', long = "property", value_names = ["PACKET", "NAME", "VALUE"], num_args = 3..=4, allow_negative_numbers = true)]
    property: Vec<String>,
    /// Topic of the will, which the broker publishes if this client vanishes
    #[arg(long, value_name = "TOPIC", help_heading = WILL)]
    will_topic: Option<String>,
    /// Payload of the will [default: empty]
    #[arg(long, value_name = "PAYLOAD", requires = "will_topic", help_heading = WILL)]
    will_payload: Option<String>,
    /// QoS of the will [default: 0]
    #[arg(long, value_name = "QOS", value_parser = qos, requires = "will_topic", help_heading = WILL)]
    will_qos: Option<QoS>,
    /// Retain the will
    #[arg(long, requires = "will_topic", help_heading = WILL)]
    will_retain: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

const CONNECTION: &str = "Connection";
const WILL: &str = "Will";

/// Everything that the common arguments say.
#[derive(Debug)]
pub(super) struct ClientSetup {
    pub options: ConnectOptions,
    pub properties: PropertyArgs,
    /// From the URL.
    pub topic: Option<String>,
}

impl ClientArgs {
    /// Checks what clap cannot know and gives the options.
    pub(super) fn setup(&self) -> Result<ClientSetup, String> {
        let properties = PropertyArgs::parse(&self.property)?;
        let version = self.version(properties.any())?;
        let url = self.url.clone().unwrap_or_default();
        let user_name = self.username.clone().or(url.user_name);
        let password = self.password.clone().or(url.password);
        if password.is_some() && user_name.is_none() && !version.is_v5() {
            return Err("-P needs -u: MQTT 3.x knows no password without a user name".to_owned());
        }
        let client_id = self.client_id(version);
        if self.disable_clean_session && client_id.is_empty() {
            return Err("-c needs a client identifier of your own: add -i NAME".to_owned());
        }
        let mut connect = properties.connect.clone();
        if version.is_v5() {
            let lasting = self.disable_clean_session.then_some(u32::MAX);
            connect.session_expiry = self.session_expiry_interval.or(connect.session_expiry).or(lasting);
        }
        let options = ConnectOptions {
            host: self.host.clone().or(url.host).unwrap_or_else(|| "localhost".to_owned()),
            port: self.port.or(url.port).unwrap_or(1883),
            bind: self.bind,
            version,
            client_id,
            clean_start: !self.disable_clean_session,
            keep_alive_s: self.keepalive,
            user_name,
            password: password.map(String::into_bytes),
            will: self.will(&properties),
            properties: connect,
            trace: self.debug,
            ..ConnectOptions::default()
        };
        Ok(ClientSetup { options, properties, topic: url.topic })
    }

    fn version(&self, has_properties: bool) -> Result<Version, String> {
        let needs_v5 = has_properties || self.session_expiry_interval.is_some();
        match self.protocol_version {
            Some(version) if needs_v5 && !version.is_v5() => Err("-D and -x need MQTT 5.0: use -V 5 or leave -V out".to_owned()),
            Some(version) => Ok(version),
            None if needs_v5 => Ok(Version::V5),
            None => Ok(Version::V311),
        }
    }

    fn client_id(&self, version: Version) -> String {
        match (&self.id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{}", std::process::id()),
            // 3.1 knows no empty identifier, and no more than 23 characters.
            (None, None) if version == Version::V31 => format!("ringmq-{}", std::process::id()),
            (None, None) => String::new(),
        }
    }

    fn will(&self, properties: &PropertyArgs) -> Option<Message> {
        self.will_topic.as_ref().map(|topic| Message {
            topic: topic.clone(),
            payload: self.will_payload.clone().unwrap_or_default().into_bytes(),
            qos: self.will_qos.unwrap_or_default(),
            retain: self.will_retain,
            properties: properties.will.clone(),
        })
    }
}

fn version(text: &str) -> Result<Version, String> {
    match text.trim_start_matches("mqttv") {
        "31" | "3.1" => Ok(Version::V31),
        "311" | "3.1.1" => Ok(Version::V311),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err("expected 31, 311 or 5".to_owned()),
    }
}

pub(super) fn qos(text: &str) -> Result<QoS, String> {
    text.parse().ok().and_then(QoS::from_bits).ok_or_else(|| "expected 0, 1 or 2".to_owned())
}

fn session_expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "∞" => Ok(u32::MAX),
        _ => text.parse().map_err(|_| "expected seconds from 0 to 4294967294, or -1 for ever".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(disable_help_flag = true)]
    struct Harness {
        #[command(flatten)]
        args: ClientArgs,
    }

    fn setup(arguments: &[&str]) -> Result<ClientSetup, String> {
        Harness::try_parse_from([&["x"], arguments].concat()).map_err(|error| error.to_string())?.args.setup()
    }

    fn options(arguments: &[&str]) -> ConnectOptions {
        setup(arguments).unwrap().options
    }

    #[test]
    fn without_arguments_the_broker_on_this_machine_is_meant() {
        assert_eq!(options(&[]), ConnectOptions::default());
    }

    #[test]
    fn every_letter_sets_what_it_sets_in_mosquitto() {
        let options = options(&[
            "-h",
            "example.org",
            "-p",
            "1884",
            "-i",
            "me",
            "-u",
            "user",
            "-P",
            "secret",
            "-V",
            "mqttv5",
            "-k",
            "7",
            "-c",
            "-x",
            "30",
            "-A",
            "127.0.0.2",
            "-d",
            "--quiet",
            "--nodelay",
            "-q",
            "2",
            "--will-topic",
            "w",
            "--will-payload",
            "gone",
            "--will-qos",
            "1",
            "--will-retain",
            "-D",
            "connect",
            "receive-maximum",
            "5",
            "-D",
            "will",
            "will-delay-interval",
            "9",
        ]);
        assert_eq!((options.host.as_str(), options.port, options.keep_alive_s), ("example.org", 1884, 7));
        assert_eq!((options.client_id.as_str(), options.clean_start, options.trace), ("me", false, true));
        assert_eq!((options.user_name.as_deref(), options.password.as_deref()), (Some("user"), Some(&b"secret"[..])));
        assert_eq!((options.version, options.bind), (Version::V5, "127.0.0.2".parse().ok()));
        assert_eq!((options.properties.session_expiry, options.properties.receive_maximum), (Some(30), Some(5)));
        let will = options.will.unwrap();
        assert_eq!((will.topic.as_str(), will.payload.as_slice(), will.qos, will.retain), ("w", &b"gone"[..], QoS::AtLeastOnce, true));
        assert_eq!(will.properties.will_delay, Some(9));
    }

    #[test]
    fn the_long_names_are_mosquittos_too() {
        for arguments in [
            &["--host", "h"][..],
            &["--port", "1"],
            &["--id", "i"],
            &["--id-prefix", "i"],
            &["--username", "u"],
            &["--username", "u", "--pw", "p"],
            &["--protocol-version", "mqttv31"],
            &["--keepalive", "5"],
            &["--qos", "1"],
            &["--debug"],
            &["--disable-clean-session", "--id", "x"],
            &["--session-expiry-interval", "∞"],
            &["--property", "connect", "user-property", "a", "b"],
            &["--url", "mqtt://h"],
        ] {
            setup(arguments).unwrap();
        }
    }

    #[test]
    fn versions_go_by_several_names() {
        for (name, version) in
            [("31", Version::V31), ("mqttv31", Version::V31), ("311", Version::V311), ("mqttv311", Version::V311), ("5", Version::V5)]
        {
            assert_eq!(options(&["-V", name]).version, version);
        }
        assert!(setup(&["-V", "4"]).is_err());
    }

    #[test]
    fn properties_and_session_expiry_mean_5_0_and_contradict_3_x() {
        assert_eq!(options(&["-x", "-1"]).version, Version::V5);
        assert_eq!(options(&["-D", "connect", "user-property", "a", "b"]).version, Version::V5);
        assert!(setup(&["-V", "311", "-x", "1"]).unwrap_err().contains("-V 5"));
    }

    #[test]
    fn a_lasting_session_needs_a_client_identifier_and_does_not_expire() {
        assert!(setup(&["-c"]).unwrap_err().contains("-i"));
        assert_eq!(options(&["-c", "-i", "a", "-V", "5"]).properties.session_expiry, Some(u32::MAX));
        assert_eq!(options(&["-c", "-i", "a"]).properties.session_expiry, None);
        assert!(options(&["-c", "-I", "pre-"]).client_id.starts_with("pre-"));
        assert!(!options(&["-V", "31"]).client_id.is_empty());
    }

    #[test]
    fn a_password_needs_a_user_name_before_5_0() {
        assert!(setup(&["-P", "x"]).unwrap_err().contains("-u"));
        assert!(setup(&["-P", "x", "-V", "5"]).is_ok());
    }

    #[test]
    fn a_url_says_it_all_and_flags_go_over_it() {
        let url = "mqtt://user:pass@example.org:1999/a/b";
        let setup = setup(&["-L", url, "-p", "7"]).unwrap();
        assert_eq!((setup.options.host.as_str(), setup.options.port, setup.topic.as_deref()), ("example.org", 7, Some("a/b")));
        assert_eq!((setup.options.user_name.as_deref(), setup.options.password.as_deref()), (Some("user"), Some(&b"pass"[..])));
    }

    #[test]
    fn contradictions_are_refused() {
        for arguments in [&["-i", "a", "-I", "b"][..], &["--will-payload", "x"], &["-q", "3"], &["-D", "connect", "x"], &["-x", "-2"]] {
            assert!(setup(arguments).is_err(), "{arguments:?}");
        }
    }
}
