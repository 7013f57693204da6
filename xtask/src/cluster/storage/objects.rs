//! What the API server is told of a driver.

use serde_json::{Value, json};

/// The pods' credentials for changed blocks are made out to this audience.
fn audience(driver: &str) -> String {
    format!("changes.{driver}")
}

/// The name of its classes: names of classes need no dots.
pub(super) fn class(driver: &str) -> String {
    driver.replace('.', "-")
}

/// Everything that a driver needs: `address` and `authority` are where its service for changed
/// blocks is and who vouches for it.
pub(super) fn all(driver: &str, address: &str, authority: &str) -> Value {
    let class = class(driver);
    let of_class = json!({"name": class});
    let immediate = json!({"name": format!("{class}-immediate")});
    let storage = |name: &Value, mode: &str| {
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": name,
            "provisioner": driver,
            "volumeBindingMode": mode,
            "reclaimPolicy": "Delete",
            "allowVolumeExpansion": true,
        })
    };
    let items = [
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": driver},
            "spec": {
                "attachRequired": false,
                "podInfoOnMount": true,
                "fsGroupPolicy": "File",
                "volumeLifecycleModes": ["Persistent"],
            },
        }),
        storage(&of_class, "WaitForFirstConsumer"),
        storage(&immediate, "Immediate"),
        json!({
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": of_class,
            "driver": driver,
            "deletionPolicy": "Delete",
        }),
        json!({
            "apiVersion": "groupsnapshot.storage.k8s.io/v1",
            "kind": "VolumeGroupSnapshotClass",
            "metadata": of_class,
            "driver": driver,
            "deletionPolicy": "Delete",
        }),
        json!({
            "apiVersion": "cbt.storage.k8s.io/v1alpha1",
            "kind": "SnapshotMetadataService",
            "metadata": {"name": driver},
            "spec": {"address": address, "caCert": authority, "audience": audience(driver)},
        }),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// What whoever asks for changed blocks must be allowed; bind it to an account.
pub(super) fn reader() -> Value {
    let may = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "snapshot-metadata-reader"},
        "rules": [
            may("snapshot.storage.k8s.io", &["volumesnapshots", "volumesnapshotcontents"], &["get", "list", "watch"]),
            may("cbt.storage.k8s.io", &["snapshotmetadataservices"], &["get", "list"]),
            may("", &["serviceaccounts/token"], &["create", "get"]),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_drivers_have_no_object_in_common() {
        let names = |driver: &str| {
            let all = all(driver, "10.0.0.1:1", "x");
            let items = all["items"].as_array().unwrap().clone();
            let name = |item: &Value| format!("{} {}", item["kind"], item["metadata"]["name"]);
            items.iter().map(name).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(names("one.test").len(), 6);
        assert!(names("one.test").is_disjoint(&names("two.test")));
    }
}
