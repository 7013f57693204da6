//! A double of who gives keys for a while: the token service for web identities, a machine's metadata, and the
//! server beside a container. It refuses what they refuse.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use alidade_entity::{Cancel, Cx};

use crate::proxy::{Head, copy};

/// Keys of one session, which some server takes.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The key's id.
    pub id: String,
    /// The key.
    pub key: String,
    /// The session's token.
    pub token: String,
}

/// What is given, to whom.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long keys are said to be good.
    pub lasts: Duration,
    /// The role that they are given for; the machine has none without one.
    pub role: Option<String>,
    /// What must be shown for them.
    pub token: String,
}

type Give = Box<dyn FnMut() -> Keys + Send>;

struct State {
    terms: Terms,
    give: Mutex<Give>,
    cx: Cx,
    stop: AtomicBool,
    /// Session tokens and the second until which they are good.
    given: Mutex<BTreeMap<String, i64>>,
    /// Tokens of the machine's metadata.
    shown: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

/// A server that gives keys, until it is dropped.
pub struct KeyGiver {
    address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

impl fmt::Debug for KeyGiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyGiver").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What it says.
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into() }
    }
}

/// Where a machine asks which role it has; below it are the keys of the role.
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// Where a container asks.
const CONTAINER: &str = "/container/keys";

impl KeyGiver {
    /// Gives keys on a free port of the loopback.
    ///
    /// # Panics
    /// When the system has no port.
    #[must_use]
    pub fn start(terms: Terms, give: impl FnMut() -> Keys + Send + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().expect("it is an address"), terms, give)
    }

    /// Gives keys there.
    ///
    /// # Panics
    /// When somebody else listens there, or the address is not this machine's.
    #[must_use]
    pub fn at(
        address: SocketAddr,
        terms: Terms,
        give: impl FnMut() -> Keys + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("it listens");
        let state = Arc::new(State {
            terms,
            give: Mutex::new(Box::new(give)),
            cx: Cx::system(Cancel::default()),
            stop: AtomicBool::new(false),
            given: Mutex::default(),
            shown: Mutex::default(),
            refused: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let listener = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                // One at a time, and a client that goes away is none of its business.
                drop(serve(&shared, client));
            }
        });
        Self { address, state, listener: Some(listener) }
    }

    /// The server as an address of the web.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where a container asks.
    #[must_use]
    pub fn container_url(&self) -> String {
        format!("http://{}{CONTAINER}", self.address)
    }

    /// How often keys were given.
    #[must_use]
    pub fn given(&self) -> usize {
        lock(&self.state.given).len()
    }

    /// What was refused, and why.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        lock(&self.state.refused).clone()
    }

    /// Says of a session's token whether it was given and is good.
    pub fn judge(&self) -> impl Fn(&str) -> bool + Send + 'static {
        let state = Arc::clone(&self.state);
        move |token| {
            let until = lock(&state.given).get(token).copied();
            until.is_some_and(|until| state.cx.now().seconds < until)
        }
    }
}

impl Drop for KeyGiver {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // The listener sees it at its next connection.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

fn serve(state: &State, mut client: TcpStream) -> io::Result<()> {
    // A client on a busy machine may take its time; it is the one that loses patience.
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let head = Head::read(&mut client)?;
    let mut body = Vec::new();
    copy(&mut client, &head, head.len(), &mut body)?;
    let mut words = head.text.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let answer = match path {
        "/latest/api/token" => machine_token(state, method, &head),
        _ if path.starts_with(ROLES) => machine(state, method, &head, &path[ROLES.len()..]),
        CONTAINER => container(state, method, &head),
        "/" => {
            let form = String::from_utf8_lossy(&body).into_owned();
            identity(state, method, &format!("{query}&{form}"))
        }
        _ => Answer::new(404, "there is nothing"),
    };
    if answer.status >= 400 {
        let Answer { status, body } = &answer;
        lock(&state.refused).push(format!("{method} {path}: {status} {body}"));
    }
    let (status, len) = (answer.status, answer.body.len());
    let head =
        format!("HTTP/1.1 {status} Said\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    client.write_all(head.as_bytes())?;
    client.write_all(answer.body.as_bytes())
}

/// The first step of a machine: a token, put with how long it shall last.
fn machine_token(state: &State, method: &str, head: &Head) -> Answer {
    if method != "PUT" {
        return Answer::new(405, "a token is put");
    }
    let lasts = head.field("x-aws-ec2-metadata-token-ttl-seconds");
    let lasts = lasts.and_then(|text| text.parse::<u32>().ok());
    if !lasts.is_some_and(|lasts| (1..=21_600).contains(&lasts)) {
        return Answer::new(400, "it is not said how long the token shall last");
    }
    let mut shown = lock(&state.shown);
    let token = format!("metadata-{}", shown.len());
    shown.push(token.clone());
    Answer::new(200, token)
}

/// The second and the third: the name of the role, and its keys.
fn machine(state: &State, method: &str, head: &Head, name: &str) -> Answer {
    if method != "GET" {
        return Answer::new(405, "roles are got");
    }
    let token = head.field("x-aws-ec2-metadata-token").unwrap_or_default();
    if !lock(&state.shown).iter().any(|shown| shown == token) {
        return Answer::new(401, "no token, or not one of ours");
    }
    match &state.terms.role {
        None => Answer::new(404, "this machine has no role"),
        Some(role) if name.is_empty() => Answer::new(200, role),
        Some(role) if name == role => Answer::new(200, json(state)),
        Some(_) => Answer::new(404, "this machine has another role"),
    }
}

fn container(state: &State, method: &str, head: &Head) -> Answer {
    if method != "GET" {
        return Answer::new(405, "keys are got");
    }
    if head.field("authorization") != Some(&*state.terms.token) {
        return Answer::new(401, "no token, or another container's");
    }
    Answer::new(200, json(state))
}

/// What a web identity asks, by a form or in the address.
fn identity(state: &State, method: &str, said: &str) -> Answer {
    let error = |status, code: &str| {
        Answer::new(
            status,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{code}\
                 </Message></Error></ErrorResponse>"
            ),
        )
    };
    if method != "POST" {
        return error(405, "MethodNotAllowed");
    }
    let fields: BTreeMap<String, String> = said
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    if field("Action") != "AssumeRoleWithWebIdentity" || field("Version") != "2011-06-15" {
        return error(400, "InvalidAction");
    }
    let lasts = field("DurationSeconds").parse::<u32>().unwrap_or(3600);
    if field("RoleSessionName").len() < 2 || !(900..=43_200).contains(&lasts) {
        return error(400, "ValidationError");
    }
    if field("WebIdentityToken") != state.terms.token {
        return error(400, "InvalidIdentityToken");
    }
    if Some(field("RoleArn")) != state.terms.role.as_deref() {
        return error(403, "AccessDenied");
    }
    let (Keys { id, key, token }, until) = give(state);
    Answer::new(
        200,
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>{token}</SessionToken>\
             <SecretAccessKey>{key}</SecretAccessKey><Expiration>{until}</Expiration>\
             <AccessKeyId>{id}</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>"
        ),
    )
}

