//! `mqtt://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC]`, as mosquitto_pub and mosquitto_sub take it: nothing is percent-decoded.

/// The parts that were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Url {
    pub user_name: Option<String>,
    pub password: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub topic: Option<String>,
}

/// Takes a URL apart.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    const EXPECTED: &str = "expected mqtt://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC]";
    if text.starts_with("mqtts://") || text.starts_with("ws") {
        return Err("this client speaks plain TCP only: mqtt://".to_owned());
    }
    let rest = text.strip_prefix("mqtt://").ok_or(EXPECTED)?;
    let (authority, topic) = match rest.split_once('/') {
        Some((authority, topic)) => (authority, Some(topic).filter(|topic| !topic.is_empty())),
        None => (rest, None),
    };
    let (credentials, address) = match authority.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, authority),
    };
    let (user_name, password) =
        match credentials.map(|text| text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)))) {
            Some((user, password)) => (Some(user.to_owned()), password.map(str::to_owned)),
            None => (None, None),
        };
    let (host, port) = split_port(address).ok_or(EXPECTED)?;
    Ok(Url { user_name, password, host: Some(host.to_owned()), port, topic: topic.map(str::to_owned) })
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(address: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_but_the_host_may_be_missing() {
        let parts = |text: &str| {
            let url = parse(text).unwrap();
            [url.user_name, url.password, url.host, url.port.map(|port| port.to_string()), url.topic]
                .map(Option::unwrap_or_default)
                .join("|")
        };
        assert_eq!(parts("mqtt://h"), "||h||");
        assert_eq!(parts("mqtt://h/"), "||h||");
        assert_eq!(parts("mqtt://h:1/a/b"), "||h|1|a/b");
        assert_eq!(parts("mqtt://u@h/t"), "u||h||t");
        assert_eq!(parts("mqtt://u:p@x:y@h:2//t"), "u|p@x:y|h|2|/t");
        assert_eq!(parts("mqtt://[::1]:7/t"), "||::1|7|t");
        assert_eq!(parts("mqtt://[::1]"), "||::1||");
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for text in [
            "",
            "h",
            "http://h",
            "mqtt://",
            "mqtt:///t",
            "mqtt://h:x",
            "mqtt://h:65536",
            "mqtt://[::1",
            "mqtt://[::1]x",
            "mqtts://h",
            "ws://h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
