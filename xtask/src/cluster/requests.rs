//! Who has asked the API server what, from its own record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::control;
use super::place::Place;
use super::record::Record;

/// One answer, as the API server notes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<Object>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    subresource: Option<String>,
}

/// What was asked.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Request {
    user: String,
    verb: String,
    /// With its part, as `pods/exec`; empty where something else than an object was asked for.
    resource: String,
}

#[derive(Serialize)]
struct Counted {
    #[serde(flatten)]
    request: Request,
    count: u64,
}

/// Prints how often each was asked since the cluster was made.
pub(super) fn run(place: &Place, user: Option<&str>, json: bool) -> Result<()> {
    Record::of(place)?;
    let path = place.at(control::AUDIT);
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let counts =
        count(BufReader::new(file), user).with_context(|| format!("read {}", path.display()))?;
    let counted = counts.into_iter().map(|(request, count)| Counted { request, count });
    if json {
        let document: Vec<Counted> = counted.collect();
        println!("{}", serde_json::to_string_pretty(&document).context("write the counts")?);
        return Ok(());
    }
    for Counted { request: Request { user, verb, resource }, count } in counted {
        println!("{count:>7}  {verb:<10} {resource:<40} {user}");
    }
    Ok(())
}

/// A request is counted once, when it has been answered or, if it is a long one, when its answer
/// begins. The last line may be half written.
fn count(log: impl BufRead, user: Option<&str>) -> Result<BTreeMap<Request, u64>> {
    let mut counts = BTreeMap::new();
    for line in log.split(b'\n') {
        let Ok(event) = serde_json::from_slice::<Event>(&line.context("read a line")?) else {
            continue;
        };
        let is_long = event.verb == "watch";
        let counts_at = if is_long { "ResponseStarted" } else { "ResponseComplete" };
        if event.stage != counts_at || user.is_some_and(|user| user != event.user.username) {
            continue;
        }
        let resource =
            event.object_ref.map_or_else(String::new, |object| match object.subresource {
                Some(part) => format!("{}/{part}", object.resource),
                None => object.resource,
            });
        let request = Request { user: event.user.username, verb: event.verb, resource };
        *counts.entry(request).or_default() += 1;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_once() {
        let line = |stage: &str, verb: &str, user: &str, object: &str| {
            format!(
                r#"{{"stage":"{stage}","verb":"{verb}","user":{{"username":"{user}"}}{object}}}"#
            ) + "\n"
        };
        let pods = r#","objectRef":{"resource":"pods"}"#;
        let exec = r#","objectRef":{"resource":"pods","subresource":"exec"}"#;
        let log = [
            line("ResponseComplete", "get", "anna", pods),
            line("ResponseComplete", "get", "anna", pods),
            line("ResponseComplete", "get", "ben", pods),
            line("ResponseStarted", "watch", "anna", pods),
            line("ResponseComplete", "watch", "anna", pods),
            line("ResponseStarted", "create", "anna", exec),
            line("ResponseComplete", "create", "anna", exec),
            line("ResponseComplete", "get", "anna", ""),
            "{\"stage\":\"Resp".to_owned(),
        ]
        .concat();
        let seen: Vec<String> = count(log.as_bytes(), Some("anna"))
            .unwrap()
            .into_iter()
            .map(|(request, count)| format!("{} {} {count}", request.verb, request.resource))
            .collect();
        assert_eq!(seen, ["create pods/exec 1", "get  1", "get pods 2", "watch pods 1"]);
        assert_eq!(count(log.as_bytes(), None).unwrap().len(), 5);
    }
}
