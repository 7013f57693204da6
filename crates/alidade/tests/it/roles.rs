//! Keys of S3 that are given for a while: to a web identity, to a container, to a machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use alidade_testkit::key_giver::{KeyGiver, Terms};
use alidade_testkit::proxy::{Fault, Proxy, Seen};
use alidade_testkit::server::{Brand, S3Server, free};
use alidade_testkit::tree::Listing;

use crate::bucket::noise;
use crate::world::{Run, World};

const PASSWORD: &str = "secret";
const ROLE: &str = "arn:aws:iam::123456789012:role/backup";
const TOKEN: &str = "a token, with/signs=";
/// How long it may take to be told no: far less than the three minutes for which what may pass is sent again, and
/// long enough for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(60);

/// Variables and their values.
type Environment = BTreeMap<&'static str, String>;

/// A bucket of MinIO that only sessions may use whose keys were given, and are said to be good still: MinIO
/// itself gives none for less than 15 minutes.
struct Sessions {
    world: World,
    server: S3Server,
    proxy: Proxy,
    giver: KeyGiver,
}

impl Sessions {
    /// Keys last so long.
    fn lasting(lasts: Duration) -> Self {
        Self::with(|terms| terms.lasts = lasts)
    }

    fn with(change: impl FnOnce(&mut Terms)) -> Self {
        let server = S3Server::start(Brand::Minio);
        let mut terms = terms();
        change(&mut terms);
        let giver = KeyGiver::start(terms, server.sessions());
        Self::of(server, giver)
    }

    fn of(server: S3Server, giver: KeyGiver) -> Self {
        let proxy = Proxy::before(server.address());
        let is_good = giver.judge();
        proxy.decide(move |seen| guard(&is_good, seen));
        let world = World::new();
        world.write("token", TOKEN.as_bytes());
        Self { world, server, proxy, giver }
    }

    fn place(&self) -> String {
        format!("s3:http://{}/bucket/one", self.proxy.address())
    }

    fn token_file(&self) -> String {
        self.world.path("token").display().to_string()
    }

    /// Who asks how, and with what.
    fn all(&self) -> [(&'static str, Environment); 6] {
        let (url, container) = (self.giver.url(), self.giver.container_url());
        let of = |pairs: &[(&'static str, String)]| pairs.iter().cloned().collect();
        let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container);
        let file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", self.token_file());
        [
            ("identity", self.identity()),
            ("program", self.process()),
            ("container", of(&[full.clone(), file])),
            (
                "container, by a variable",
                of(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN.to_owned())]),
            ),
            ("machine", of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("{url}/"))])),
            ("machine, by the other name", of(&[("AWS_METADATA_ENDPOINT", url)])),
        ]
    }

    /// A profile whose program asks the same server for keys.
    fn process(&self) -> Environment {
        let (url, token) = (self.giver.container_url(), self.token_file());
        let header = format!("printf 'Authorization: %s' \"$(cat {token})\"");
        self.program("right", &format!("{header} | curl -sf -H @- {url}"))
    }

    /// A profile of that program.
    fn program(&self, name: &str, command: &str) -> Environment {
        let text = format!("[profile by-program]\ncredential_process = {command}\n");
        self.world.write(name, text.as_bytes());
        let config = self.world.path(name).display().to_string();
        [("AWS_PROFILE", "by-program".to_owned()), ("AWS_CONFIG_FILE", config)].into()
    }

    fn identity(&self) -> Environment {
        [
            ("AWS_ROLE_ARN", ROLE.to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", self.token_file()),
            ("AWS_ENDPOINT_URL_STS", self.giver.url()),
        ]
        .into()
    }

    fn run(&self, arguments: &[&str], environment: &Environment) -> Run {
        let mut command = self.world.command(arguments);
        command.env("ALIDADE_REPOSITORY", self.place()).env("ALIDADE_PASSWORD", PASSWORD);
        World::of(command.envs(environment).output().unwrap())
    }

    fn ok(&self, arguments: &[&str], environment: &Environment) -> String {
        let run = self.run(arguments, environment);
        assert_eq!(run.code, Some(0), "{arguments:?} {environment:?}: {run}");
        run.out
    }
}

