//! The root of a machine: this host's, under a layer in memory.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::super::cgroup::Hierarchy;
use super::Plan;

/// Makes the root of this mount namespace, which is a copy of the host's so far, what the plan says.
///
/// Mounts of the host that are not needed are left behind: a file system that the host unmounts
/// later must not stay in use here.
pub(super) fn make(plan: &Plan) -> Result<()> {
    let all = |kind| MountPropagationFlags::REC | kind;
    mount_change("/", all(MountPropagationFlags::PRIVATE))
        .context("part from the host's mounts")?;
    let base = plan.state.join("root");
    let mounts = mount_points()?;
    let root = layered(&base)?;
    for point in needed(&mounts, plan) {
        bind(&point, &below(&root, &point))?;
    }
    bind(&plan.state, &below(&root, &plan.state))?;
    kernel_files(&root)?;
    control_groups(&root, &plan.hierarchies)?;
    for (folder, seen) in &plan.binds {
        bind(folder, &below(&root, seen))?;
    }
    enter(&root)?;
    // Kubernetes wants what is mounted in one place to be seen in the others.
    mount_change("/", all(MountPropagationFlags::SHARED)).context("share mounts inside")
}

/// Shows a setting of the kernel with a value that it does not have; writing it changes nothing.
pub(super) fn show(setting: &str, value: &str) -> Result<()> {
    let folder = Path::new("/run/alidade-bench");
    let file = folder.join(setting.replace('/', "-"));
    let write = || format!("write {}", file.display());
    fs::create_dir_all(folder).with_context(write)?;
    fs::write(&file, format!("{value}\n")).with_context(write)?;
    bind(&file, &Path::new("/proc/sys").join(setting))
}

/// The host's root, and above it a layer in memory.
fn layered(base: &Path) -> Result<PathBuf> {
    fs::create_dir_all(base).with_context(|| format!("create {}", base.display()))?;
    file_system("tmpfs", base, MountFlags::empty(), "mode=755")?;
    let [root, upper, work] = ["root", "upper", "work"].map(|name| base.join(name));
    for folder in [&root, &upper, &work] {
        fs::create_dir(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    file_system("overlay", &root, MountFlags::empty(), &options)?;
    Ok(root)
}

/// The host's mounts that hold something the plan wants to be seen.
fn needed(mounts: &[PathBuf], plan: &Plan) -> Vec<PathBuf> {
    let system = ["/usr", "/etc", "/lib", "/bin", "/sbin"].map(PathBuf::from);
    let wanted: Vec<&PathBuf> = plan.visible.iter().chain(&system).collect();
    let mut points: Vec<PathBuf> = mounts
        .iter()
        .filter(|point| point.as_os_str() != "/")
        .filter(|point| wanted.iter().any(|path| path.starts_with(point)))
        .cloned()
        .collect();
    points.sort();
    points.dedup();
    points
}

fn mount_points() -> Result<Vec<PathBuf>> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect())
}

fn kernel_files(root: &Path) -> Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    file_system("proc", &root.join("proc"), quiet, "")?;
    file_system("sysfs", &root.join("sys"), quiet, "")?;
    bind(Path::new("/dev"), &root.join("dev"))?;
    let terminals = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    file_system("devpts", &root.join("dev/pts"), MountFlags::NOSUID, terminals)?;
    if root.join("dev/shm").is_dir() {
        file_system("tmpfs", &root.join("dev/shm"), MountFlags::NOSUID, "")?;
    }
    file_system("tmpfs", &root.join("run"), MountFlags::NOSUID, "mode=755")?;
    let lock = root.join("run/lock");
    fs::create_dir(&lock).with_context(|| format!("create {}", lock.display()))
}

/// The same hierarchies at the same places, each from the machine's own group on.
fn control_groups(root: &Path, hierarchies: &[Hierarchy]) -> Result<()> {
    let top = Path::new("/sys/fs/cgroup");
    if hierarchies.iter().all(|hierarchy| hierarchy.point != top) {
        file_system("tmpfs", &below(root, top), MountFlags::empty(), "mode=755")?;
    }
    for hierarchy in hierarchies {
        let point = below(root, &hierarchy.point);
        fs::create_dir_all(&point).with_context(|| format!("create {}", point.display()))?;
        let options = match hierarchy.options.starts_with("name=") {
            true => format!("none,{}", hierarchy.options),
            false => hierarchy.options.clone(),
        };
        file_system(&hierarchy.kind, &point, MountFlags::empty(), &options)?;
    }
    Ok(())
}

/// Makes `root` the root, and leaves the old one behind.
fn enter(root: &Path) -> Result<()> {
    chdir(root).with_context(|| format!("go to {}", root.display()))?;
    pivot_root(".", ".").context("change the root")?;
    unmount(".", UnmountFlags::DETACH).context("leave the host's root")?;
    chdir("/").context("go to the new root")
}

/// A path of the host as it is found below the new root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("show {} at {}", from.display(), to.display());
    if from.is_dir() {
        fs::create_dir_all(to).with_context(what)?;
    }
    mount_bind(from, to).with_context(what)
}

fn file_system(kind: &str, at: &Path, flags: MountFlags, options: &str) -> Result<()> {
    let what = || format!("mount {kind} at {}", at.display());
    let text = |bytes: &[u8]| CString::new(bytes).with_context(what);
    let options = text(options.as_bytes())?;
    let options: Option<&CStr> = (!options.is_empty()).then_some(&options);
    mount(&*text(kind.as_bytes())?, &*text(at.as_os_str().as_bytes())?, kind, flags, options)
        .with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_that_hold_something_wanted_come_along() {
        let mounts = ["/", "/proc", "/home", "/mnt/disk", "/usr", "/home/a/cache"];
        let mounts: Vec<PathBuf> = mounts.map(PathBuf::from).into();
        let plan = Plan { visible: vec!["/home/a/cache/x".into()], ..Plan::default() };
        let seen = needed(&mounts, &plan);
        assert_eq!(seen, ["/home", "/home/a/cache", "/usr"].map(PathBuf::from));
    }
}
