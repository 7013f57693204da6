//! A proxy between a client and an HTTP server that does to requests what networks do.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Bytes of its body.
    pub len: u64,
    /// The lines of its head below the first.
    pub head: String,
}

impl Seen {
    /// Whether the head has a field of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    /// What the head says under that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it passes.
    None,
    /// It is answered with this status and body, and goes nowhere.
    Answer(u16, String),
    /// It passes after a while.
    Wait(Duration),
    /// The connection breaks after so many bytes of its body; the server gets no more.
    CutRequest(u64),
    /// It passes; the connection breaks after so many bytes of the answer.
    CutAnswer(u64),
    /// It passes, and a bit of the answer's last byte is another.
    FlipAnswer,
    /// It passes, and the answer is lost.
    LoseAnswer,
    /// Nobody answers, and the connection stays.
    Hang(Duration),
}

type Decide = Box<dyn FnMut(&Seen) -> Fault + Send>;

struct State {
    server: SocketAddr,
    decide: Mutex<Decide>,
    seen: Mutex<Vec<Seen>>,
    stop: AtomicBool,
}

/// A proxy that listens on an address of its own until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Listens on a free port of the loopback, in front of a server there.
    ///
    /// # Panics
    /// When the system has no port.
    #[must_use]
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it listens");
        let state = Arc::new(State {
            server,
            decide: Mutex::new(Box::new(|_| Fault::None)),
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let listener = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&shared);
                // A connection that breaks is what this is for.
                std::thread::spawn(move || drop(serve(&state, client)));
            }
        });
        Self { address, state, listener: Some(listener) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Decides from now on what becomes of each request.
    pub fn decide(&self, decide: impl FnMut(&Seen) -> Fault + Send + 'static) {
        *lock(&self.state.decide) = Box::new(decide);
    }

    /// The requests that came so far, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    /// Forgets what came.
    pub fn forget(&self) {
        lock(&self.state.seen).clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // The listener sees it at its next connection.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

/// A message's head, and what of its body came with it.
pub(crate) struct Head {
    pub(crate) text: String,
    rest: Vec<u8>,
}

impl Head {
    /// Reads up to the empty line.
    pub(crate) fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let mut buf = [0; 4096];
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = bytes.split_off(end + 4);
                let text = String::from_utf8(bytes).map_err(io::Error::other)?;
                return Ok(Self { text, rest });
            }
            match stream.read(&mut buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => bytes.extend_from_slice(&buf[..len]),
            }
        }
    }

    /// What stands after that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.text.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Bytes of the body.
    pub(crate) fn len(&self) -> u64 {
        self.field("content-length").and_then(|len| len.parse().ok()).unwrap_or(0)
    }

    /// What of the body came with it.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// The head with another word on the connection: one request, then it is closed.
    pub(crate) fn closing(&self) -> String {
        let lines = self.text.trim_end().lines();
        let others = lines.filter(|line| {
            !line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case("connection"))
        });
        others.chain(["Connection: close", "", ""]).collect::<Vec<_>>().join("\r\n")
    }
}

fn serve(state: &State, mut client: TcpStream) -> io::Result<()> {
    let head = Head::read(&mut client)?;
    let mut words = head.text.split_whitespace();
    let seen = Seen {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        len: head.len(),
        head: head.text.lines().skip(1).collect::<Vec<_>>().join("\n"),
    };
    let fault = (lock(&state.decide))(&seen);
    lock(&state.seen).push(seen);
    if head.field("expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue")) {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    match fault {
        Fault::Answer(status, body) => {
            // What is not read of a request would reset the connection before the answer is.
            copy(&mut client, &head, head.len(), &mut io::sink())?;
            answer(&mut client, status, &body)
        }
        Fault::Hang(time) => {
            std::thread::sleep(time);
            client.shutdown(Shutdown::Both)
        }
        Fault::CutRequest(after) => {
            let mut server = TcpStream::connect(state.server)?;
            server.write_all(head.closing().as_bytes())?;
            copy(&mut client, &head, after.min(head.len()), &mut server)?;
            client.shutdown(Shutdown::Both)
        }
        Fault::Wait(time) => {
            std::thread::sleep(time);
            pass(state, client, &head, &Fault::None)
        }
        fault => pass(state, client, &head, &fault),
    }
}

