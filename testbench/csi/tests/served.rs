//! The driver as it is served: content, restarts, concurrent calls, changed blocks, faults.

#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    reason = "a test stops where it fails"
)]
#![allow(clippy::disallowed_methods, reason = "a test measures real time")]

mod rig;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alidade_csi::wire::csi::volume_capability::access_mode::Mode;
use alidade_csi::wire::csi::*;
use alidade_csi::wire::registration::InfoRequest;
use alidade_csi::wire::registration::registration_client::RegistrationClient;
use rig::{Client, MIB, Rig, creation, from_snapshot, from_volume, wanted};
use tonic::Code;

/// Writes to a raw device, past every cache.
fn write(device: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    file.write_all_at(bytes, at).unwrap();
    file.sync_all().unwrap();
}

fn read(device: &Path, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open(device).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

#[test]
fn a_snapshot_of_a_tree_keeps_what_was_and_restores_and_clones_are_their_own() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("one", "mount", 64 * MIB);
    let place = client.mount(&volume, "mount");
    fs::write(place.join("a"), "before").unwrap();
    let snapshot = client.snapshot("s", &volume).unwrap();
    assert!(snapshot.ready_to_use);
    assert_eq!(snapshot.size_bytes, 64 * MIB);
    fs::write(place.join("a"), "after").unwrap();
    let restored = client.copy("restored", "mount", from_snapshot(&snapshot.snapshot_id));
    let clone = client.copy("clone", "mount", from_volume(&volume));
    let restored = client.mount(&restored, "mount");
    let cloned = client.mount(&clone, "mount");
    assert_eq!(fs::read_to_string(restored.join("a")).unwrap(), "before");
    assert_eq!(fs::read_to_string(cloned.join("a")).unwrap(), "after");
    fs::write(cloned.join("a"), "own").unwrap();
    assert_eq!(fs::read_to_string(place.join("a")).unwrap(), "after");
    assert_eq!(client.delete(&clone), Err(Code::FailedPrecondition), "it is in use");
    client.unmount(&clone);
    client.delete(&clone).unwrap();
    client.unmount(&volume);
    client.delete(&volume).unwrap();
    assert_eq!(fs::read_to_string(restored.join("a")).unwrap(), "before");
    client.delete_snapshot(&snapshot.snapshot_id).unwrap();
    assert_eq!(fs::read_to_string(restored.join("a")).unwrap(), "before");
}

#[test]
fn a_tree_holds_what_it_was_asked_for_and_more_once_it_is_expanded() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("one", "mount", 16 * MIB);
    let place = client.mount(&volume, "mount");
    let fill = |name: &str| fs::write(place.join(name), vec![7; 12 << 20]);
    fill("a").unwrap();
    assert!(fill("b").is_err(), "24 MiB fit 16 MiB");
    let stats = NodeGetVolumeStatsRequest {
        volume_id: volume.clone(),
        volume_path: client.target(&volume).to_str().unwrap().into(),
        ..Default::default()
    };
    let usage = || rig.wait(client.node().node_get_volume_stats(stats.clone())).unwrap();
    let usage = usage().into_inner().usage[0];
    assert_eq!(usage.total, 16 * MIB);
    assert!(usage.used >= 12 * MIB && usage.used + usage.available == usage.total, "{usage:?}");
    let expanded = client.expand(&volume, 64 * MIB);
    assert!(!expanded.node_expansion_required);
    fill("c").unwrap();
}

#[test]
fn a_raw_volume_is_expanded_while_it_is_used() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("one", "block", 16 * MIB);
    let device = client.mount(&volume, "block");
    write(&device, 0, b"content");
    let expanded = client.expand(&volume, 32 * MIB);
    assert!(expanded.node_expansion_required);
    let request = NodeExpandVolumeRequest {
        volume_id: volume.clone(),
        volume_path: client.target(&volume).to_str().unwrap().into(),
        ..Default::default()
    };
    let grown = rig.wait(client.node().node_expand_volume(request)).unwrap().into_inner();
    assert_eq!(grown.capacity_bytes, 32 * MIB);
    write(&device, 31 << 20, b"beyond");
    assert_eq!(read(&device, 0, 7), b"content");
    // The same call again changes nothing.
    assert_eq!(client.expand(&volume, 32 * MIB).capacity_bytes, 32 * MIB);
}