fn terms() -> Terms {
    Terms { lasts: Duration::from_secs(3600), role: Some(ROLE.to_owned()), token: TOKEN.to_owned() }
}

/// What S3 does with a session: nothing without one, and nothing with one that has ended.
fn guard(is_good: &impl Fn(&str) -> bool, seen: &Seen) -> Fault {
    let refusal = |code: &str| {
        Fault::Answer(403, format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
    };
    match seen.field("x-amz-security-token") {
        None => refusal("InvalidAccessKeyId"),
        Some(token) if is_good(token) => Fault::None,
        Some(_) => refusal("ExpiredToken"),
    }
}

#[test]
fn whoever_has_a_role_gets_keys() {
    let sessions = Sessions::lasting(Duration::from_secs(3600));
    sessions.world.write("src/noise", &noise(1));
    let mut given = 0;
    for (number, (who, environment)) in sessions.all().into_iter().enumerate() {
        if number == 0 {
            sessions.ok(&["init"], &environment);
        }
        sessions.ok(&["protect", "src", "-q"], &environment);
        let target = format!("out-{number}");
        sessions.ok(&["restore", "src", "--target", &target, "-q"], &environment);
        let source = sessions.world.path("src");
        let back = sessions.world.path(&target).join(source.strip_prefix("/").unwrap());
        Listing::of(&source).assert_equals(&Listing::of(&back), who);
        sessions.ok(&["check", "--read-data"], &environment);
        // Once for each run, however many requests it takes.
        let runs = if number == 0 { 4 } else { 3 };
        assert_eq!(sessions.giver.given(), given + runs, "{who}");
        given += runs;
    }
    assert_eq!(sessions.giver.refused(), [""; 0]);
    let of_store = |seen: &Seen| !seen.target.starts_with("/bucket");
    assert!(!sessions.proxy.seen().iter().any(of_store), "keys are asked for elsewhere");
    assert!(sessions.server.data().join("one/config").exists());
}

#[test]
fn keys_that_end_during_a_run_are_asked_for_again() {
    let sessions = Sessions::lasting(Duration::from_secs(4));
    for seed in 0..12 {
        sessions.world.write(&format!("src/noise-{seed}"), &noise(seed));
    }
    sessions.ok(&["init"], &sessions.identity());
    for (number, (who, environment)) in sessions.all().into_iter().enumerate().step_by(2) {
        let before = sessions.giver.given();
        // Six seconds at least.
        if number == 0 {
            let slowly = ["--limit-upload", "2M", "--pack-size", "4"];
            sessions.ok(&[&["protect", "src", "-q"][..], &slowly].concat(), &environment);
        } else {
            let target = format!("out-{number}");
            let slowly = ["--limit-download", "2M"];
            let restore = ["restore", "src", "--target", &target, "-q"];
            sessions.ok(&[&restore[..], &slowly].concat(), &environment);
        }
        let given = sessions.giver.given() - before;
        assert!(given > 1, "{who}: given {given} times");
    }
    assert_eq!(sessions.giver.refused(), [""; 0]);
}

/// One line that says what is wrong, and what to do, before anybody loses patience.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "that it ends in time is what is tested")]
fn ends(sessions: &Sessions, environment: &Environment, (code, said, hint): (i32, &str, &str)) {
    for verb in [&["snapshots"][..], &["protect", "src"]] {
        let begun = Instant::now();
        let run = sessions.run(verb, environment);
        assert!(begun.elapsed() < AT_ONCE, "{:?}: {run}", begun.elapsed());
        assert_eq!(run.code, Some(code), "{environment:?}: {run}");
        let error = run.err.lines().next().unwrap_or_default();
        assert!(error.starts_with("error: ") && error.contains(said), "{said}: {run}");
        assert!(run.err.contains("hint: ") && run.err.contains(hint), "{hint}: {run}");
        assert!(!run.err.contains("a token, with"), "the token is a secret: {run}");
    }
}

#[test]
fn who_gets_no_keys_is_told_why() {
    const IDENTITY: &str = "the token, the secret or the file";
    const CONTAINER: &str = "AWS_CONTAINER variables";
    const PROGRAM: &str = "the `credential_process` of the profile by hand";
    const MACHINE: &str = "no credentials are set, and this machine has no role";
    let sessions = Sessions::lasting(Duration::from_secs(3600));
    let wrong = sessions.world.path("wrong");
    sessions.world.write("wrong", b"another token");
    let wrong = wrong.display().to_string();
    let changed = |mut environment: Environment, name: &'static str, value: &str| {
        environment.insert(name, value.to_owned());
        environment
    };
    let without = |mut environment: Environment, name: &str| {
        environment.remove(name);
        environment
    };
    let [_, _, (_, container), ..] = sessions.all();
    let identity = sessions.identity();
    let file = "AWS_WEB_IDENTITY_TOKEN_FILE";
    let container_file = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
    let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    for (environment, told) in [
        (changed(identity.clone(), file, "/no/such/file"), (1, "/no/such/file", IDENTITY)),
        (changed(identity.clone(), file, &wrong), (1, "InvalidIdentityToken", IDENTITY)),
        (changed(identity.clone(), "AWS_ROLE_ARN", "arn:other"), (1, "AccessDenied", IDENTITY)),
        (without(identity.clone(), "AWS_ROLE_ARN"), (2, "AWS_ROLE_ARN", "set both")),
        (without(identity, file), (2, file, "set both")),
        (changed(container.clone(), container_file, "/no/such/file"), (1, "/no/such", CONTAINER)),
        (changed(container.clone(), container_file, &wrong), (1, "401", CONTAINER)),
        (without(container.clone(), container_file), (1, "401", CONTAINER)),
        (sessions.program("fails", "echo no session >&2; exit 3"), (1, "no session", PROGRAM)),
        (sessions.program("odd", "echo no key"), (1, "answered is no key", PROGRAM)),
        (changed(container.clone(), full, "http://192.0.2.1/keys"), (2, "192.0.2.1", "https")),
    ] {
        ends(&sessions, &environment, told);
    }
    let none = Sessions::with(|terms| terms.role = None);
    let [.., (_, machine)] = none.all();
    ends(&none, &machine, (1, "this machine has no role", MACHINE));
    let ended = Sessions::lasting(Duration::ZERO);
    for (_, environment) in ended.all() {
        ends(&ended, &environment, (1, "ExpiredToken", "the store refuses these credentials"));
    }
    // Whoever does not answer may answer later.
    let nobody = format!("http://{}", free());
    let machine: Environment = [("AWS_METADATA_ENDPOINT", nobody)].into();
    let begun = sessions.run(&["snapshots"], &machine);
    assert_eq!(begun.code, Some(14), "{begun}");
    assert!(begun.err.contains(&format!("hint: {MACHINE}")), "{begun}");
}

