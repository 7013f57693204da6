//! The official conformance tests pass in full, for mounted and for raw volumes.

#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    reason = "a test stops where it fails"
)]

mod rig;

use std::env;
use std::path::PathBuf;
use std::process::Command;

use rig::Rig;

/// The official program: where `./test` says it is, else built now or found in the cache.
fn csi_sanity() -> PathBuf {
    if let Some(path) = env::var_os("ALIDADE_PEER_CSI_SANITY").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["xtask", "peers", "csi-sanity"];
    let found = Command::new(cargo).args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let found = found.unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().trim().into()
}

/// Runs all of csi-sanity, and gives how many passed, failed and were skipped.
fn sanity(kind: &str) -> [u32; 3] {
    let rig = Rig::new();
    let driver = rig.whole();
    let ended = rig
        .command(csi_sanity())
        .arg("--csi.endpoint")
        .arg(&driver.endpoint)
        .args(["--csi.testvolumeaccesstype", kind, "--ginkgo.no-color"])
        .args(["--csi.testvolumesize", "67108864", "--csi.testvolumeexpandsize", "134217728"])
        .arg("--csi.mountdir")
        .arg(rig.path("mount"))
        .arg("--csi.stagingdir")
        .arg(rig.path("staging"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    println!("{said}");
    let client = rig.client(&driver);
    assert_eq!(client.volumes(), [] as [String; 0], "volumes are left");
    assert_eq!(client.snapshots(), [], "snapshots are left");
    driver.stop();
    rig.no_loops();
    let summary = said.lines().rfind(|line| line.contains(" Passed | ")).unwrap().to_owned();
    assert!(ended.status.success(), "{summary}");
    let before = |word: &str| {
        let words: Vec<&str> = summary.split_whitespace().collect();
        let at = words.iter().position(|found| *found == word).unwrap();
        words[at - 1].parse().unwrap()
    };
    [before("Passed"), before("Failed"), before("Skipped")]
}

/// As many as there are for what the driver says it can; fewer would be a capability lost.
const PASSED: u32 = 77;

#[test]
fn csi_sanity_passes_in_full_for_mounted_volumes() {
    let [passed, failed, _] = sanity("mount");
    assert_eq!(failed, 0);
    assert!(passed >= PASSED, "{passed} of {PASSED} passed");
}

#[test]
fn csi_sanity_passes_in_full_for_raw_volumes() {
    let [passed, failed, _] = sanity("block");
    assert_eq!(failed, 0);
    assert!(passed >= PASSED, "{passed} of {PASSED} passed");
}