#[test]
fn a_restart_forgets_nothing() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let tree = client.volume("tree", "mount", 64 * MIB);
    let raw = client.volume("raw", "block", 16 * MIB);
    let place = client.mount(&tree, "mount");
    let device = client.mount(&raw, "block");
    fs::write(place.join("a"), "kept").unwrap();
    write(&device, 4096, b"kept");
    let snapshot = client.snapshot("s", &raw).unwrap();
    // A user of the device, as a pod is one.
    let user = fs::File::open(&device).unwrap();
    driver.kill();

    let driver = rig.whole();
    let client = rig.client(&driver);
    let mut both = [tree.clone(), raw.clone()];
    both.sort();
    assert_eq!(client.volumes(), both);
    assert_eq!(client.snapshots(), [snapshot.clone()]);
    assert_eq!(client.volume("tree", "mount", 64 * MIB), tree, "the same call, another volume");
    assert_eq!(client.snapshot("s", &raw).unwrap(), snapshot);
    assert_eq!(client.delete(&tree), Err(Code::FailedPrecondition));
    client.stage(&tree, "mount").unwrap();
    client.publish(client.publication(&tree, "mount")).unwrap();
    client.publish(client.publication(&raw, "block")).unwrap();
    assert_eq!(fs::read_to_string(place.join("a")).unwrap(), "kept");
    drop(user);
    assert_eq!(read(&device, 4096, 4), b"kept");
    for volume in [&tree, &raw] {
        client.unmount(volume);
        client.delete(volume).unwrap();
    }
}

#[test]
fn what_a_killed_driver_left_half_is_removed() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("one", "mount", 64 * MIB);
    let pool = rig.inside(&rig.path("driver-pool"));
    let subvolume = |path: &Path| {
        let made = Command::new("btrfs").args(["subvolume", "create"]).arg(path).output().unwrap();
        assert!(made.status.success());
    };
    subvolume(&pool.join("trees/vol-half"));
    subvolume(&pool.join("frozen/snap-half"));
    fs::write(pool.join("disks/vol-half"), "x").unwrap();
    driver.kill();
    let driver = rig.whole();
    let names = |folder: &str| {
        let list = fs::read_dir(pool.join(folder)).unwrap();
        list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names("trees"), [volume]);
    assert_eq!(names("frozen"), [] as [String; 0]);
    assert_eq!(names("disks"), [] as [String; 0]);
    driver.stop();
}

#[test]
fn no_loop_device_outlives_its_driver_whichever_way_it_ends() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("one", "block", 16 * MIB);
    client.mount(&volume, "block");
    assert_eq!(rig.loops().len(), 2, "{:?}", rig.loops());
    client.unmount(&volume);
    assert_eq!(rig.loops().len(), 1, "{:?}", rig.loops());
    client.mount(&volume, "block");
    driver.kill();
    let folder = rig.folder.path().to_owned();
    drop(rig);
    for _ in 0..100 {
        let said = Command::new("losetup").arg("--list").output().unwrap().stdout;
        if !String::from_utf8(said).unwrap().contains(folder.to_str().unwrap()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("a loop device is left");
}

#[test]
fn calls_at_once_make_one_volume_a_name() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let made: Vec<String> = rig.wait(async {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..24 {
            let mut controller = client.controller();
            let name = format!("volume-{}", number % 3);
            let kind = if number % 3 == 0 { "block" } else { "mount" };
            let request = creation(&name, kind, 16 * MIB);
            calls.spawn(async move {
                let volume = controller.create_volume(request).await.unwrap().into_inner();
                volume.volume.unwrap().volume_id
            });
        }
        calls.join_all().await
    });
    let mut distinct = made.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((made.len(), distinct.len()), (24, 3));
    assert_eq!(client.volumes(), distinct);
    // Snapshots and deletion of one volume at once: each call ends in one way or the other.
    let volume = distinct.first().unwrap();
    rig.wait(async {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..8 {
            let mut controller = client.controller();
            let request = CreateSnapshotRequest {
                source_volume_id: volume.clone(),
                name: format!("s{number}"),
                ..Default::default()
            };
            calls.spawn(async move {
                match controller.create_snapshot(request).await {
                    Ok(_) => Code::Ok,
                    Err(status) => status.code(),
                }
            });
            if number == 4 {
                let mut controller = client.controller();
                let request =
                    DeleteVolumeRequest { volume_id: volume.clone(), ..Default::default() };
                calls.spawn(async move {
                    controller.delete_volume(request).await.unwrap();
                    Code::Ok
                });
            }
        }
        for code in calls.join_all().await {
            assert!(matches!(code, Code::Ok | Code::NotFound), "{code:?}");
        }
    });
    assert!(!client.volumes().contains(volume));
}

