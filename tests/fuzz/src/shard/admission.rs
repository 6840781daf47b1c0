//! Who is let in, and on what terms: two listeners, a method of authentication whose clients decide how it ends, and SCRAM.

use super::super::input::Input;
use ringmq::broker::Admission;
use ringmq::broker::auth::{Exchange, Fresh, Method, Step};
use ringmq::config::{Auth, Config, Listener, Redirect, ScramUser, Secret};

/// Listeners that a connection may come from; the last of them does not exist.
pub const LISTENERS: u16 = 3;
/// Methods that clients ask for.
pub const METHODS: [&str; 3] = ["as you like", "SCRAM-SHA-256", "unknown"];

/// A configuration of any kind.
pub fn choose(input: &mut Input<'_>) -> Admission {
    let open = Listener::on(([127, 0, 0, 1], 1883).into());
    let narrow = Listener {
        max_packet_bytes: input.option(|input| input.choose(&[64, 1_000])),
        receive_maximum: input.option(|input| input.choose(&[1, 2])),
        topic_alias_maximum: input.option(|input| input.choose(&[0, 3])),
        max_keep_alive_s: input.option(|input| input.choose(&[1, 100])),
        max_qos: input.choose(&[2, 0, 1]),
        retain_available: input.flag(),
        wildcard_available: input.flag(),
        shared_available: input.flag(),
        subscription_ids_available: input.flag(),
        ..open.clone()
    };
    let redirect = Redirect { server_reference: "elsewhere:1883".into(), permanent: input.flag() };
    let key = Secret([7; 32]);
    let user = ScramUser { user: "user".into(), iterations: 4_096, salt: Secret([7; 16]), stored_key: key, server_key: key };
    let config = Config {
        listeners: vec![open, narrow],
        redirect: input.one_in(16).then_some(redirect),
        auth: Auth { required: Some(input.one_in(16)), scram: vec![user] },
        ..Config::default()
    };
    Admission::new(&config).with_method(Box::new(AsYouLike))
}

/// The first byte of what a client says decides what follows.
#[derive(Debug)]
struct AsYouLike;

impl Method for AsYouLike {
    fn name(&self) -> &str {
        METHODS[0]
    }

    fn begin(&self, _: Fresh) -> Box<dyn Exchange> {
        Box::new(AsYouLike)
    }
}

impl Exchange for AsYouLike {
    fn next(&mut self, data: &[u8]) -> Step {
        match data {
            [0, rest @ ..] => Step::Continue(rest.to_vec()),
            [1, ..] => Step::Fail,
            _ => Step::Success { data: data.to_vec(), user: if data.len() > 2 { "somebody" } else { "user" }.into() },
        }
    }
}
