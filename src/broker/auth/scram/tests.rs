//! SCRAM-SHA-256 against the example of RFC 7677 and against a client of the tests' own.

use pbkdf2::pbkdf2_hmac;

use super::*;
use crate::config::Secret;

fn user(name: &str, password: &str, salt: [u8; 16], iterations: u32) -> ScramUser {
    let (stored_key, server_key) = keys(&salted(password, &salt, iterations));
    ScramUser { user: name.to_owned(), iterations, salt: Secret(salt), stored_key: Secret(stored_key), server_key: Secret(server_key) }
}

fn salted(password: &str, salt: &[u8], iterations: u32) -> Key {
    let mut salted = [0; 32];
    pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, &mut salted);
    salted
}

fn method() -> Scram {
    Scram::new(&[user("ann", "secret", [1; 16], 4096), user("a,b=c", "x", [2; 16], 5000)])
}

/// The client's proof, and the broker's signature that it expects.
fn proof(password: &str, first_bare: &str, server_first: &str, without_proof: &str) -> (String, String) {
    let part = |letter: &str| server_first.split(',').find_map(|part| part.strip_prefix(letter)).unwrap().to_owned();
    let salted = salted(password, &STANDARD.decode(part("s=")).unwrap(), part("i=").parse().unwrap());
    let client_key = hmac(&salted, &[b"Client Key"]);
    let signed = format!("{first_bare},{server_first},{without_proof}");
    let signature = hmac(&Sha256::digest(client_key), &[signed.as_bytes()]);
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
    let server = hmac(&hmac(&salted, &[b"Server Key"]), &[signed.as_bytes()]);
    (STANDARD.encode(proof), format!("v={}", STANDARD.encode(server)))
}