#[test]
fn an_equal_name_with_other_wishes_is_refused() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("one", "mount", 64 * MIB);
    let other = client.volume("other", "mount", 64 * MIB);
    let snapshot = client.snapshot("s", &volume).unwrap();
    let changed = |change: &dyn Fn(&mut CreateVolumeRequest)| {
        let mut request = creation("one", "mount", 64 * MIB);
        change(&mut request);
        client.create(request)
    };
    assert_eq!(changed(&|_| ()).unwrap().volume_id, volume);
    let refused = Err(Code::AlreadyExists);
    let source = from_snapshot(&snapshot.snapshot_id);
    assert_eq!(changed(&|r| r.volume_content_source = source.clone()), refused);
    let range = CapacityRange { required_bytes: 128 * MIB, limit_bytes: 0 };
    assert_eq!(changed(&|r| r.capacity_range = Some(range)), refused);
    let raw = wanted("block", Mode::SingleNodeWriter);
    assert_eq!(changed(&|r| r.volume_capabilities = vec![raw.clone()]), refused);
    assert_eq!(client.snapshot("s", &other), Err(Code::AlreadyExists));
    // A source that is not there, or of the other kind.
    let mut request = creation("new", "mount", 64 * MIB);
    request.volume_content_source = from_snapshot("snap-unknown");
    assert_eq!(client.create(request), Err(Code::NotFound));
    let mut request = creation("new", "block", 64 * MIB);
    request.volume_content_source = from_volume(&volume);
    assert_eq!(client.create(request), Err(Code::InvalidArgument));
}

fn allocated(client: &Client<'_>, id: &str, start: i64, most: i32) -> Vec<Vec<(i64, i64)>> {
    let request = GetMetadataAllocatedRequest {
        snapshot_id: id.into(),
        starting_offset: start,
        max_results: most,
        ..Default::default()
    };
    client.rig.wait(async {
        let mut stream =
            client.changes().get_metadata_allocated(request).await.unwrap().into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            assert_eq!(message.volume_capacity_bytes, 64 * MIB);
            assert_eq!(message.block_metadata_type(), BlockMetadataType::VariableLength);
            messages.push(pairs(&message.block_metadata));
        }
        messages
    })
}

fn pairs(ranges: &[BlockMetadata]) -> Vec<(i64, i64)> {
    ranges.iter().map(|range| (range.byte_offset, range.size_bytes)).collect()
}

fn delta(
    client: &Client<'_>,
    base: &str,
    target: &str,
    start: i64,
) -> Result<Vec<(i64, i64)>, Code> {
    let request = GetMetadataDeltaRequest {
        base_snapshot_id: base.into(),
        target_snapshot_id: target.into(),
        starting_offset: start,
        ..Default::default()
    };
    client.rig.wait(async {
        let stream = client.changes().get_metadata_delta(request).await;
        let mut stream = stream.map_err(|status| status.code())?.into_inner();
        let mut ranges = Vec::new();
        while let Some(message) = stream.message().await.map_err(|status| status.code())? {
            ranges.extend(pairs(&message.block_metadata));
        }
        Ok(ranges)
    })
}

