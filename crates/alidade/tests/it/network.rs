//! What networks and servers do to requests, and what comes of it: nothing is lost, and nothing hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alidade_testkit::proxy::{Fault, Proxy, Seen};
use alidade_testkit::server::Brand;

use crate::bucket::{Bucket, noise};

/// A repository behind a proxy, and a source of some packs.
fn ready() -> (Bucket, Proxy) {
    let (bucket, proxy) = Bucket::proxied(Brand::Versity);
    for seed in 0..12 {
        bucket.world.write(&format!("src/noise-{seed}"), &noise(seed));
    }
    (bucket, proxy)
}

/// Every request of a kind fails once, then passes.
fn each_once(
    is_meant: impl Fn(&Seen) -> bool + Send + 'static,
    fault: Fault,
) -> (impl FnMut(&Seen) -> Fault + Send + 'static, Arc<AtomicU64>) {
    let (mut known, count) = (std::collections::BTreeSet::new(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&count);
    let decide = move |seen: &Seen| {
        if is_meant(seen) && known.insert((seen.method.clone(), seen.target.clone())) {
            counted.fetch_add(1, Ordering::Relaxed);
            fault.clone()
        } else {
            Fault::None
        }
    };
    (decide, count)
}

/// A backup, a restore and a check, while every request that is meant fails once.
fn survives(fault: &Fault, is_meant: fn(&Seen) -> bool) {
    let (bucket, proxy) = ready();
    let (decide, count) = each_once(is_meant, fault.clone());
    proxy.decide(decide);
    let outcome = bucket.json(&["protect", "src", "--pack-size", "4"]);
    assert_eq!(outcome["status"], "done", "{fault:?}");
    bucket.comes_back("out");
    bucket.ok(&["check", "--read-data", "--no-cache"]);
    assert!(count.load(Ordering::Relaxed) > 3, "{fault:?}: nothing failed");
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    survives(&Fault::Answer(503, "<Error><Code>SlowDown</Code></Error>".into()), |_| true);
}

#[test]
fn requests_that_break_off_are_sent_again() {
    survives(&Fault::CutRequest(1000), |seen| seen.method == "PUT");
}

#[test]
fn answers_that_break_off_are_asked_for_again() {
    survives(&Fault::CutAnswer(100), |seen| seen.method == "GET");
}

#[test]
fn answers_that_are_lost_after_the_deed_change_nothing() {
    survives(&Fault::LoseAnswer, |seen| matches!(&*seen.method, "PUT" | "DELETE" | "POST"));
}

#[test]
fn slow_answers_are_waited_for() {
    survives(&Fault::Wait(Duration::from_millis(300)), |_| true);
}

#[test]
fn bytes_that_are_wrong_on_the_way_are_read_again() {
    survives(&Fault::FlipAnswer, |seen| {
        seen.method == "GET"
            && !seen.target.contains("list-type")
            && !seen.target.ends_with("/bucket/")
    });
}

#[test]
fn bytes_that_stay_wrong_are_damage() {
    let (bucket, proxy) = ready();
    bucket.ok(&["protect", "src", "-q", "--pack-size", "4"]);
    proxy.decide(|seen| {
        let is_pack = seen.method == "GET" && seen.target.contains("/data/");
        if is_pack { Fault::FlipAnswer } else { Fault::None }
    });
    let run = bucket.run(&["restore", "src", "--target", "out", "--no-cache"]);
    assert_eq!(run.code, Some(20), "{run}");
    proxy.decide(|_| Fault::None);
    bucket.comes_back("whole");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "that it ends in time is what is tested")]
fn a_server_that_goes_away_ends_the_run_with_14_and_the_next_one_goes_on() {
    let (bucket, proxy) = ready();
    for fault in [Fault::Hang(Duration::from_secs(20)), Fault::Answer(503, String::new())] {
        let mut packs = 0;
        proxy.decide(move |seen| {
            packs += u32::from(seen.method == "PUT" && seen.target.contains("/data/"));
            if packs > 1 { fault.clone() } else { Fault::None }
        });
        let begun = Instant::now();
        let run = bucket.run(&["protect", "src", "--pack-size", "4", "--retry-store", "2s"]);
        assert_eq!(run.code, Some(14), "{run}");
        assert!(run.err.contains("error: ") && run.err.contains("hint: "), "{run}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        proxy.decide(|_| Fault::None);
    }
    bucket.ok(&["protect", "src", "-q"]);
    bucket.comes_back("out");
    bucket.ok(&["check", "--read-data"]);
}

#[test]
fn a_clock_that_is_wrong_is_named() {
    let (bucket, proxy) = ready();
    let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request \
                time and the server's time is too large.</Message></Error>";
    proxy.decide(move |_| Fault::Answer(403, body.to_owned()));
    let run = bucket.run(&["protect", "src", "--retry-store", "1s"]);
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.err.contains("hint: set this machine's clock"), "{run}");
}

#[test]
fn a_check_tells_of_what_was_wrong_only_once() {
    let (bucket, proxy) = ready();
    bucket.ok(&["protect", "src", "-q", "--pack-size", "4"]);
    let is_pack = |seen: &Seen| seen.method == "GET" && seen.target.contains("/data/");
    let (decide, count) = each_once(is_pack, Fault::FlipAnswer);
    proxy.decide(decide);
    let said = bucket.ok(&["check", "--read-data"]);
    assert!(count.load(Ordering::Relaxed) > 0);
    assert!(said.contains("only when it was read first"), "{said}");
}

#[test]
fn directories_that_lie_together_come_together() {
    let (bucket, proxy) = Bucket::proxied(Brand::Versity);
    for number in 0..300 {
        let directory = bucket.world.path(&format!("src/{}/{number}", number % 7));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("file"), format!("{number}")).unwrap();
    }
    bucket.ok(&["protect", "src", "-q"]);
    for verb in [&["protect", "src", "-q"][..], &["restore", "src", "--target", "out", "-q"]] {
        proxy.forget();
        bucket.ok(&[verb, &["--no-cache"]].concat());
        let packs = |seen: &&Seen| seen.method == "GET" && seen.target.contains("/data/");
        let asked = proxy.seen().iter().filter(packs).count();
        assert!(asked < 20, "{verb:?}: {asked} requests for parts of packs");
    }
    bucket.comes_back("back");
}
