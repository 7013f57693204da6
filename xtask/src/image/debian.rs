//! A root of Debian packages, put together by mmdebstrap.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::advise;
use super::layer::EPOCH;
use super::recipe::Recipe;
use super::source::Versions;
use crate::packages;

/// The release that all images are of.
const SUITE: &str = "bookworm";

/// What a container does not read. Licences stay, and the folders of manual pages: packages link
/// alternatives into them.
const EXCLUDED: [&str; 4] =
    ["/usr/share/man/*/*", "/usr/share/info/*", "/usr/share/locale/*/*", "/usr/share/doc/*/*"];

/// What differs from build to build, or would be taken for the container's own.
const REMOVED: [&str; 17] = [
    "dev",
    "etc/hostname",
    "etc/ld.so.cache",
    "etc/machine-id",
    "etc/resolv.conf",
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "run",
    "tmp",
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/ldconfig",
    "var/lib/apt",
    "var/lib/dpkg/status-old",
    "var/log/apt",
];

/// Fills the root; packages are kept in `debs`, so that four images load what they share once.
pub(super) fn fill(recipe: &Recipe, root: &Path, debs: &Path) -> Result<Versions> {
    check()?;
    fs::create_dir_all(debs).with_context(|| format!("create {}", debs.display()))?;
    let out = mmdebstrap(recipe, root, debs).output().context("run mmdebstrap")?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        return Err(advise(
            &format!("mmdebstrap ended with {}: {}", out.status, faults(&said)),
            "the Debian archive must be reachable (http_proxy is heeded) and the disk have room; \
             what was built before is used without either",
        ));
    }
    let path = root.join("var/lib/dpkg/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    clean(root)?;
    versions(&status).with_context(|| format!("read {}", path.display()))
}

fn check() -> Result<()> {
    if !packages::is_root() {
        return Err(advise(
            "an image of Debian packages has files of many owners, and you are not root",
            "run it as root; pause, busybox and alidade can be made without",
        ));
    }
    packages::ensure(&[("mmdebstrap", "mmdebstrap"), ("util-linux", "unshare")])
}

/// The command. It ends with us, and what it mounts is gone with it: its mounts and its processes
/// are in namespaces of their own.
fn mmdebstrap(recipe: &Recipe, root: &Path, debs: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "mmdebstrap", "--mode=root", "--format=directory"])
        .args(["--variant=essential", "--skip=essential/unlink"])
        .arg(format!("--include={}", recipe.packages.join(",")))
        .arg("--dpkgopt=force-unsafe-io")
        .args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")))
        .arg("--dpkgopt=path-include=/usr/share/doc/*/copyright")
        .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""])
        .arg(
            "--setup-hook=mkdir -p \"$1/var/cache/apt/archives\" && \
             find \"$ALIDADE_DEBS\" -name '*.deb' -exec cp -t \"$1/var/cache/apt/archives\" {} +",
        )
        .arg(
            "--customize-hook=find \"$1/var/cache/apt/archives\" -name '*.deb' \
             -exec cp -n -t \"$ALIDADE_DEBS\" {} +",
        )
        .args(hook(recipe, "essential", "before.sh"))
        .args(hook(recipe, "customize", "after.sh"))
        .arg(SUITE)
        .arg(root)
        .env("ALIDADE_DEBS", debs)
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// Has a script of the recipe run at a stage, if there is one; it gets the root as its argument.
fn hook(recipe: &Recipe, stage: &str, script: &str) -> Option<String> {
    let path = recipe.file(script);
    path.is_file().then(|| format!("--{stage}-hook={}", path.display()))
}

/// The lines that say what went wrong; else the last ones.
fn faults(said: &str) -> String {
    let is_fault =
        |line: &&str| ["E:", "Err:", "dpkg: error"].iter().any(|at| line.starts_with(at));
    let mut lines: Vec<&str> = said.lines().filter(is_fault).collect();
    if lines.is_empty() {
        lines = said.lines().collect();
    }
    lines[lines.len().saturating_sub(5)..].join("; ")
}

fn clean(root: &Path) -> Result<()> {
    for name in REMOVED {
        remove(&root.join(name))?;
    }
    // Logs are emptied, not removed: a service may expect its file with its owner.
    empty(&root.join("var/log"))?;
    for (name, mode) in [("dev", 0o755), ("run", 0o755), ("tmp", 0o1777)] {
        super::store::folder(&root.join(name), mode)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("remove {}", path.display())),
    }
}

fn empty(folder: &Path) -> Result<()> {
    let list = || format!("list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(list)? {
        let entry = entry.with_context(list)?;
        let kind = entry.file_type().with_context(list)?;
        let path = entry.path();
        if kind.is_dir() {
            empty(&path)?;
        } else if kind.is_file() {
            let open = fs::OpenOptions::new().write(true).truncate(true).open(&path);
            open.with_context(|| format!("empty {}", path.display()))?;
        }
    }
    Ok(())
}

/// The packages that dpkg's status file says are there.
fn versions(status: &str) -> Result<Versions> {
    let mut found = BTreeMap::new();
    for paragraph in status.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let field = |key: &str| {
            paragraph.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
        };
        let [package, version, state] = ["Package", "Version", "Status"].map(field);
        match (package, version, state) {
            (Some(package), Some(version), Some("install ok installed")) => {
                found.insert(package.to_owned(), version.to_owned());
            }
            _ => bail!("package {} is not whole", package.unwrap_or("without a name")),
        }
    }
    Ok(Versions(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_whole_packages() {
        let jq = "Package: jq\nStatus: install ok installed\nDescription: a\n b\nVersion: 1.6-2\n";
        let sed = "Package: sed\nStatus: install ok installed\nVersion: 4.9\n";
        let found = versions(&format!("{jq}\n{sed}\n")).unwrap();
        assert_eq!(found.0["jq"], "1.6-2");
        assert_eq!(found.0.len(), 2);
        let other = versions(&format!("{jq}\n{}", sed.replace("4.9", "4.8"))).unwrap();
        assert_ne!(found.hash(), other.hash());
        let half = sed.replace("ok installed", "ok half-configured");
        let error = versions(&format!("{jq}\n{half}")).unwrap_err();
        assert!(error.to_string().contains("sed is not whole"), "{error}");
    }

    #[test]
    fn of_what_mmdebstrap_says_the_faults_are_told() {
        let said = "I: running apt-get update...\nErr:1 http://x\nI: more\nE: apt-get failed\n";
        assert_eq!(faults(said), "Err:1 http://x; E: apt-get failed");
        assert_eq!(faults("a\nb"), "a; b");
        assert_eq!(faults(""), "");
    }

    #[test]
    fn what_differs_from_build_to_build_goes() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["dev", "tmp", "var/log/apt", "var/log/redis", "var/lib/dpkg"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["dev/null", "etc-stays", "var/log/redis/a.log", "var/lib/dpkg/status-old"] {
            fs::write(at(file), "x").unwrap();
        }
        clean(root.path()).unwrap();
        assert!(at("dev").is_dir() && !at("dev/null").exists() && at("run").is_dir());
        assert_eq!(fs::read(at("var/log/redis/a.log")).unwrap(), b"");
        assert_eq!(fs::read(at("etc-stays")).unwrap(), b"x");
        assert!(!at("var/lib/dpkg/status-old").exists() && !at("var/log/apt").exists());
    }
}