/// A network of this thread's own, and of all that it starts.
fn own_network(addresses: &[&str]) {
    assert!(rustix::process::getuid().is_root(), "this test makes a network: run it as root");
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let ip = |words: &[&str]| {
        let done = Command::new("ip").args(words).output().unwrap();
        assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    ip(&["link", "set", "lo", "up"]);
    for address in addresses {
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]);
    }
}

#[test]
fn machines_and_containers_are_asked_for_where_clouds_have_them() {
    let alone = std::thread::spawn(|| {
        own_network(&["169.254.169.254", "169.254.170.2"]);
        let server = S3Server::start(Brand::Minio);
        let at = |address: &str| -> SocketAddr { format!("{address}:80").parse().unwrap() };
        let machine = KeyGiver::at(at("169.254.169.254"), terms(), server.sessions());
        let sessions = Sessions::of(server, machine);
        sessions.ok(&["init"], &Environment::new());
        sessions.ok(&["protect", "src", "-q"], &Environment::new());
        assert_eq!(sessions.giver.refused(), [""; 0]);
        let of_machine = sessions.giver.given();
        assert_eq!(of_machine, 2);
        let Sessions { world, server, proxy, giver } = sessions;
        drop((proxy, giver));
        let container = KeyGiver::at(at("169.254.170.2"), terms(), server.sessions());
        let sessions = Sessions { world, ..Sessions::of(server, container) };
        let environment: Environment = [
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/container/keys".to_owned()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN.to_owned()),
        ]
        .into();
        sessions.ok(&["restore", "src", "--target", "out", "-q"], &environment);
        assert_eq!((sessions.giver.given(), sessions.giver.refused()), (1, Vec::new()));
    });
    alone.join().unwrap();
}
