//! Control groups: every machine has its own, in every hierarchy of this host.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{advise, wait};

/// Where processes of the bench itself are: in the second version no group with processes has
/// controllers for those below it.
const OWN: &str = "bench";

/// What containers need where one tree has all controllers.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// One hierarchy of control groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hierarchy {
    /// Where this host has it.
    pub(super) point: PathBuf,
    /// What `mount` is told: `cgroup` with its options, or `cgroup2`.
    pub(super) kind: String,
    pub(super) options: String,
    /// The group that this process is in and in which groups can be made.
    base: PathBuf,
}

impl Hierarchy {
    /// All hierarchies of this host.
    pub(super) fn all() -> Result<Vec<Self>> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
        let mut all = parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        if all.is_empty() {
            return Err(advise(
                "there are no control groups on this host",
                "mount them below /sys/fs/cgroup; containers cannot run without",
            ));
        }
        for hierarchy in all.iter_mut().filter(|hierarchy| hierarchy.kind == "cgroup2") {
            hierarchy.climb();
        }
        Ok(all)
    }

    /// The nearest group above that has controllers to give; where all controllers belong to the
    /// first version this tree only tells processes apart, and any group will do.
    fn climb(&mut self) {
        let gives = |group: &Path| {
            let given = fs::read_to_string(group.join("cgroup.subtree_control"));
            given.is_ok_and(|given| CONTROLLERS.iter().all(|one| given.contains(one)))
        };
        let mut groups = self.base.ancestors().take_while(|group| group.starts_with(&self.point));
        if let Some(found) = groups.find(|group| gives(group)) {
            self.base = found.to_owned();
        }
    }
}

/// Reads the mounted hierarchies, and which group of each this process is in.
fn parse(mounts: &str, groups: &str) -> Vec<Hierarchy> {
    let mut all: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let mount: Vec<&str> = mount.split(' ').collect();
        let filesystem: Vec<&str> = filesystem.split(' ').collect();
        let (&[_, _, _, mounted, point, ..], &[kind, _, options]) = (&mount[..], &filesystem[..])
        else {
            continue;
        };
        let options = match kind {
            "cgroup2" => String::new(),
            "cgroup" => controllers(options),
            _ => continue,
        };
        let point = PathBuf::from(point);
        // A line is `ID:CONTROLLERS:PATH`; the path is seen from the root of what is mounted.
        let inside = groups.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (of, path) = line.split_once(':')?;
            (of == options).then(|| Path::new(path).strip_prefix(mounted).ok())?
        });
        let base = match inside {
            Some(inside) if !inside.as_os_str().is_empty() => point.join(inside),
            _ => point.clone(),
        };
        if all.iter().all(|other| other.options != options || other.kind != kind) {
            all.push(Hierarchy { point, kind: kind.to_owned(), options, base });
        }
    }
    all
}

/// The controllers among the options of a mount.
fn controllers(options: &str) -> String {
    let is_one = |option: &&str| {
        !matches!(*option, "rw" | "ro" | "xattr" | "clone_children" | "noprefix")
            && !option.starts_with("release_agent")
    };
    options.split(',').filter(is_one).collect::<Vec<_>>().join(",")
}

/// The groups of this path in all hierarchies.
pub(super) fn paths(all: &[Hierarchy], path: &str) -> Vec<PathBuf> {
    all.iter().map(|hierarchy| hierarchy.base.join(path)).collect()
}

/// Makes the group `path` in every hierarchy, and in it the one for the bench's own processes;
/// gives the groups.
pub(super) fn make(all: &[Hierarchy], path: &str) -> Result<Vec<PathBuf>> {
    for hierarchy in all {
        let mut group = hierarchy.base.clone();
        for name in Path::new(path) {
            pass_on(&group, hierarchy)?;
            group.push(name);
            create(&group)?;
        }
        pass_on(&group, hierarchy)?;
        create(&group.join(OWN))?;
    }
    Ok(paths(all, path))
}

fn create(group: &Path) -> Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.with_context(|| format!("create the control group {}", group.display()))?,
    }
    // No process enters a group whose processors and memory were not said.
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (Some(above), own) = (group.parent(), group.join(name)) else { continue };
        let is_unset = fs::read_to_string(&own).is_ok_and(|value| value.trim().is_empty());
        if is_unset && let Ok(value) = fs::read_to_string(above.join(name)) {
            fs::write(&own, value.trim()).with_context(|| format!("write {}", own.display()))?;
        }
    }
    Ok(())
}

/// Lets groups below have the controllers that this one has.
fn pass_on(group: &Path, hierarchy: &Hierarchy) -> Result<()> {
    if hierarchy.kind != "cgroup2" {
        return Ok(());
    }
    let path = group.join("cgroup.controllers");
    let there = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let path = group.join("cgroup.subtree_control");
    let given = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    for controller in there.split_whitespace() {
        if !given.split_whitespace().any(|given| given == controller) {
            fs::write(&path, format!("+{controller}"))
                .with_context(|| format!("give {controller} to groups in {}", group.display()))?;
        }
    }
    Ok(())
}

/// Moves the caller into the groups; `is_own` chooses the one for the bench's processes.
pub(super) fn join(groups: &[PathBuf], is_own: bool) -> Result<()> {
    for group in groups {
        let group = if is_own { group.join(OWN) } else { group.clone() };
        let path = group.join("cgroup.procs");
        fs::write(&path, "0").with_context(|| format!("enter {}", group.display()))?;
    }
    Ok(())
}

/// Removes a group with all groups below it, once no process is in them.
pub(super) fn remove(group: &Path) -> Result<()> {
    let what = format!("the end of the control group {}", group.display());
    wait::until(&what, Duration::from_secs(20), || {
        Ok(match try_remove(group) {
            Ok(()) => ControlFlow::Break(()),
            Err(error) => ControlFlow::Continue(format!("{error:#}")),
        })
    })
}

fn try_remove(group: &Path) -> Result<()> {
    let list = || format!("list {}", group.display());
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(list)?,
    };
    for entry in entries {
        let entry = entry.with_context(list)?;
        if entry.file_type().with_context(list)?.is_dir() {
            try_remove(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("remove {}", group.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:20 / /proc rw shared:5 - proc proc rw
30 1 0:25 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 1 0:26 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 1 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 1 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn each_hierarchy_is_known_with_the_group_this_process_is_in() {
        let groups = "4:cpu,cpuacct:/\n3:memory:/box/inner\n2:name=systemd:/a/b\n0::/user\n";
        let all = parse(MOUNTS, groups);
        let seen: Vec<_> =
            all.iter().map(|one| (one.options.as_str(), one.base.to_str().unwrap())).collect();
        let point = "/sys/fs/cgroup";
        assert_eq!(
            seen,
            [
                ("cpu,cpuacct", &*format!("{point}/cpu,cpuacct")),
                ("memory", &format!("{point}/memory/inner")),
                ("name=systemd", &format!("{point}/systemd/a/b")),
                ("", &format!("{point}/unified/user")),
            ]
        );
        assert!(parse("", "").is_empty());
    }
}
