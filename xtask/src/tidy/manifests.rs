//! Third-party crates stand once, in the workspace, and some of them in certain rooms only.

use super::Complaint;
use super::workshop::{Dependencies, Room};

/// Crates that belong to certain rooms: the crate, and the rooms.
const ONLY_IN: &[(&str, &[&str])] =
    &[("clap", &["cli", "csi", "xtask"]), ("clap_complete", &["cli"]), ("rusqlite", &["catalog"])];

/// Every dependency is inherited whole from the workspace, and lies where it may.
pub(super) fn check(room: &Room) -> Vec<Complaint> {
    let place = room.manifest_path();
    let mut complaints = Vec::new();
    let default = room.manifest.features.get("default");
    if default.is_some_and(|features| features.iter().any(|feature| feature.contains("sabotage"))) {
        complaints.push(Complaint::new(&place, "`sabotage` is a default feature"));
    }
    for (name, value) in tables(room).into_iter().flatten() {
        let table = value.as_table();
        let inherited = table.and_then(|table| table.get("workspace")?.as_bool()) == Some(true);
        if !inherited {
            complaints.push(Complaint::new(
                &place,
                format!(
                    "`{name}` is not `workspace = true`: versions stand in the root Cargo.toml"
                ),
            ));
        }
        for key in ["features", "default-features"] {
            if table.is_some_and(|table| table.contains_key(key)) {
                complaints.push(Complaint::new(
                    &place,
                    format!("`{name}` sets {key}: they stand in the root Cargo.toml"),
                ));
            }
        }
        if let Some((_, rooms)) = ONLY_IN.iter().find(|(only, _)| only == name)
            && !rooms.contains(&room.short_name())
        {
            complaints.push(Complaint::new(
                &place,
                format!("`{name}` belongs to {} only", rooms.join(", ")),
            ));
        }
    }
    complaints
}

fn tables(room: &Room) -> Vec<&Dependencies> {
    let manifest = &room.manifest;
    let mut tables =
        vec![&manifest.dependencies, &manifest.dev_dependencies, &manifest.build_dependencies];
    for target in manifest.target.values() {
        tables.extend([&target.dependencies, &target.dev_dependencies, &target.build_dependencies]);
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::super::workshop::room;
    use super::*;

    fn complaints(folder: &str, rest: &str) -> usize {
        let manifest = format!("[package]\nname = 'alidade-{folder}'\n{rest}");
        check(&room(&format!("crates/{folder}"), &manifest, &[])).len()
    }

    #[test]
    fn what_is_inherited_whole_is_silent() {
        assert_eq!(complaints("model", "[dependencies]\na.workspace = true"), 0);
        assert_eq!(complaints("cli", "[dependencies]\nclap.workspace = true"), 0);
        let optional = "[dev-dependencies]\na = { workspace = true, optional = true }";
        assert_eq!(complaints("cli", optional), 0);
    }

    #[test]
    fn breaking_on_purpose_is_no_default() {
        let optional = "[features]\nsabotage = []";
        assert_eq!(complaints("model", optional), 0);
        for default in ["'sabotage'", "'alidade-model/sabotage'"] {
            let rest = format!("{optional}\ndefault = [{default}]");
            assert_eq!(complaints("model", &rest), 1, "{default}");
        }
    }

    #[test]
    fn a_version_a_path_or_features_of_its_own_are_red() {
        for (table, line) in [
            ("dependencies", "a = '1'"),
            ("dependencies", "a = { version = '1' }"),
            ("dev-dependencies", "a = { path = '../a' }"),
            ("build-dependencies", "a = { git = 'somewhere' }"),
            ("target.'cfg(unix)'.dependencies", "a = { workspace = false }"),
            ("dependencies", "a = { workspace = true, features = ['x'] }"),
            ("dependencies", "a = { workspace = true, default-features = true }"),
        ] {
            assert_eq!(complaints("model", &format!("[{table}]\n{line}")), 1, "{line}");
        }
    }

    #[test]
    fn a_crate_in_a_room_it_does_not_belong_to_is_red() {
        for (folder, name) in [
            ("protect", "clap"),
            ("protect", "rusqlite"),
            ("cli", "rusqlite"),
            ("model", "clap_complete"),
        ] {
            let rest = format!("[dependencies]\n{name}.workspace = true");
            assert_eq!(complaints(folder, &rest), 1, "{folder} {name}");
        }
    }
}
