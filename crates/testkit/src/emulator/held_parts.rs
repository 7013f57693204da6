//! What goes in parts by Google's XML API. fake-gcs-server takes none of it; they are held here until the last, as
//! strictly as Google holds them, and then are one put of the JSON API.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every part but the last has this many bytes at least.
const LEAST: usize = 5 << 20;

/// Uploads that are under way, by their number.
#[derive(Debug, Default)]
pub(super) struct HeldParts {
    uploads: Mutex<BTreeMap<u64, Upload>>,
}

#[derive(Debug, Default)]
struct Upload {
    target: String,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// What becomes of a request.
pub(super) enum Held {
    /// It is answered so: the status, fields, and the body.
    Answer(&'static str, String, String),
    /// All parts are there: this is to be put at that path.
    Whole(String, Vec<u8>),
}

impl HeldParts {
    /// Takes a request that belongs to an upload in parts, by its method, path and query.
    pub(super) fn take(&self, method: &str, path: &str, query: &str, body: Vec<u8>) -> Held {
        let word = |name: &str| {
            let mut words = query.split('&').filter_map(|word| word.split_once('='));
            words.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let mut uploads = self.lock();
        if method == "POST" && query.starts_with("uploads") {
            let number = uploads.last_key_value().map_or(1, |(last, _)| last + 1);
            uploads.insert(number, Upload { target: path.to_owned(), ..Upload::default() });
            let id = format!("<UploadId>{number}</UploadId>");
            return xml(&format!(
                "<InitiateMultipartUploadResult>{id}</InitiateMultipartUploadResult>"
            ));
        }
        let number = word("uploadId").and_then(|id| id.parse().ok()).unwrap_or(0);
        let Some(upload) = uploads.get_mut(&number).filter(|upload| upload.target == path) else {
            return refused("404 Not Found", "NoSuchUpload");
        };
        match (method, word("partNumber").and_then(|number| number.parse().ok())) {
            ("PUT", Some(part)) if (1..=10_000).contains(&part) => {
                let tag = tag(&body);
                upload.parts.insert(part, body);
                Held::Answer("200 OK", format!("ETag: {tag}\r\n"), String::new())
            }
            ("DELETE", None) => {
                uploads.remove(&number);
                Held::Answer("204 No Content", String::new(), String::new())
            }
            ("POST", None) => match upload.whole(&String::from_utf8_lossy(&body)) {
                Ok(whole) => {
                    uploads.remove(&number);
                    Held::Whole(path.to_owned(), whole)
                }
                Err(code) => refused("400 Bad Request", code),
            },
            _ => refused("400 Bad Request", "InvalidArgument"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Upload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// The parts that a list names, one after the other.
    fn whole(&self, list: &str) -> Result<Vec<u8>, &'static str> {
        let mut whole = Vec::new();
        let mut named: Vec<(u32, String)> = Vec::new();
        for part in list.split("<Part>").skip(1) {
            let number = between(part, "PartNumber").and_then(|number| number.parse().ok());
            let number = number.ok_or("MalformedXML")?;
            if named.last().is_some_and(|(before, _)| *before >= number) {
                return Err("InvalidPartOrder");
            }
            named.push((number, between(part, "ETag").ok_or("MalformedXML")?.to_owned()));
        }
        let last = named.last().ok_or("MalformedXML")?.0;
        for (number, said) in named {
            let part = self.parts.get(&number).ok_or("InvalidPart")?;
            if tag(part) != said.replace("&quot;", "\"") {
                return Err("InvalidPart");
            }
            if number < last && part.len() < LEAST {
                return Err("EntityTooSmall");
            }
            whole.extend_from_slice(part);
        }
        Ok(whole)
    }
}

/// What stands in that element.
fn between<'a>(text: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{element}>"))?;
    Some(rest.split_once(&format!("</{element}>"))?.0)
}

/// What tells a part from others.
fn tag(part: &[u8]) -> String {
    let sum = part.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    format!("\"{}-{sum:x}\"", part.len())
}

fn xml(body: &str) -> Held {
    Held::Answer("200 OK", "Content-Type: application/xml\r\n".to_owned(), body.to_owned())
}

fn refused(status: &'static str, code: &str) -> Held {
    Held::Answer(status, String::new(), format!("<Error><Code>{code}</Code></Error>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(parts: &[(u32, &[u8])]) -> Vec<u8> {
        let part = |(number, bytes): &(u32, &[u8])| {
            let tag = tag(bytes);
            format!("<Part><ETag>{tag}</ETag><PartNumber>{number}</PartNumber></Part>")
        };
        parts.iter().map(part).collect::<String>().into_bytes()
    }

    #[test]
    fn parts_are_whole_in_their_order_and_not_before() {
        let held = HeldParts::default();
        let begun = held.take("POST", "/b/a", "uploads=", Vec::new());
        assert!(matches!(begun, Held::Answer("200 OK", _, body) if body.contains(">1<")));
        let (large, small) = (vec![1; LEAST], vec![2; 3]);
        held.take("PUT", "/b/a", "partNumber=2&uploadId=1", small.clone());
        held.take("PUT", "/b/a", "partNumber=1&uploadId=1", large.clone());
        let end = |parts: &[(u32, &[u8])]| held.take("POST", "/b/a", "uploadId=1", list(parts));
        for wrong in [
            &[(2, &small[..]), (1, &large[..])][..],
            &[(1, &small[..]), (2, &small[..])],
            &[(1, &large[..]), (3, &small[..])],
            &[],
        ] {
            assert!(matches!(end(wrong), Held::Answer("400 Bad Request", ..)));
        }
        let other = held.take("POST", "/b/other", "uploadId=1", list(&[(1, &large)]));
        assert!(matches!(other, Held::Answer("404 Not Found", ..)));
        let whole = end(&[(1, &large), (2, &small)]);
        assert!(matches!(whole, Held::Whole(_, bytes) if bytes == [large, small].concat()));
        assert!(matches!(end(&[(1, &[])]), Held::Answer("404 Not Found", ..)));
    }

    #[test]
    fn a_small_part_is_the_last_or_none() {
        let held = HeldParts::default();
        held.take("POST", "/b/a", "uploads=", Vec::new());
        for part in 1..=2 {
            held.take("PUT", "/b/a", &format!("partNumber={part}&uploadId=1"), vec![0; 9]);
        }
        let nine: &[u8] = &[0; 9];
        let both = held.take("POST", "/b/a", "uploadId=1", list(&[(1, nine), (2, nine)]));
        assert!(matches!(both, Held::Answer(_, _, body) if body.contains("EntityTooSmall")));
        let gone = held.take("DELETE", "/b/a", "uploadId=1", Vec::new());
        assert!(matches!(gone, Held::Answer("204 No Content", ..)));
    }
}