fn pass(state: &State, mut client: TcpStream, head: &Head, fault: &Fault) -> io::Result<()> {
    let mut server = TcpStream::connect(state.server)?;
    server.write_all(head.closing().as_bytes())?;
    // A server may answer before it has all, and take no more: what it says counts.
    if copy(&mut client, head, head.len(), &mut server).is_err() {
        client.set_read_timeout(Some(Duration::from_millis(200)))?;
        io::copy(&mut client, &mut io::sink()).unwrap_or(0);
    }
    let back = Head::read(&mut server)?;
    let mut body = back.rest.clone();
    match fault {
        Fault::LoseAnswer => {
            io::copy(&mut server, &mut io::sink())?;
            client.shutdown(Shutdown::Both)
        }
        Fault::CutAnswer(after) => {
            client.write_all(back.closing().as_bytes())?;
            server.read_to_end(&mut body)?;
            let after = usize::try_from(*after).unwrap_or(usize::MAX).min(body.len());
            client.write_all(&body[..after])?;
            client.shutdown(Shutdown::Both)
        }
        Fault::FlipAnswer => {
            client.write_all(back.closing().as_bytes())?;
            server.read_to_end(&mut body)?;
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            client.write_all(&body)
        }
        _ => {
            client.write_all(back.closing().as_bytes())?;
            client.write_all(&body)?;
            io::copy(&mut server, &mut client).map(drop)
        }
    }
}

/// Copies so many bytes of a message's body.
pub(crate) fn copy(
    from: &mut TcpStream,
    head: &Head,
    len: u64,
    to: &mut dyn Write,
) -> io::Result<()> {
    let begun = head.rest.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    to.write_all(&head.rest[..begun])?;
    let mut rest = from.take(len - begun as u64);
    io::copy(&mut rest, to).map(drop)
}

fn answer(client: &mut TcpStream, status: u16, body: &str) -> io::Result<()> {
    let len = body.len();
    let head = format!(
        "HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\nContent-Length: {len}\r\n\
         Connection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each request with what came, and the bodies it got whole.
    fn echo() -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&taken);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let Ok(head) = Head::read(&mut stream) else { continue };
                let mut body = Vec::new();
                if copy(&mut stream, &head, head.len(), &mut body).is_err() {
                    continue;
                }
                if body.len() as u64 == head.len() {
                    kept.lock().unwrap().push(body.clone());
                    drop(answer(&mut stream, 200, &String::from_utf8_lossy(&body)));
                }
            }
        });
        (address, taken)
    }

    fn ask(proxy: &Proxy, body: &str) -> io::Result<(String, String)> {
        let mut stream = TcpStream::connect(proxy.address())?;
        let len = body.len();
        write!(stream, "PUT /a?b HTTP/1.1\r\nContent-Length: {len}\r\n\r\n{body}")?;
        let head = Head::read(&mut stream)?;
        let mut back = String::from_utf8_lossy(&head.rest).into_owned();
        stream.read_to_string(&mut back)?;
        if back.len() as u64 != head.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((head.text.lines().next().unwrap_or_default().to_owned(), back))
    }

    #[test]
    fn requests_pass_and_every_fault_is_what_its_name_says() {
        let (server, taken) = echo();
        let proxy = Proxy::before(server);
        let ok = "HTTP/1.1 200 Fault".to_owned();
        assert_eq!(ask(&proxy, "hello").unwrap(), (ok.clone(), "hello".to_owned()));
        let seen = proxy.seen();
        assert_eq!((&*seen[0].method, &*seen[0].target, seen[0].len), ("PUT", "/a?b", 5));
        assert!(seen[0].has("content-length") && !seen[0].has("authorization"));
        let try_with = |fault: Fault| {
            taken.lock().unwrap().clear();
            proxy.decide(move |_| fault.clone());
            (ask(&proxy, "hello"), taken.lock().unwrap().len())
        };
        let (back, got) = try_with(Fault::Answer(503, "busy".into()));
        assert_eq!((back.unwrap().1, got), ("busy".to_owned(), 0));
        let (back, got) = try_with(Fault::CutRequest(3));
        assert!(back.is_err() && got == 0);
        let (back, got) = try_with(Fault::CutAnswer(3));
        assert!(back.is_err() && got == 1);
        let (back, got) = try_with(Fault::LoseAnswer);
        assert!(back.is_err() && got == 1);
        let (back, got) = try_with(Fault::FlipAnswer);
        assert_eq!((back.unwrap(), got), ((ok.clone(), "helln".to_owned()), 1));
        let (back, _) = try_with(Fault::Wait(Duration::from_millis(20)));
        assert_eq!(back.unwrap(), (ok, "hello".to_owned()));
        let (back, got) = try_with(Fault::Hang(Duration::from_millis(20)));
        assert!(back.is_err() && got == 0);
    }
}
