//! fake-gcs-server takes no put of Google's XML API: it answers `invalid uploadType`. This stands before it, and
//! makes of such a put, whole or in parts, one of the JSON API, with its condition. All else passes as it is.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::held_parts::{Held, HeldParts};
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
        let held = Arc::new(HeldParts::default());
        let listener = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let held = Arc::clone(&held);
                // A connection that breaks is the business of its ends.
                std::thread::spawn(move || drop(serve(server, client, &held)));
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

fn serve(server: SocketAddr, mut client: TcpStream, held: &HeldParts) -> io::Result<()> {
    let head = Head::read(&mut client)?;
    if let Some((method, path, query)) = of_parts(&head) {
        let mut body = Vec::new();
        copy(&mut client, &head, head.len(), &mut body)?;
        let (status, fields, body) = match held.take(method, path, query, body) {
            Held::Answer(status, fields, body) => (status, fields, body),
            Held::Whole(path, bytes) => put(server, &path, &bytes)?,
        };
        let len = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {len}\r\nConnection: close\r\n\r\n"
        );
        return client.write_all(format!("{head}{body}").as_bytes());
    }
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

/// Method, path and query of a request of an upload in parts; nothing when it is none.
fn of_parts(head: &Head) -> Option<(&str, &str, &str)> {
    let mut words = head.text.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?')?;
    let is_one =
        query.split('&').any(|word| word.starts_with("uploads") || word.starts_with("uploadId="));
    is_one.then_some((method, path, query))
}

/// Puts what came in parts, and how that is answered.
fn put(server: SocketAddr, path: &str, bytes: &[u8]) -> io::Result<(&'static str, String, String)> {
    let (bucket, name) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    let mut server = TcpStream::connect(server)?;
    let (line, len) = (json_line(bucket, name, ""), bytes.len());
    let head =
        format!("{line}\r\nHost: google\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    server.write_all(head.as_bytes())?;
    server.write_all(bytes)?;
    let back = Head::read(&mut server)?;
    if !back.text.starts_with("HTTP/1.1 200") {
        return Ok(("500 Internal Server Error", String::new(), back.text));
    }
    let body = "<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>";
    Ok(("200 OK", "x-goog-generation: 1\r\n".to_owned(), body.to_owned()))
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
    Some(json_line(bucket, name, &condition.unwrap_or_default()))
}

fn json_line(bucket: &str, name: &str, condition: &str) -> String {
    format!("POST /upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}{condition} HTTP/1.1")
}