fn json(state: &State) -> String {
    let (Keys { id, key, token }, until) = give(state);
    format!(
        "{{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"{id}\",\
         \"SecretAccessKey\":\"{key}\",\"Token\":\"{token}\",\"Expiration\":\"{until}\"}}"
    )
}

/// The keys of a new session, and until when they are said to be good.
fn give(state: &State) -> (Keys, String) {
    let lasts = i64::try_from(state.terms.lasts.as_secs()).expect("tests are shorter");
    let until = state.cx.now().seconds + lasts;
    let keys = lock(&state.give)();
    lock(&state.given).insert(keys.token.clone(), until);
    let until = jiff::Timestamp::from_second(until).expect("it is soon");
    (keys, until.to_string())
}

/// A value of a form in plain text; what is no text in it is none of ours.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = String::from_utf8_lossy(&digits).into_owned();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn terms() -> Terms {
        Terms {
            lasts: Duration::from_secs(100),
            role: Some("reader".to_owned()),
            token: "a token/1".to_owned(),
        }
    }

    fn start(terms: Terms) -> KeyGiver {
        let mut number = 0;
        KeyGiver::start(terms, move || {
            number += 1;
            let token = format!("session-{number}");
            Keys { id: "id".to_owned(), key: "key".to_owned(), token }
        })
    }

    fn ask(giver: &KeyGiver, first: &str, field: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(giver.address).unwrap();
        write!(stream, "{first} HTTP/1.1\r\n{field}\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        let status = said.split(' ').nth(1).unwrap().parse().unwrap();
        (status, said.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    #[test]
    fn a_machine_shows_a_token_that_it_has_put() {
        let giver = start(terms());
        let lasts = "X-aws-ec2-metadata-token-ttl-seconds: 600";
        assert_eq!(ask(&giver, "GET /latest/api/token", lasts).0, 405);
        assert_eq!(ask(&giver, "PUT /latest/api/token", "A: b").0, 400);
        assert_eq!(ask(&giver, &format!("GET {ROLES}"), "A: b").0, 401);
        let (status, token) = ask(&giver, "PUT /latest/api/token", lasts);
        assert_eq!(status, 200);
        let shown = format!("X-aws-ec2-metadata-token: {token}");
        assert_eq!(ask(&giver, &format!("GET {ROLES}"), &format!("{shown}x")).0, 401);
        assert_eq!(ask(&giver, &format!("POST {ROLES}"), &shown).0, 405);
        assert_eq!(ask(&giver, &format!("GET {ROLES}"), &shown), (200, "reader".to_owned()));
        assert_eq!(ask(&giver, &format!("GET {ROLES}writer"), &shown).0, 404);
        let (status, keys) = ask(&giver, &format!("GET {ROLES}reader"), &shown);
        assert!(status == 200 && keys.contains("\"Token\":\"session-1\""), "{keys}");
        assert!(giver.judge()("session-1") && !giver.judge()("session-2"));
        assert_eq!((giver.given(), giver.refused().len()), (1, 6));
    }

    #[test]
    fn a_container_and_an_identity_show_theirs() {
        let giver = start(Terms { lasts: Duration::ZERO, ..terms() });
        let asked = |first: &str| ask(&giver, first, "Authorization: a token/1").0;
        assert_eq!(asked("GET /container/keys"), 200);
        assert_eq!(asked("POST /container/keys"), 405);
        assert_eq!(ask(&giver, "GET /container/keys", "Authorization: another").0, 401);
        assert!(!giver.judge()("session-1"), "it lasts no time");
        let form = |role: &str, token: &str| {
            format!(
                "POST /?Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={role}&\
                 RoleSessionName=test&WebIdentityToken={token}"
            )
        };
        assert_eq!(asked(&form("reader", "a+token%2F1")), 200);
        assert_eq!(asked(&form("writer", "a+token%2F1")), 403);
        assert_eq!(asked(&form("reader", "another")), 400);
        assert_eq!(asked(&form("reader", "a+token%2F1").replace("POST", "GET")), 405);
    }
}
