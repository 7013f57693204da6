//! One connection to a server: the program that carries it, and the requests that are under way on it.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alidade_entity::Cx;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::packet::{self, Ask, Reply};
use crate::location::SftpServer;
use crate::traffic::Meter;

/// Packets that wait to be written at most.
const QUEUE: usize = 64;
/// How much of what the program says of itself is kept.
const LAST_WORDS: usize = 4 << 10;
/// How long the program may take to end, and to say why.
const FAREWELL: Duration = Duration::from_secs(1);
/// What the program says that no time mends, and whether it is a refusal of this user.
const FINAL: [(&str, bool); 5] = [
    ("Host key verification failed", false),
    ("Permission denied (", true),
    ("Too many authentication failures", true),
    ("subsystem request failed", false),
    ("Bad configuration option", false),
];
/// How a shell ends that cannot run a program.
const NO_PROGRAM: [i32; 2] = [126, 127];

/// Why something could not be done.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// The connection is gone; another may do.
    Lost(String),
    /// No connection will do.
    Final { kind: ErrorKind, said: String },
    /// The server says no.
    Status { code: u32, message: String },
    /// A file of that name is there.
    Exists,
}

/// What a connection needs to be made.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) server: SftpServer,
    /// What carries it; `None` is `ssh`.
    pub(super) command: Option<String>,
    /// How long nothing may come while something is waited for.
    pub(super) silence: Duration,
    pub(super) meter: Arc<Meter>,
}

impl Way {
    /// The program that speaks with the server. What a terminal sends to all that run on it does not end it: the
    /// run that uses it says when.
    fn program(&self) -> Command {
        let mut shell = Command::new("sh");
        let SftpServer { user, host, port } = &self.server;
        match &self.command {
            Some(line) => {
                shell.args(["-c", &format!("trap '' INT; exec {line}")]);
            }
            None => {
                shell.args(["-c", "trap '' INT; exec \"$@\"", "sh", "ssh"]);
                if let Some(port) = port {
                    shell.args(["-p", &port.to_string()]);
                }
                if let Some(user) = user {
                    shell.args(["-l", user]);
                }
                shell.args([host, "-s", "sftp"]);
            }
        }
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.kill_on_drop(true);
        shell
    }
}

/// A connection. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Session {
    asks: mpsc::Sender<Bytes>,
    waiting: Arc<Waiting>,
    next: AtomicU32,
    knows: Vec<String>,
    /// What begins every name that is made up on it.
    mark: String,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Session {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Session {
    /// Runs the program, and greets the server.
    pub(super) async fn connect(way: &Way, cx: &Cx) -> Result<Self, Failed> {
        let mark = mark(cx)?;
        let mut child = way.program().spawn().map_err(|error| Failed::Final {
            kind: ErrorKind::Other,
            said: format!("the program that reaches the server does not start: {error}"),
        })?;
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failed::Lost("the program has no standard streams".to_owned()));
        };
        let mut process = Process { child, words: Words::kept(stderr) };
        let greeted = timeout(way.silence, async {
            match stdin.write_all(&packet::greeting()).await {
                // It has ended already; what it said before says more.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
                _ => next_packet(&mut stdout).await,
            }
        });
        let knows = match greeted.await {
            Err(_late) => return Err(process.fate("the server does not answer").await),
            Ok(Err(error)) => return Err(process.fate(&error.to_string()).await),
            Ok(Ok(greeting)) => match packet::version(greeting) {
                Ok((packet::VERSION.., knows)) => knows,
                _ => return Err(process.fate("the server does not speak SFTP version 3").await),
            },
        };
        let waiting = Arc::new(Waiting::default());
        let (asks, queue) = mpsc::channel(QUEUE);
        let reader = Reader {
            stdout,
            waiting: Arc::clone(&waiting),
            silence: way.silence,
            meter: Arc::clone(&way.meter),
        };
        let tasks = [tokio::spawn(write(stdin, queue)), tokio::spawn(reader.attend(process))];
        Ok(Self { asks, waiting, next: AtomicU32::new(1), knows, mark, tasks })
    }

    /// Whether it is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.waiting.lock().lost.is_some()
    }

    /// Whether the server knows that extension.
    pub(super) fn knows(&self, extension: &str) -> bool {
        self.knows.iter().any(|known| known == extension)
    }

    /// Letters that nobody else makes up.
    pub(super) fn unique(&self) -> String {
        format!("{}{:x}", self.mark, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a request and waits for its answer. Who stops waiting leaves the connection whole.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Reply, Failed> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let answer = self.waiting.begin(id)?;
        if self.asks.send(ask.packet(id)).await.is_err() {
            return Err(self.waiting.why());
        }
        answer.await.map_err(|_gone| self.waiting.why())
    }

    /// The same of a request that is answered by a status alone.
    pub(super) async fn done(&self, ask: Ask<'_>) -> Result<(), Failed> {
        match self.ask(ask).await? {
            Reply::Status { code: packet::OK, .. } => Ok(()),
            reply => Err(refused(reply)),
        }
    }
}

