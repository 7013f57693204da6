//! A line that is far away: what a server answers comes later, all of it by the same time.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use alidade_entity::{Cancel, Cx};
use anyhow::{Context, Result};

/// Bytes that are read at once, and how many of these may be on their way: the line is as wide as 64 MiB in
/// the time of one delay.
const PIECE: usize = 64 << 10;
const PIECES: usize = 1024;

/// Passes connections on to a server until it is dropped.
pub(super) struct Delay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Delay {
    /// Listens at `address`, and hands on each byte that the server sends so long after it came.
    pub(super) fn before(address: SocketAddr, server: SocketAddr, by: Duration) -> Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("listen at {address}"))?;
        let address = listener.local_addr().context("find where the delay listens")?;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let listener = thread::spawn(move || {
            for client in listener.incoming().map_while(io::Result::ok) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                // Either end may hang up at any time, and the other learns of it.
                thread::spawn(move || drop(pass(client, server, by)));
            }
        });
        Ok(Self { address, stop, listener: Some(listener) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The listener sees it at its next connection.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

/// One connection: requests at once, answers late.
fn pass(client: TcpStream, server: SocketAddr, by: Duration) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (mut asking, mut asked) = (client.try_clone()?, server.try_clone()?);
    let requests = thread::spawn(move || {
        let passed = io::copy(&mut asking, &mut asked);
        // That there will be no more of them is part of what is passed on.
        passed.and(asked.shutdown(Shutdown::Write))
    });
    let cx = Cx::system(Cancel::default());
    let (sender, receiver) = sync_channel(PIECES);
    let writer = {
        let cx = cx.clone();
        thread::spawn(move || write_late(&cx, client, &receiver))
    };
    let read = read(&cx, server, by, &sender);
    drop(sender);
    drop((writer.join(), requests.join()));
    read
}

/// A piece of an answer, and when it may be handed on.
type Piece = (Duration, Vec<u8>);

fn read(
    cx: &Cx,
    mut server: TcpStream,
    by: Duration,
    sender: &SyncSender<Piece>,
) -> io::Result<()> {
    let mut buf = vec![0; PIECE];
    loop {
        let len = server.read(&mut buf)?;
        let piece = (cx.clock().elapsed() + by, buf[..len].to_vec());
        if len == 0 || sender.send(piece).is_err() {
            return Ok(());
        }
    }
}

fn write_late(cx: &Cx, mut client: TcpStream, receiver: &Receiver<Piece>) -> io::Result<()> {
    for (due, bytes) in receiver {
        let early = due.saturating_sub(cx.clock().elapsed());
        if !early.is_zero() {
            cx.clock().sleep(early);
        }
        client.write_all(&bytes)?;
    }
    client.shutdown(Shutdown::Both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_late_and_whole_and_a_long_one_no_later() {
        const LEN: usize = 3 << 20;
        let by = Duration::from_millis(50);
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let serving = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut asked = [0; 1];
            while stream.read(&mut asked).unwrap() == 1 {
                stream.write_all(&vec![asked[0]; LEN]).unwrap();
            }
        });
        let delay = Delay::before("127.0.0.1:0".parse().unwrap(), address, by).unwrap();
        let cx = Cx::system(Cancel::default());
        let mut stream = TcpStream::connect(delay.address()).unwrap();
        for asked in [1, 2] {
            let begun = cx.clock().elapsed();
            stream.write_all(&[asked]).unwrap();
            let mut answer = vec![0; LEN];
            stream.read_exact(&mut answer).unwrap();
            let took = cx.clock().elapsed() - begun;
            assert!(answer.iter().all(|byte| *byte == asked));
            assert!(took >= by && took < by * 10, "{took:?}");
        }
        drop(stream);
        serving.join().unwrap();
    }
}
