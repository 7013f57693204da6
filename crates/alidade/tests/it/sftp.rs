//! Repositories on another machine that `ssh` reaches: OpenSSH's own server and client.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use alidade_testkit::server::{SftpServer, free};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::away::{Away, files};
use crate::world::World;

/// A repository on that server, by the command that reaches it.
fn away(server: &SftpServer) -> Away {
    let mut away = Away::at(format!("sftp:store:{}/backups/one", server.data().display()));
    away.options = vec!["--sftp-command".to_owned(), server.ssh()];
    away.restic_options = vec!["-o".to_owned(), format!("sftp.command={}", server.ssh())];
    away
}

/// The same, made, with a source of some packs.
fn made(server: &SftpServer) -> Away {
    let away = away(server).with_noise(12);
    away.ok(&["init"]);
    away
}

/// Waits until so many packs are there.
fn wait_for_packs(server: &SftpServer, count: usize) {
    for _ in 0..1000 {
        if files(server.data().join("backups/one/data")).0.len() >= count {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("there are no {count} packs after 20 seconds");
}

#[test]
fn a_repository_over_sftp_is_as_good_as_one_in_a_directory() {
    let server = SftpServer::start();
    away(&server).with_noise(6).is_as_good_as_a_directory();
    let (_, odd) = files(server.data());
    assert!(odd.is_empty(), "{odd:?}");
}

#[test]
fn the_users_own_ssh_is_told_the_host_the_port_and_the_user() {
    let server = SftpServer::start();
    let user =
        String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout);
    let (user, data) = (user.unwrap(), server.data());
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", server.path().display());
    for place in [
        format!("sftp:store:{}/a", data.display()),
        format!(
            "sftp://{}@127.0.0.1:{}/{}/b",
            user.trim(),
            server.address().port(),
            data.display()
        ),
    ] {
        let mut away = Away::at(place).with_noise(6);
        away.variables = vec![("PATH", path.clone())];
        away.is_as_good_as_a_directory();
    }
}

#[test]
fn requests_over_sftp_are_counted() {
    let server = SftpServer::start();
    let away = made(&server);
    let first = away.json(&["protect", "src", "--pack-size", "4"]);
    let traffic = |doc: &Value, kind: &str| doc["traffic"]["requests"][kind].as_u64().unwrap_or(0);
    let (packs, _) = files(server.data().join("backups/one/data"));
    // The packs, an index file, a snapshot, a lock.
    assert_eq!(traffic(&first, "put"), packs.len() as u64 + 3, "{first:#}");
    assert_eq!(traffic(&first, "delete"), 1, "{first:#}");
    let stored: u64 = packs.iter().map(|path| path.metadata().unwrap().len()).sum();
    let sent = first["traffic"]["sent"].as_u64().unwrap();
    assert!(sent > stored && sent < stored + (64 << 10), "{sent} of {stored}");
    let checked = away.json(&["check", "--read-data", "--no-cache"]);
    let received = checked["outcome"]["traffic"]["received"].as_u64().unwrap_or_default();
    assert!(received >= stored, "{received} of {stored}: {checked:#}");
}

#[test]
fn a_large_pack_goes_over_sftp_in_parts() {
    let server = SftpServer::start();
    let away = made(&server).with_noise(70);
    away.ok(&["protect", "src", "-q", "--pack-size", "128"]);
    let (packs, odd) = files(server.data());
    assert!(packs.iter().any(|path| path.metadata().unwrap().len() > 64 << 20), "no large pack");
    assert!(odd.is_empty(), "{odd:?}");
    away.comes_back("out");
    away.restic(&["check", "--read-data"]);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long it takes at least is what is tested")]
fn what_goes_over_sftp_is_limited() {
    let server = SftpServer::start();
    let away = made(&server);
    let begun = Instant::now();
    away.ok(&["protect", "src", "-q", "--limit-upload", "4M", "--pack-size", "4"]);
    // Twelve MiB; the last piece is not waited for.
    assert!(begun.elapsed() > Duration::from_millis(2000), "{:?}", begun.elapsed());
    let begun = Instant::now();
    away.ok(&["restore", "src", "--target", "out", "-q", "--limit-download", "4M"]);
    assert!(begun.elapsed() > Duration::from_millis(2000), "{:?}", begun.elapsed());
}

#[test]
fn a_connection_that_breaks_is_made_again_and_nothing_is_lost() {
    let server = SftpServer::start();
    let away = made(&server);
    let options = ["--limit-upload", "2M", "--pack-size", "4", "-o", "json"];
    let running = away.begin(&[&["protect", "src"], &options[..]].concat());
    let mut cuts = 0;
    for packs in 1..=2 {
        wait_for_packs(&server, packs);
        cuts += usize::from(server.cut() > 0);
    }
    let ended = World::of(running.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(cuts > 0, "nothing was cut");
    let outcome: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(outcome["status"], "done", "{ended}");
    away.comes_back("out");
    away.ok(&["check", "--read-data", "--no-cache"]);
    away.restic(&["check", "--read-data"]);
}

#[test]
fn a_connection_that_breaks_while_it_is_read_is_made_again() {
    let server = SftpServer::start();
    let away = made(&server);
    away.ok(&["protect", "src", "-q", "--pack-size", "4"]);
    let running =
        away.begin(&["restore", "src", "--target", "out", "-q", "--limit-download", "4M"]);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(500));
        server.cut();
    }
    let ended = World::of(running.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended}");
    away.comes_back("again");
}

#[test]
fn a_server_that_goes_away_ends_a_run_over_sftp_with_14_and_the_next_one_goes_on() {
    let mut server = SftpServer::start();
    let away = made(&server);
    let options = ["--limit-upload", "4M", "--pack-size", "4", "--retry-store", "2s"];
    let running = away.begin(&[&["protect", "src"], &options[..]].concat());
    wait_for_packs(&server, 1);
    server.end();
    let ended = World::of(running.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(14), "{ended}");
    assert!(ended.err.contains("error: ") && ended.err.contains("hint: "), "{ended}");
    assert!(ended.err.contains("Connection refused"), "{ended}");
    server.begin_again();
    // What the killed server left is no file of the repository.
    away.ok(&["unlock"]);
    away.ok(&["protect", "src", "-q"]);
    away.comes_back("out");
    away.ok(&["check", "--read-data"]);
}

#[test]
fn a_run_that_is_interrupted_removes_its_lock_over_sftp() {
    let server = SftpServer::start();
    let away = made(&server);
    let mut command = away.command(&["protect", "src", "--limit-upload", "1M", "--pack-size", "4"]);
    let before = server.logins();
    // As at a terminal: all programs of the group are told.
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().unwrap();
    wait_for_packs(&server, 1);
    let group = Pid::from_raw(running.id().try_into().unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    let ended = World::of(running.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{ended}");
    assert_eq!(server.logins() - before, 1, "nobody is asked for a password once more");
    let (locks, _) = files(server.data().join("backups/one/locks"));
    assert!(locks.is_empty(), "{locks:?}");
    away.ok(&["protect", "src", "-q"]);
    away.comes_back("out");
}

#[test]
fn a_server_with_another_key_is_not_spoken_with() {
    let server = SftpServer::start();
    let away = made(&server);
    server.is_taken_for_another();
    let run = away.run(&["snapshots"]);
    assert_eq!(run.code, Some(14), "{run}");
    assert!(run.err.contains("Host key verification failed"), "{run}");
    assert!(run.err.contains("hint: `ssh` does not know the server by its key"), "{run}");
}

#[test]
fn who_is_not_let_in_is_told_how_to_look() {
    let server = SftpServer::start();
    let mut away = made(&server);
    let command = server.ssh().replace(" store ", " -o PubkeyAuthentication=no store ");
    away.options = vec!["--sftp-command".to_owned(), command];
    let run = away.run(&["snapshots"]);
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.err.contains("hint: the server lets nobody in"), "{run}");
}

#[test]
fn what_the_account_may_not_do_is_told() {
    let server = SftpServer::start_read_only();
    let refused = away(&server).run(&["init"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.err.contains("hint: the account on the server may not do that"), "{refused}");
    // What can be read is, without a lock.
    let path = server.data().join("here");
    let local = World::new();
    let place = path.to_str().unwrap();
    let with = |arguments: &[&str]| {
        let mut command = local.command(&[arguments, &["-r", place]].concat());
        World::of(command.env("ALIDADE_PASSWORD", crate::away::PASSWORD).output().unwrap())
    };
    assert_eq!(with(&["init"]).code, Some(0));
    assert_eq!(with(&["protect", "src", "-q"]).code, Some(0));
    let mut reader = away(&server);
    reader.place = format!("sftp:store:{place}");
    reader.ok(&["snapshots", "--no-lock"]);
    reader.ok(&["check", "--read-data", "--no-lock"]);
}

#[test]
fn a_place_without_a_server_or_without_ssh_is_14() {
    for (port, command) in [(free().port(), None), (22, Some("/no/such/ssh"))] {
        let mut away = Away::at(format!("sftp://127.0.0.1:{port}//srv/backups"));
        if let Some(command) = command {
            away.options = vec!["--sftp-command".to_owned(), command.to_owned()];
        }
        for verb in [&["init"][..], &["snapshots"], &["protect", "src"]] {
            let run = away.run(&[verb, &["--retry-store", "1s"]].concat());
            assert_eq!(run.code, Some(14), "{run}");
            assert!(run.err.contains("error: ") && run.err.contains("hint: "), "{run}");
        }
    }
}

#[test]
fn what_a_killed_writer_left_is_no_file_of_the_repository() {
    let server = SftpServer::start();
    let away = made(&server);
    away.ok(&["protect", "src", "-q", "--pack-size", "4"]);
    let one = server.data().join("backups/one");
    for directory in ["data", "index", "snapshots", "locks", "keys"] {
        let (there, _) = files(one.join(directory));
        let name =
            there.first().cloned().unwrap_or_else(|| one.join(directory).join("ab".repeat(32)));
        let left = Path::new(&name).with_extension("");
        fs::write(format!("{}-tmp-0123456789abcdef1", left.display()), "half").unwrap();
    }
    assert_eq!(away.json(&["snapshots"])["snapshots"].as_array().unwrap().len(), 1);
    away.ok(&["check", "--read-data", "--no-cache"]);
    away.comes_back("out");
}