/// Letters that nobody else makes up.
pub(super) fn mark(cx: &Cx) -> Result<String, Failed> {
    let mut chance = [0; 8];
    cx.fill(&mut chance)
        .map_err(|error| Failed::Final { kind: ErrorKind::Other, said: error.to_string() })?;
    Ok(chance.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// An answer that is not the one that was hoped for.
pub(super) fn refused(reply: Reply) -> Failed {
    match reply {
        Reply::Status { code, message } => Failed::Status { code, message },
        _ => Failed::Lost("the server answers what was not asked".to_owned()),
    }
}

/// The requests under way, until the connection is lost.
#[derive(Debug, Default)]
struct Waiting {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<u32, oneshot::Sender<Reply>>,
    lost: Option<Failed>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: u32) -> Result<oneshot::Receiver<Reply>, Failed> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        match &state.lost {
            Some(lost) => Err(lost.clone()),
            None => {
                state.open.insert(id, sender);
                Ok(receiver)
            }
        }
    }

    /// Gives an answer to who asked; nobody may wait for it any more.
    fn give(&self, id: u32, reply: Reply) {
        if let Some(sender) = self.lock().open.remove(&id) {
            drop(sender.send(reply));
        }
    }

    fn is_busy(&self) -> bool {
        !self.lock().open.is_empty()
    }

    /// Tells all who wait that nothing comes any more.
    fn lose(&self, why: Failed) {
        let mut state = self.lock();
        state.lost = Some(why);
        state.open.clear();
    }

    fn why(&self) -> Failed {
        let lost = self.lock().lost.clone();
        lost.unwrap_or_else(|| Failed::Lost("the connection ended".to_owned()))
    }
}

/// Writes packets whole, whoever stops waiting for the answer. When it cannot, the reader sees the end.
async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(packet) = queue.recv().await {
        if stdin.write_all(&packet).await.is_err() {
            return;
        }
    }
}

/// Takes answers from the connection.
struct Reader {
    stdout: ChildStdout,
    waiting: Arc<Waiting>,
    silence: Duration,
    meter: Arc<Meter>,
}

impl Reader {
    /// Gives answers to who asked, until there are none any more; then says why.
    async fn attend(mut self, mut process: Process) {
        let why = loop {
            match self.one().await {
                Ok(()) => {}
                Err(why) => break why,
            }
        };
        let fate = process.fate(&why).await;
        self.waiting.lose(fate);
    }

    async fn one(&mut self) -> Result<(), String> {
        let mut next = pin!(next_packet(&mut self.stdout));
        let mut was_busy = false;
        let packet = loop {
            match timeout(self.silence / 2, &mut next).await {
                Ok(packet) => break packet.map_err(|error| error.to_string())?,
                Err(_late) if was_busy && self.waiting.is_busy() => {
                    return Err("the server says nothing any more".to_owned());
                }
                Err(_late) => was_busy = self.waiting.is_busy(),
            }
        };
        let len = packet.len() as u64;
        let (id, reply) = packet::reply(packet).map_err(|packet::Malformed| NOT_SFTP.to_owned())?;
        let content = match &reply {
            Reply::Data(data) => data.len() as u64,
            Reply::Names(_) => len,
            _ => 0,
        };
        let wait = if content > 0 { self.meter.arrived(content) } else { Duration::ZERO };
        if !wait.is_zero() {
            sleep(wait).await;
        }
        self.waiting.give(id, reply);
        Ok(())
    }
}

const NOT_SFTP: &str = "the server sends what is not SFTP: a login there may print something";

