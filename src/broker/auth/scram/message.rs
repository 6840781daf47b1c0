//! The client's two messages (RFC 5802 section 7), checked for form only. `None` is all that a wrong one deserves.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// `client-first-message`.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFirst<'a> {
    /// Up to and with the second comma.
    pub gs2_header: &'a str,
    /// All that follows the header: this is signed.
    pub bare: &'a str,
    pub user: Cow<'a, str>,
    pub nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub fn parse(text: &'a str) -> Option<ClientFirst<'a>> {
        let mut parts = text.splitn(3, ',');
        // "p=..." asks for channel binding, which is not offered; "y" says that the client would have it if it were.
        let (Some("n" | "y"), authorization) = (parts.next(), parts.next()?) else { return None };
        let bare = parts.next()?;
        let mut attributes = bare.split(',');
        // An extension that must be understood ("m=...") would stand here, and none is.
        let user = unescape(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        if !attributes.all(is_attribute) || user.is_empty() {
            return None;
        }
        // Nobody acts for somebody else.
        if !authorization.is_empty() && unescape(authorization.strip_prefix("a=")?)? != user {
            return None;
        }
        Some(ClientFirst { gs2_header: &text[..text.len() - bare.len()], bare, user, nonce })
    }
}

/// `client-final-message`.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFinal<'a> {
    /// As it was sent, in base64.
    pub channel_binding: &'a str,
    pub nonce: &'a str,
    /// All before the proof: this is signed.
    pub without_proof: &'a str,
    pub proof: [u8; 32],
}

impl<'a> ClientFinal<'a> {
    pub fn parse(text: &'a str) -> Option<ClientFinal<'a>> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let channel_binding = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        let proof = STANDARD.decode(proof).ok()?.try_into().ok()?;
        attributes.all(is_attribute).then_some(ClientFinal { channel_binding, nonce, without_proof, proof })
    }
}

/// An extension that need not be understood: a letter, `=`, something.
fn is_attribute(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b'=', _, ..] if letter.is_ascii_alphabetic()) && !text.starts_with("m=")
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A name in which `,` and `=` are written `=2C` and `=3D`.
fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('\0') {
        return None;
    }
    let mut parts = text.split('=');
    let first = parts.next()?;
    if first.len() == text.len() {
        return Some(Cow::Borrowed(text));
    }
    let mut name = first.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        name.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    Some(Cow::Owned(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_message_is_taken_apart() {
        let first = ClientFirst::parse("n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!((first.gs2_header, first.bare), ("n,,", "n=user,r=rOprNGfwEbeRWgbNEkqO"));
        assert_eq!((&*first.user, first.nonce), ("user", "rOprNGfwEbeRWgbNEkqO"));
        let first = ClientFirst::parse("y,a=a=2Cb=3D,n=a=2Cb=3D,r=x,z=1").unwrap();
        assert_eq!((first.gs2_header, &*first.user, first.nonce), ("y,a=a=2Cb=3D,", "a,b=", "x"));
        assert_eq!(ClientFirst::parse("n,,n=ü €,r=x").unwrap().user, "ü €");
    }

    #[test]
    fn what_is_no_first_message_is_refused() {
        for text in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=u",
            "n,,n=u,r=",
            "n,,n=,r=x",
            "n,,r=x,n=u",
            "n,,n=u,r=a b",
            "n,,n=u,r=é",
            "n,,m=ext,n=u,r=x",
            "n,,n=u,r=x,m=ext",
            "n,,n=u,r=x,",
            "n,,n=u,r=x,1=2",
            "n,,n=u=,r=x",
            "n,,n=u=2c,r=x",
            "n,,n=u=41,r=x",
            "n,,n=u=é,r=x",
            "n,,n=u\0,r=x",
            "n,a=other,n=u,r=x",
            "n,u,n=u,r=x",
            "p=tls-exporter,,n=u,r=x",
            "x,,n=u,r=x",
            "N,,n=u,r=x",
            " n,,n=u,r=x",
        ] {
            assert_eq!(ClientFirst::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_final_message_is_taken_apart() {
        let proof = STANDARD.encode([7; 32]);
        let text = format!("c=biws,r=x,z=1,p={proof}");
        let last = ClientFinal::parse(&text).unwrap();
        assert_eq!((last.channel_binding, last.nonce, last.without_proof), ("biws", "x", "c=biws,r=x,z=1"));
        assert_eq!(last.proof, [7; 32]);
    }

    #[test]
    fn what_is_no_final_message_is_refused() {
        let proof = STANDARD.encode([7; 32]);
        for text in [
            String::new(),
            "c=biws,r=x".to_owned(),
            "c=biws,r=x,p=".to_owned(),
            format!("c=biws,r=x,p={}", STANDARD.encode([7; 31])),
            format!("c=biws,r=x,p={}", STANDARD.encode([7; 33])),
            format!("c=biws,r=x,p={}", proof.trim_end_matches('=')),
            format!("c=biws,r=x,p={proof},z=1"),
            format!("r=x,c=biws,p={proof}"),
            format!("c=biws,p={proof}"),
            format!("c=biws,r=,p={proof}"),
            format!("c=biws,r=x,m=1,p={proof}"),
            format!("c=biws,r=x,,p={proof}"),
        ] {
            assert_eq!(ClientFinal::parse(&text), None, "{text:?}");
        }
    }
}
