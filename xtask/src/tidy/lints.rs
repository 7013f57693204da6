//! Unsafe code lies in one room, and every room is linted alike.

use super::Complaint;
use super::workshop::{Lints, Room};

/// The room that may hold unsafe code. A crate inherits all lints or none, so it repeats them.
const UNSAFE: &str = "kernels";

/// The lint that room may relax.
const RELAXED: (&str, &str) = ("rust", "unsafe_code");

/// What that room must be told besides: why each piece of unsafe code is sound.
const BESIDES: &[(&str, &str)] =
    &[("rust", "unsafe_op_in_unsafe_fn"), ("clippy", "undocumented_unsafe_blocks")];

/// The workspace forbids unsafe code, every room inherits its lints, and the one room that cannot
/// repeats all of them but one.
pub(super) fn check(rooms: &[Room], house: &Lints) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let (tool, lint) = RELAXED;
    if told(house, tool, lint).and_then(toml::Value::as_str) != Some("forbid") {
        complaints.push(Complaint::new("Cargo.toml", "unsafe code is not forbidden"));
    }
    for room in rooms {
        let place = room.manifest_path();
        if room.short_name() == UNSAFE {
            complaints.extend(differences(&room.manifest.lints, house, &place));
        } else if !room.manifest.lints.workspace {
            complaints.push(Complaint::new(&place, "[lints] workspace = true is missing"));
        }
    }
    complaints
}

fn differences(own: &Lints, house: &Lints, place: &str) -> Vec<Complaint> {
    let all = house.tools.iter().flat_map(|(tool, lints)| {
        lints.iter().map(move |(lint, value)| (tool.as_str(), lint.as_str(), value))
    });
    let mut complaints: Vec<Complaint> = all
        .filter(|(tool, lint, value)| {
            (*tool, *lint) != RELAXED && told(own, tool, lint) != Some(value)
        })
        .map(|(tool, lint, _)| {
            Complaint::new(place, format!("[lints.{tool}] {lint} is not as in the workspace"))
        })
        .collect();
    let missing = BESIDES.iter().filter(|(tool, lint)| told(own, tool, lint).is_none());
    complaints.extend(missing.map(|(tool, lint)| {
        Complaint::new(place, format!("[lints.{tool}] {lint} is missing: unsafe code lies here"))
    }));
    complaints
}

fn told<'a>(lints: &'a Lints, tool: &str, lint: &str) -> Option<&'a toml::Value> {
    lints.tools.get(tool)?.get(lint)
}

#[cfg(test)]
mod tests {
    use super::super::workshop::room;
    use super::*;

    const HOUSE: &str = "[rust]\nunsafe_code = 'forbid'\n[clippy]\nexit = 'warn'\n\
                         all = { level = 'warn', priority = -1 }\n";
    const OWN: &str = "[lints.rust]\nunsafe_code = 'allow'\nunsafe_op_in_unsafe_fn = 'warn'\n\
                       [lints.clippy]\nundocumented_unsafe_blocks = 'warn'\nexit = 'warn'\n\
                       all = { level = 'warn', priority = -1 }\n";
    const INHERITED: &str = "[lints]\nworkspace = true\n";

    fn complaints(house: &str, name: &str, lints: &str) -> usize {
        let manifest = format!("[package]\nname = 'alidade-{name}'\n{lints}");
        let room = room(&format!("crates/{name}"), &manifest, &[]);
        check(&[room], &toml::from_str(house).unwrap()).len()
    }

    #[test]
    fn a_room_inherits_the_lints_and_the_one_with_unsafe_code_repeats_them() {
        assert_eq!(complaints(HOUSE, "model", INHERITED), 0);
        assert_eq!(complaints(HOUSE, "kernels", OWN), 0);
    }

    #[test]
    fn a_room_with_lints_of_its_own_or_none_is_red() {
        assert_eq!(complaints(HOUSE, "model", ""), 1);
        assert_eq!(complaints(HOUSE, "model", OWN), 1);
    }

    #[test]
    fn the_room_with_unsafe_code_relaxes_nothing_else() {
        for (told, instead) in [
            ("exit = 'warn'", "exit = 'allow'"),
            ("exit = 'warn'\n", ""),
            ("priority = -1", "priority = 0"),
            ("undocumented_unsafe_blocks = 'warn'\n", ""),
            ("unsafe_op_in_unsafe_fn = 'warn'\n", ""),
        ] {
            let own = OWN.replace(told, instead);
            assert_ne!(own, OWN, "{told}");
            assert_eq!(complaints(HOUSE, "kernels", &own), 1, "{told}");
        }
    }

    #[test]
    fn a_workspace_that_allows_unsafe_code_is_red() {
        assert_eq!(complaints(&HOUSE.replace("forbid", "deny"), "model", INHERITED), 1);
        assert_eq!(complaints(&HOUSE.replace("unsafe_code", "missing"), "model", INHERITED), 1);
    }
}