#[test]
fn allocated_and_changed_blocks_are_those_that_were_written() {
    const BLOCK: usize = 64 << 10;
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("one", "block", 64 * MIB);
    let device = client.mount(&volume, "block");
    for mib in [1, 5, 9] {
        write(&device, mib << 20, &[7; BLOCK]);
    }
    let base = client.snapshot("base", &volume).unwrap().snapshot_id;
    write(&device, 5 << 20, &[8; BLOCK]);
    write(&device, 20 << 20, &[9; BLOCK]);
    let discarded = Command::new("blkdiscard")
        .args(["--offset", "9437184", "--length", "65536"])
        .arg(&device)
        .status();
    assert!(discarded.unwrap().success());
    let target = client.snapshot("target", &volume).unwrap().snapshot_id;
    write(&device, 30 << 20, &[1; BLOCK]);

    let block = i64::try_from(BLOCK).unwrap();
    let at = |mib: i64| (mib * MIB, block);
    assert_eq!(allocated(&client, &base, 0, 0), [[at(1), at(5), at(9)]]);
    assert_eq!(allocated(&client, &base, 0, 2), [vec![at(1), at(5)], vec![at(9)]]);
    assert_eq!(allocated(&client, &base, 5 * MIB, 0), [[at(5), at(9)]]);
    assert_eq!(
        allocated(&client, &base, 5 * MIB + 4096, 0),
        [[(5 * MIB + 4096, block - 4096), at(9)]]
    );
    assert_eq!(allocated(&client, &base, 64 * MIB, 0), [[]]);
    assert_eq!(delta(&client, &base, &target, 0).unwrap(), [at(5), at(9), at(20)]);
    assert_eq!(delta(&client, &base, &target, 6 * MIB).unwrap(), [at(9), at(20)]);
    assert_eq!(delta(&client, &base, &base, 0).unwrap(), []);

    // What is said is enough to make one of the other.
    let copy = client.copy("copy", "block", from_snapshot(&base));
    let after = client.copy("after", "block", from_snapshot(&target));
    let (copy, after) = (client.mount(&copy, "block"), client.mount(&after, "block"));
    for (start, length) in delta(&client, &base, &target, 0).unwrap() {
        let start = u64::try_from(start).unwrap();
        write(&copy, start, &read(&after, start, usize::try_from(length).unwrap()));
    }
    assert_eq!(read(&copy, 0, 64 << 20), read(&after, 0, 64 << 20));

    assert_eq!(delta(&client, &target, &base, 0), Err(Code::InvalidArgument), "backwards");
    assert_eq!(delta(&client, "snap-unknown", &target, 0), Err(Code::NotFound));
    assert_eq!(delta(&client, &base, &target, -1), Err(Code::OutOfRange));
    assert_eq!(delta(&client, &base, &target, 64 * MIB + 1), Err(Code::OutOfRange));
    let other = client.volume("other", "block", 64 * MIB);
    let other = client.snapshot("other", &other).unwrap().snapshot_id;
    assert_eq!(delta(&client, &base, &other, 0), Err(Code::InvalidArgument), "two volumes");
    let tree = client.volume("tree", "mount", 64 * MIB);
    let tree = client.snapshot("tree", &tree).unwrap().snapshot_id;
    assert_eq!(delta(&client, &tree, &tree, 0), Err(Code::InvalidArgument), "a file system");
}