fn continued(step: Step) -> String {
    match step {
        Step::Continue(data) => String::from_utf8(data).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn nonce_of(server_first: &str) -> &str {
    server_first.split(',').next().unwrap().strip_prefix("r=").unwrap()
}

/// A whole exchange; gives the last step and the signature that would be right.
fn log_in(method: &Scram, gs2: &str, name: &str, password: &str) -> (Step, String) {
    let mut exchange = method.begin([9; 32]);
    let bare = format!("n={name},r=abc");
    let server_first = continued(exchange.next(format!("{gs2}{bare}").as_bytes()));
    let without_proof = format!("c={},r={}", STANDARD.encode(gs2), nonce_of(&server_first));
    let (proof, signature) = proof(password, &bare, &server_first, &without_proof);
    (exchange.next(format!("{without_proof},p={proof}").as_bytes()), signature)
}

#[test]
fn the_example_of_rfc_7677_works() {
    let salt: [u8; 16] = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
    let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let users = Scram::new(&[user("user", "pencil", salt, 4096)]).users;
    let mut exchange = ScramExchange { users, nonce: nonce.to_owned(), stage: Stage::Start };
    let server_first = continued(exchange.next(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
    assert_eq!(server_first, format!("r=rOprNGfwEbeRWgbNEkqO{nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
    let last = format!("c=biws,r=rOprNGfwEbeRWgbNEkqO{nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    let expected = Step::Success { data: b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec(), user: "user".into() };
    assert_eq!(exchange.next(last.as_bytes()), expected);
}

#[test]
fn a_user_with_the_password_is_let_in_and_told_that_the_broker_knows_it_too() {
    for (gs2, name, password, user) in
        [("n,,", "ann", "secret", "ann"), ("y,,", "ann", "secret", "ann"), ("n,a=a=2Cb=3Dc,", "a=2Cb=3Dc", "x", "a,b=c")]
    {
        let (step, signature) = log_in(&method(), gs2, name, password);
        assert_eq!(step, Step::Success { data: signature.into_bytes(), user: user.into() }, "{gs2}");
    }
}

#[test]
fn nobody_else_is_let_in() {
    for (name, password) in [("ann", "Secret"), ("ann", ""), ("bob", "secret"), ("a=2Cb=3Dc", "secret")] {
        assert_eq!(log_in(&method(), "n,,", name, password).0, Step::Fail, "{name} {password}");
    }
    // The keys that are kept are no password: not even of a user that does not exist.
    assert_eq!(log_in(&Scram::new(&[]), "n,,", "ann", "secret").0, Step::Fail);
}

#[test]
fn a_first_message_may_come_late_but_only_once() {
    let mut exchange = method().begin([9; 32]);
    assert_eq!(exchange.next(b""), Step::Continue(Vec::new()));
    assert!(continued(exchange.next(b"n,,n=ann,r=abc")).starts_with("r=abc"));
    let mut exchange = method().begin([9; 32]);
    assert_eq!(exchange.next(b""), Step::Continue(Vec::new()));
    assert_eq!(exchange.next(b""), Step::Fail);
}

#[test]
fn a_user_that_does_not_exist_looks_like_one_that_does() {
    let challenge = |name: &str, fresh: u8| continued(method().begin([fresh; 32]).next(format!("n,,n={name},r=abc").as_bytes()));
    let salt = |challenge: &str| challenge.split(',').nth(1).unwrap().to_owned();
    let (ann, bob, eve) = (challenge("ann", 1), challenge("bob", 1), challenge("eve", 2));
    assert_eq!(ann.len(), bob.len());
    assert!(bob.ends_with(",i=4096"));
    assert_ne!(salt(&bob), salt(&eve));
    assert_eq!(salt(&bob), salt(&challenge("bob", 2)), "the same salt each time");
    assert_ne!(nonce_of(&bob), nonce_of(&challenge("bob", 2)));
}

#[test]
fn an_exchange_that_was_overheard_cannot_be_used_again() {
    let first = "n,,n=ann,r=abc";
    let mut heard = method().begin([9; 32]);
    let server_first = continued(heard.next(first.as_bytes()));
    let without_proof = format!("c=biws,r={}", nonce_of(&server_first));
    let (proof, _) = proof("secret", &first[3..], &server_first, &without_proof);
    let last = format!("{without_proof},p={proof}");
    assert!(matches!(heard.next(last.as_bytes()), Step::Success { .. }));
    let mut again = method().begin([8; 32]);
    assert_ne!(continued(again.next(first.as_bytes())), server_first);
    assert_eq!(again.next(last.as_bytes()), Step::Fail);
}

#[test]
fn what_was_signed_must_be_what_was_said() {
    let attempt = |change: &dyn Fn(String) -> String| {
        let mut exchange = method().begin([9; 32]);
        let server_first = continued(exchange.next(b"y,,n=ann,r=abc"));
        let without_proof = change(format!("c=eSws,r={}", nonce_of(&server_first)));
        let (proof, _) = proof("secret", "n=ann,r=abc", &server_first, &without_proof);
        exchange.next(format!("{without_proof},p={proof}").as_bytes())
    };
    assert!(matches!(attempt(&|text| text), Step::Success { .. }));
    // Another gs2 header than at first: somebody in the middle took away an offer of channel binding.
    assert_eq!(attempt(&|text| text.replace("eSws", "biws")), Step::Fail);
    assert_eq!(attempt(&|text| text.replace("r=abc", "r=abd")), Step::Fail);
    assert_eq!(attempt(&|text| text + "x"), Step::Fail);
}

#[test]
fn a_finished_exchange_stays_finished() {
    let mut exchange = method().begin([9; 32]);
    assert_eq!(exchange.next(b"nonsense"), Step::Fail);
    assert_eq!(exchange.next(b"n,,n=ann,r=abc"), Step::Fail);
}

#[test]
fn no_message_makes_it_panic_or_hold_much() {
    let long = format!("n,,n={},r=abc", "u".repeat(MAX_MESSAGE_BYTES));
    assert_eq!(method().begin([9; 32]).next(long.as_bytes()), Step::Fail);
    for data in [&b"\xff\xfe"[..], b",,,", b"n,,n=\xc3,r=x", b"=", b"n,,,,,,,"] {
        assert_eq!(method().begin([9; 32]).next(data), Step::Fail);
    }
}

#[test]
fn no_secret_is_shown() {
    let method = method();
    assert_eq!(format!("{method:?}"), "Scram { users: 2 users }");
    let mut exchange = method.begin([9; 32]);
    exchange.next(b"n,,n=ann,r=abc");
    assert_eq!(format!("{exchange:?}"), "SCRAM-SHA-256, challenged");
}