/// The next packet, without its length.
async fn next_packet(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let len = match from.read_u32().await {
        Ok(len) => usize::try_from(len).unwrap_or(usize::MAX),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(io::Error::other("the connection ended"));
        }
        Err(error) => return Err(error),
    };
    if len > packet::LONGEST {
        return Err(io::Error::other(NOT_SFTP));
    }
    let mut packet = BytesMut::zeroed(len);
    from.read_exact(&mut packet).await?;
    Ok(packet.freeze())
}

/// The program that carries the connection, and what it says.
struct Process {
    child: Child,
    words: Words,
}

impl Process {
    /// Ends the program; what it says itself says most.
    async fn fate(&mut self, why: &str) -> Failed {
        let ended = match timeout(FAREWELL, self.child.wait()).await {
            Ok(Ok(status)) => status.code(),
            Ok(Err(_)) | Err(_) => {
                drop(self.child.start_kill());
                None
            }
        };
        let said = self.words.last().await;
        let is_absent = ended.is_some_and(|code| NO_PROGRAM.contains(&code));
        let found = FINAL.iter().find(|(words, _)| said.contains(words));
        let said = if said.is_empty() { why.to_owned() } else { said };
        match found {
            Some((_, true)) => Failed::Final { kind: ErrorKind::PermissionDenied, said },
            Some((_, false)) => Failed::Final { kind: ErrorKind::Other, said },
            None if is_absent => Failed::Final {
                kind: ErrorKind::Other,
                said: format!("the program that reaches the server does not start: {said}"),
            },
            None => Failed::Lost(said),
        }
    }
}

/// What a program writes on its standard error, the end of it.
struct Words {
    kept: Arc<Mutex<Vec<u8>>>,
    listener: JoinHandle<()>,
}

impl Words {
    fn kept(mut stderr: ChildStderr) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&kept);
        let listener = tokio::spawn(async move {
            let mut piece = [0; 1024];
            while let Ok(len @ 1..) = stderr.read(&mut piece).await {
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&piece[..len]);
                let older = kept.len().saturating_sub(LAST_WORDS);
                kept.drain(..older);
            }
        });
        Self { kept, listener }
    }

    /// The last two lines. A program that stays behind may keep the stream open; it is not waited for long.
    async fn last(&mut self) -> String {
        if timeout(FAREWELL, &mut self.listener).await.is_err() {
            self.listener.abort();
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut last: Vec<&str> = lines.rev().take(2).collect();
        last.reverse();
        last.join("; ")
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    async fn fails(line: &str, silence: Duration) -> Failed {
        let server = SftpServer { user: None, host: "none".to_owned(), port: None };
        let meter = Meter::new(None, None);
        let way = Way { server, command: Some(line.to_owned()), silence, meter };
        Session::connect(&way, &Cx::system(Cancel::default())).await.unwrap_err()
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn a_program_that_carries_no_sftp_says_why_it_does_not() {
        let second = Duration::from_secs(1);
        for (line, is_final, words) in [
            ("sh -c 'echo one >&2; echo two >&2; echo three >&2; exit 255'", false, "two; three"),
            ("sh -c 'echo \"Host key verification failed.\" >&2; exit 255'", true, "Host key"),
            ("sh -c 'echo \"a@b: Permission denied (publickey).\" >&2; exit 255'", true, "denied"),
            ("/no/such/program", true, "/no/such/program"),
            ("echo Welcome to this machine", false, "is not SFTP"),
            ("true", false, "the connection ended"),
            ("sleep 60", false, "does not answer"),
        ] {
            match block(fails(line, second)) {
                Failed::Lost(said) => assert!(!is_final && said.contains(words), "{line}: {said}"),
                Failed::Final { said, .. } => {
                    assert!(is_final && said.contains(words), "{line}: {said}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_server_that_falls_silent_is_lost() {
        // A greeting, then nothing.
        let line = r"sh -c 'printf \\000\\000\\000\\005\\002\\000\\000\\000\\003; exec sleep 60'";
        let server = SftpServer { user: None, host: "none".to_owned(), port: None };
        let way = Way {
            server,
            command: Some(line.to_owned()),
            silence: Duration::from_millis(500),
            meter: Meter::new(None, None),
        };
        let failed = block(async {
            let session = Session::connect(&way, &Cx::system(Cancel::default())).await.unwrap();
            session.done(Ask::Stat("x")).await.unwrap_err()
        });
        assert!(
            matches!(&failed, Failed::Lost(why) if why.contains("nothing any more")),
            "{failed:?}"
        );
    }
}