#[test]
fn the_raw_volumes_of_a_group_are_of_one_instant() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volumes = ["a", "b"].map(|name| client.volume(name, "block", 16 * MIB));
    let devices = volumes.clone().map(|volume| client.mount(&volume, "block"));
    let tree = client.volume("tree", "mount", 16 * MIB);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let groups = std::thread::scope(|scope| {
        // First to the one, then to the other: no state has more in the second than in the first.
        scope.spawn(|| {
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                for device in &devices {
                    write(device, 0, &number.to_le_bytes());
                }
                written.store(number, Ordering::Relaxed);
            }
        });
        let mut groups = Vec::new();
        for number in 0..8 {
            let before = written.load(Ordering::Relaxed);
            while written.load(Ordering::Relaxed) < before + 3 {
                std::thread::yield_now();
            }
            let request = CreateVolumeGroupSnapshotRequest {
                name: format!("g{number}"),
                source_volume_ids: [&volumes[..], std::slice::from_ref(&tree)].concat(),
                ..Default::default()
            };
            let take = || {
                let mut groups = client.groups();
                let taken = rig.wait(groups.create_volume_group_snapshot(request.clone()));
                taken.unwrap().into_inner().group_snapshot.unwrap()
            };
            let group = take();
            assert!(group.ready_to_use);
            assert_eq!(take(), group);
            groups.push(group);
        }
        stop.store(true, Ordering::Relaxed);
        groups
    });
    for (number, group) in groups.iter().enumerate() {
        let counters = volumes.each_ref().map(|volume| {
            let mut members = group.snapshots.iter();
            let member = members.find(|member| member.source_volume_id == *volume).unwrap();
            assert_eq!(member.group_snapshot_id, group.group_snapshot_id);
            let source = from_snapshot(&member.snapshot_id);
            let copy = client.copy(&format!("{volume}-{number}"), "block", source);
            let device = client.mount(&copy, "block");
            u64::from_le_bytes(read(&device, 0, 8).try_into().unwrap())
        });
        let [first, second] = counters;
        assert!(first == second || first == second + 1, "{first} and {second}");
        assert!(first > 0);
    }
    let group = &groups[0];
    let member = &group.snapshots[0].snapshot_id;
    assert_eq!(client.delete_snapshot(member), Err(Code::InvalidArgument), "it is of a group");
    let request = DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: group.group_snapshot_id.clone(),
        ..Default::default()
    };
    let mut strange = request.clone();
    strange.snapshot_ids = vec!["snap-unknown".into()];
    let refused = rig.wait(client.groups().delete_volume_group_snapshot(strange)).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    rig.wait(client.groups().delete_volume_group_snapshot(request.clone())).unwrap();
    rig.wait(client.groups().delete_volume_group_snapshot(request)).unwrap();
    assert_eq!(client.snapshots().len(), 7 * 3);
}

#[test]
fn a_volume_is_used_in_its_own_zone_only_and_never_for_one_pod_alone() {
    let rig = Rig::new();
    let driver = rig.start("pool", &["--controller", "--node", "n1", "--zone", "z1"]);
    let other = rig.start_as("pool", "other", &["--node", "n2", "--zone", "z2"]);
    let (client, far) = (rig.client(&driver), rig.client(&other));
    let info = rig.wait(far.node().node_get_info(NodeGetInfoRequest {})).unwrap().into_inner();
    let topology = info.accessible_topology.unwrap();
    assert_eq!(topology.segments["topology.btrfs.alidade.test/zone"], "z2");
    let mut request = creation("one", "mount", 16 * MIB);
    request.accessibility_requirements =
        Some(TopologyRequirement { requisite: vec![], preferred: vec![topology.clone()] });
    let volume = client.create(request).unwrap();
    assert_eq!(volume.accessible_topology, [topology]);
    assert_eq!(client.stage(&volume.volume_id, "mount"), Err(Code::FailedPrecondition));
    fs::write(far.mount(&volume.volume_id, "mount").join("a"), "x").unwrap();
    // A node that does not make volumes says so.
    assert_eq!(far.create(creation("two", "mount", MIB)), Err(Code::Unimplemented));
    // Without a zone a volume is everywhere, and both nodes see the same.
    let volume = client.volume("everywhere", "mount", 16 * MIB);
    let near = client.mount(&volume, "mount");
    fs::write(near.join("a"), "shared").unwrap();
    let mut again = far.publication(&volume, "mount");
    again.target_path += "-far";
    far.stage(&volume, "mount").unwrap();
    far.publish(again.clone()).unwrap();
    let seen = rig.inside(Path::new(&again.target_path)).join("a");
    assert_eq!(fs::read_to_string(seen).unwrap(), "shared");

    let mut ephemeral = client.publication("csi-0123", "mount");
    ephemeral.volume_context = [("csi.storage.k8s.io/ephemeral".into(), "true".into())].into();
    assert_eq!(client.publish(ephemeral), Err(Code::InvalidArgument));
}

