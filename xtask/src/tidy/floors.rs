//! Edges go down only.

use super::Complaint;
use super::workshop::{Dependencies, Room, short_name};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Floor {
    Ground,
    Words,
    Sockets,
    Engines,
    Plugs,
    Faces,
    Roof,
    Garden,
}

/// The engines that may use another engine: who, and which.
/// `stores` fills the seam below `repository`.
const ENGINE_EDGES: &[(&str, &str)] =
    &[("protect", "repository"), ("protect", "catalog"), ("stores", "repository")];

impl Floor {
    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "ground" => Self::Ground,
            "words" => Self::Words,
            "sockets" => Self::Sockets,
            "engines" => Self::Engines,
            "plugs" => Self::Plugs,
            "faces" => Self::Faces,
            "roof" => Self::Roof,
            "garden" => Self::Garden,
            _ => return None,
        })
    }

    /// Whether a room on this floor may use one on `below`, apart from [`ENGINE_EDGES`].
    fn sees(self, below: Self) -> bool {
        use Floor::{Engines, Faces, Garden, Ground, Plugs, Roof, Sockets, Words};
        match self {
            Ground => false,
            Words => below == Ground,
            Sockets => matches!(below, Ground | Words),
            Engines | Plugs => matches!(below, Ground | Words | Sockets),
            Faces => matches!(below, Ground | Words | Sockets | Engines),
            Roof => matches!(below, Ground | Words | Sockets | Engines | Plugs | Faces),
            Garden => true,
        }
    }
}

/// Every room has a floor and its own name, and uses only what lies below it.
pub(super) fn check(rooms: &[Room]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for room in rooms {
        let place = room.manifest_path();
        let folder = room.folder.rsplit('/').next().unwrap_or(&room.folder);
        if folder != room.short_name() {
            complaints.push(Complaint::new(
                &place,
                format!("crate `{}` lies in folder `{folder}`", room.manifest.package.name),
            ));
        }
        let Some(floor) = floor_of(room) else {
            complaints.push(Complaint::new(
                &place,
                "[package.metadata.alidade] names no floor (ground, words, sockets, engines, plugs, faces, roof, garden)",
            ));
            continue;
        };
        for (dependencies, is_test) in edges(room) {
            for name in dependencies.keys() {
                let Some(used) = rooms.iter().find(|room| room.manifest.package.name == *name)
                else {
                    continue;
                };
                let Some(below) = floor_of(used) else { continue };
                let listed = ENGINE_EDGES.contains(&(room.short_name(), short_name(name)));
                let tools = is_test && below == Floor::Garden;
                if !(floor.sees(below) || listed || tools) {
                    complaints.push(Complaint::new(
                        &place,
                        format!("{floor:?} may not use `{name}` of {below:?}: edges go down only"),
                    ));
                }
            }
        }
    }
    complaints
}

fn floor_of(room: &Room) -> Option<Floor> {
    room.manifest.package.metadata.alidade.floor.as_deref().and_then(Floor::from_word)
}

/// All dependency tables, and whether they are for tests only.
fn edges(room: &Room) -> Vec<(&Dependencies, bool)> {
    let manifest = &room.manifest;
    let mut edges = vec![
        (&manifest.dependencies, false),
        (&manifest.build_dependencies, false),
        (&manifest.dev_dependencies, true),
    ];
    for target in manifest.target.values() {
        edges.push((&target.dependencies, false));
        edges.push((&target.build_dependencies, false));
        edges.push((&target.dev_dependencies, true));
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::super::workshop::room;
    use super::*;

    const HOUSE: &[(&str, &str)] = &[
        ("kernels", "ground"),
        ("model", "words"),
        ("crd", "words"),
        ("entity", "sockets"),
        ("repository", "engines"),
        ("catalog", "engines"),
        ("protect", "engines"),
        ("entity-host", "plugs"),
        ("entity-other", "plugs"),
        ("cli", "faces"),
        ("server", "faces"),
        ("alidade", "roof"),
        ("testkit", "garden"),
    ];

    fn full(name: &str) -> String {
        if name == "alidade" { name.into() } else { format!("alidade-{name}") }
    }

    /// The complaints of a house with one edge in the given table.
    fn with_edge(from: &str, table: &str, to: &str) -> Vec<Complaint> {
        let rooms: Vec<Room> = HOUSE
            .iter()
            .map(|(name, floor)| {
                let mut manifest = format!(
                    "[package]\nname = '{}'\n[package.metadata.alidade]\nfloor = '{floor}'\n",
                    full(name)
                );
                if *name == from {
                    manifest += &format!("[{table}]\n{} = {{ workspace = true }}\n", full(to));
                }
                room(&format!("crates/{name}"), &manifest, &[])
            })
            .collect();
        check(&rooms)
    }

    #[test]
    fn edges_that_go_down_are_silent() {
        for (from, to) in [
            ("model", "kernels"),
            ("entity", "model"),
            ("repository", "kernels"),
            ("protect", "repository"),
            ("protect", "catalog"),
            ("repository", "entity"),
            ("entity-host", "entity"),
            ("cli", "protect"),
            ("alidade", "entity-host"),
            ("alidade", "cli"),
            ("testkit", "entity-host"),
            ("testkit", "alidade"),
        ] {
            assert_eq!(with_edge(from, "dependencies", to), [], "{from} -> {to}");
        }
        assert_eq!(with_edge("model", "dev-dependencies", "testkit"), []);
    }

    #[test]
    fn every_edge_that_does_not_go_down_is_red() {
        for (from, to) in [
            ("kernels", "model"),
            ("model", "entity"),
            ("model", "crd"),
            ("entity", "protect"),
            ("repository", "catalog"),
            ("catalog", "repository"),
            ("repository", "protect"),
            ("protect", "entity-host"),
            ("entity-host", "repository"),
            ("entity-host", "entity-other"),
            ("cli", "entity-host"),
            ("cli", "server"),
            ("cli", "alidade"),
            ("protect", "cli"),
            ("alidade", "testkit"),
            ("model", "testkit"),
        ] {
            for table in ["dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
                assert_eq!(with_edge(from, table, to).len(), 1, "{from} -> {to} in {table}");
            }
        }
        assert_eq!(with_edge("protect", "dev-dependencies", "entity-host").len(), 1);
    }

    #[test]
    fn a_room_without_a_floor_or_with_a_wrong_name_is_red() {
        let manifest = "[package]\nname = 'alidade-one'";
        assert_eq!(check(&[room("crates/one", manifest, &[])]).len(), 1);
        let manifest =
            "[package]\nname = 'alidade-one'\n[package.metadata.alidade]\nfloor = 'cellar'";
        assert_eq!(check(&[room("crates/one", manifest, &[])]).len(), 1);
        let manifest =
            "[package]\nname = 'alidade-one'\n[package.metadata.alidade]\nfloor = 'words'";
        assert_eq!(check(&[room("crates/one", manifest, &[])]), []);
        assert_eq!(check(&[room("crates/two", manifest, &[])]).len(), 1);
    }
}
