//! One server of a store, for programs that are no tests: `servers NAME`.
//!
//! Prints a line of JSON that says how to reach it. To `came` on standard input it answers with a line that says what
//! requests came since the last; at `end` nobody can reach the server any more, and what belongs to it stays. All is gone
//! when standard input ends.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it speaks to the program that started it"
)]

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use alidade_testkit::emulator::{AzureServer, GoogleServer};
use alidade_testkit::proxy::Proxy;
use alidade_testkit::server::{Brand, RestOptions, RestServer, S3Server, SftpServer};
use serde_json::{Value, json};

/// Every server by its name.
const NAMES: [&str; 6] =
    ["versitygw", "minio", "rest-server", "sshd", "azurite", "fake-gcs-server"];

enum Server {
    S3(S3Server),
    Rest(RestServer),
    Sftp(SftpServer),
    Azure(AzureServer),
    Google(GoogleServer),
}

impl Server {
    fn start(name: &str) -> Option<Self> {
        Some(match name {
            "versitygw" => Self::S3(S3Server::start(Brand::Versity)),
            "minio" => Self::S3(S3Server::start(Brand::Minio)),
            "rest-server" => Self::Rest(RestServer::start(RestOptions::default())),
            "sshd" => Self::Sftp(SftpServer::start()),
            "azurite" => Self::Azure(AzureServer::start()),
            "fake-gcs-server" => Self::Google(GoogleServer::start()),
            _ => return None,
        })
    }

    /// Where a proxy can stand before it; nothing where what passes is sealed.
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::S3(server) => Some(server.address()),
            Self::Rest(server) => Some(server.address()),
            Self::Sftp(_) => None,
            Self::Azure(server) => Some(server.address()),
            Self::Google(server) => Some(server.address()),
        }
    }

    /// The place of a repository there, what options it needs, ours and restic's (none where restic cannot be
    /// told of it), and what must be set.
    fn reached(&self, proxy: Option<&Proxy>) -> Value {
        let at = proxy.map(|proxy| proxy.address().to_string()).unwrap_or_default();
        match self {
            Self::S3(server) => {
                let (id, key) = server.key();
                json!({
                    "place": format!("s3:http://{at}/bucket/one"),
                    "options": [],
                    "restic": [],
                    "variables": { "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": key },
                })
            }
            Self::Rest(_) => json!({
                "place": format!("rest:http://{at}/one/"), "options": [], "restic": [], "variables": {},
            }),
            Self::Sftp(server) => json!({
                "place": format!("sftp:store:{}/one", server.data().display()),
                "options": ["--sftp-command", server.ssh()],
                "restic": ["-o", format!("sftp.command={}", server.ssh())],
                "variables": {},
            }),
            Self::Azure(server) => {
                let (account, key) = server.key();
                json!({
                    "place": "azure:bucket:/one",
                    "options": [],
                    "restic": null,
                    "variables": {
                        "AZURE_ACCOUNT_NAME": account,
                        "AZURE_ACCOUNT_KEY": key,
                        "AZURE_STORAGE_ENDPOINT": format!("http://{at}/{account}"),
                    },
                })
            }
            Self::Google(server) => json!({
                "place": "gs:bucket:/one",
                "options": [],
                "restic": [],
                "variables": {
                    "GOOGLE_ACCESS_TOKEN": "token",
                    "GOOGLE_BASE_URL": format!("http://{at}"),
                    // By the JSON API, which is what restic speaks.
                    "STORAGE_EMULATOR_HOST": server.json_address().to_string(),
                },
            }),
        }
    }

    /// Nobody can reach it any more. What clients of it need that is not asked for again stays.
    fn ended(self) -> Option<Self> {
        let Self::Sftp(mut server) = self else { return None };
        server.end();
        Some(Self::Sftp(server))
    }

    /// What came since the last time: requests, or where nobody can look into them how often somebody was let in.
    fn came(&self, proxy: Option<&Proxy>, before: &mut usize) -> Value {
        match (self, proxy) {
            (Self::Sftp(server), _) => {
                let logins = server.logins();
                let new = logins - std::mem::replace(before, logins);
                json!({ "logins": new })
            }
            (_, Some(proxy)) => {
                let count = proxy.seen().len();
                proxy.forget();
                json!({ "requests": count })
            }
            (_, None) => json!({}),
        }
    }
}

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some(server) = Server::start(&name) else {
        eprintln!("error: there is no server `{name}`; there are: {}", NAMES.join(", "));
        return ExitCode::FAILURE;
    };
    let mut proxy = server.address().map(Proxy::before);
    let mut server = Some(server);
    let mut logins = 0;
    say(&server.as_ref().map(|server| server.reached(proxy.as_ref())).unwrap_or_default());
    for word in std::io::stdin().lock().lines().map_while(Result::ok) {
        if word == "end" {
            proxy = None;
            server = server.and_then(Server::ended);
        }
        say(&server
            .as_ref()
            .map(|server| server.came(proxy.as_ref(), &mut logins))
            .unwrap_or_default());
    }
    ExitCode::SUCCESS
}

/// Whoever started it may have gone: then standard input has ended, too.
fn say(what: &Value) {
    println!("{what}");
    drop(std::io::stdout().flush());
}