#[test]
fn a_reader_cannot_write_and_one_pod_alone_is_one() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("one", "mount", 16 * MIB);
    client.mount(&volume, "mount");
    let mut reader = client.publication(&volume, "mount");
    reader.target_path += "-reader";
    reader.readonly = true;
    client.publish(reader.clone()).unwrap();
    client.publish(reader.clone()).unwrap();
    let place = rig.inside(Path::new(&reader.target_path));
    assert!(fs::write(place.join("a"), "x").is_err());
    reader.readonly = false;
    assert_eq!(client.publish(reader), Err(Code::AlreadyExists));
    let mut alone = client.publication(&volume, "mount");
    alone.target_path += "-alone";
    alone.volume_capability = Some(wanted("mount", Mode::SingleNodeSingleWriter));
    assert_eq!(client.publish(alone), Err(Code::FailedPrecondition));
}

#[test]
fn two_drivers_have_nothing_in_common() {
    let rig = Rig::new();
    let one = rig.start_as("one", "one", &["--controller", "--name", "one.test"]);
    let two = rig.start_as("two", "two", &["--controller", "--name", "two.test"]);
    let (one, two) = (rig.client(&one), rig.client(&two));
    let volume = one.volume("same", "mount", 16 * MIB);
    assert_ne!(two.volume("same", "mount", 16 * MIB), volume);
    assert_eq!(two.snapshot("s", &volume), Err(Code::NotFound));
    assert_eq!((one.volumes().len(), two.volumes().len()), (1, 1));
}

#[test]
fn kubelet_is_told_where_the_driver_is() {
    let rig = Rig::new();
    let registry = rig.path("registry");
    let words = ["--node", "n1", "--name", "one.test", "--registry", registry.to_str().unwrap()];
    let driver = rig.start("pool", &words);
    let address = format!("unix:{}/one.test-reg.sock", registry.display());
    let info = rig.wait(async {
        let endpoint = tonic::transport::Endpoint::try_from(address).unwrap();
        let mut client = RegistrationClient::new(endpoint.connect().await.unwrap());
        client.get_info(InfoRequest {}).await.unwrap().into_inner()
    });
    assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", "one.test"));
    assert_eq!(Path::new(&info.endpoint), driver.endpoint);
    assert_eq!(info.supported_versions, ["1.0.0"]);
    driver.stop();
    assert_eq!(fs::read_dir(registry).unwrap().count(), 0);
}

#[test]
fn the_call_that_was_named_fails_and_the_next_one_does_not() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    rig.faults(
        r#"{"rules": [{"method": "CreateVolume", "call": 2, "fail": "RESOURCE_EXHAUSTED"}]}"#,
    );
    let create = |name| client.create(creation(name, "mount", MIB)).map(drop);
    assert_eq!(create("a"), Ok(()));
    assert_eq!(create("b"), Err(Code::ResourceExhausted));
    assert_eq!(client.volumes().len(), 1, "a failed call has done nothing");
    assert_eq!(create("b"), Ok(()));
}

