//! fake-gcs-server takes no put of Google's XML API: it answers `invalid uploadType`. This stands before it, and
//! makes of such a put one of the JSON API, with its condition. All else passes as it is.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::proxy::{Head, copy};

/// Translates until it is dropped.
#[derive(Debug)]
pub(super) struct JsonPut {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl JsonPut {
    pub(super) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it listens");
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let listener = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                // A connection that breaks is the business of its ends.
                std::thread::spawn(move || drop(serve(server, client)));
            }
        });
        Self { address, stop, listener: Some(listener) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for JsonPut {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The listener sees it at its next connection.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

fn serve(server: SocketAddr, mut client: TcpStream) -> io::Result<()> {
    let head = Head::read(&mut client)?;
    let translated = translated(&head);
    let mut server = TcpStream::connect(server)?;
    let (first, rest) = head.closing().split_once("\r\n").map_or_else(
        || (String::new(), String::new()),
        |(first, rest)| (first.to_owned(), rest.to_owned()),
    );
    let first = translated.clone().unwrap_or(first);
    server.write_all(format!("{first}\r\n{rest}").as_bytes())?;
    copy(&mut client, &head, head.len(), &mut server)?;
    let back = Head::read(&mut server)?;
    if translated.is_some() && back.text.starts_with("HTTP/1.1 200") {
        // The XML API answers by fields alone.
        let answer = "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nx-goog-generation: 1\r\n\
                      Content-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(answer.as_bytes());
    }
    client.write_all(back.closing().as_bytes())?;
    client.write_all(back.rest())?;
    io::copy(&mut server, &mut client).map(drop)
}

/// The first line of the same put by the JSON API; nothing when it is none.
fn translated(head: &Head) -> Option<String> {
    let mut words = head.text.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let (bucket, name) = target.strip_prefix('/')?.split_once('/')?;
    if method != "PUT" || bucket == "upload" || target.contains('?') {
        return None;
    }
    let condition = head.field("x-goog-if-generation-match");
    let condition = condition.map(|number| format!("&ifGenerationMatch={number}"));
    Some(format!(
        "POST /upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}{} HTTP/1.1",
        condition.unwrap_or_default()
    ))
}