#[test]
fn a_lost_answer_is_found_by_asking_again() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    rig.faults(r#"{"rules": [{"method": "CreateVolume", "call": 1, "lose_answer": true}]}"#);
    let create = || client.create(creation("a", "mount", MIB)).map(|volume| volume.volume_id);
    assert_eq!(create(), Err(Code::Unavailable));
    let made = client.volumes();
    assert_eq!(made.len(), 1, "the work was done");
    assert_eq!(create(), Ok(made[0].clone()));
}

#[test]
fn a_slow_call_goes_on_when_the_caller_has_gone() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    rig.faults(r#"{"rules": [{"method": "CreateVolume", "slow_ms": 700}]}"#);
    let began = Instant::now();
    client.create(creation("a", "mount", MIB)).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(700));
    let mut request = tonic::Request::new(creation("b", "mount", MIB));
    request.set_timeout(Duration::from_millis(100));
    let began = Instant::now();
    rig.wait(client.controller().create_volume(request)).unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(600));
    assert_eq!(client.volumes().len(), 1);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(client.volumes().len(), 2, "the work was given up with its caller");
}

#[test]
fn a_snapshot_is_never_ready_until_it_may_be() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("a", "mount", MIB);
    rig.faults(r#"{"snapshots_never_ready": true}"#);
    let snapshot = client.snapshot("s", &volume).unwrap();
    assert!(!snapshot.ready_to_use && !client.snapshots()[0].ready_to_use);
    let mut request = creation("b", "mount", MIB);
    request.volume_content_source = from_snapshot(&snapshot.snapshot_id);
    assert_eq!(client.create(request.clone()), Err(Code::Unavailable));
    rig.faults("");
    assert!(client.snapshots()[0].ready_to_use);
    client.create(request).unwrap();
}

#[test]
fn deletion_is_refused_while_the_switch_is_on() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("a", "mount", MIB);
    let snapshot = client.snapshot("s", &volume).unwrap().snapshot_id;
    rig.faults(r#"{"refuse_deletion": true}"#);
    assert_eq!(client.delete(&volume), Err(Code::FailedPrecondition));
    assert_eq!(client.delete_snapshot(&snapshot), Err(Code::FailedPrecondition));
    assert_eq!((client.volumes().len(), client.snapshots().len()), (1, 1));
    fs::remove_file(rig.path("faults.json")).unwrap();
    client.delete(&volume).unwrap();
    client.delete_snapshot(&snapshot).unwrap();
    assert_eq!((client.volumes().len(), client.snapshots().len()), (0, 0));
}

#[test]
fn a_stream_breaks_in_the_middle_and_goes_on_where_it_broke() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    let volume = client.volume("a", "block", 64 * MIB);
    let device = client.mount(&volume, "block");
    for mib in [1, 5, 9] {
        write(&device, mib << 20, &[7; 4096]);
    }
    let snapshot = client.snapshot("s", &volume).unwrap().snapshot_id;
    rig.faults(
        r#"{"rules": [{"method": "GetMetadataAllocated", "call": 1, "after_messages": 2, "fail": "ABORTED"}]}"#,
    );
    let request = GetMetadataAllocatedRequest {
        snapshot_id: snapshot.clone(),
        max_results: 1,
        ..Default::default()
    };
    let (got, end) = rig.wait(async {
        let mut stream =
            client.changes().get_metadata_allocated(request).await.unwrap().into_inner();
        let mut got = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(message)) => got.extend(pairs(&message.block_metadata)),
                Ok(None) => break (got, Code::Ok),
                Err(status) => break (got, status.code()),
            }
        }
    });
    assert_eq!((got.len(), end), (2, Code::Aborted));
    let (start, length) = got[1];
    assert_eq!(allocated(&client, &snapshot, start + length, 1), [[(9 * MIB, 4096)]]);
}

#[test]
fn switches_that_are_not_understood_are_not_passed_over() {
    let rig = Rig::new();
    let driver = rig.whole();
    let client = rig.client(&driver);
    rig.faults(r#"{"rules": [{"methode": "CreateVolume"}]}"#);
    assert_eq!(client.create(creation("a", "mount", MIB)), Err(Code::Internal));
}
