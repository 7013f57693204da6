//! A root directory as a docker archive: a manifest, a configuration and one layer.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::{self, Owners};
use super::recipe::{Origin, Recipe};

/// The name of the archive in its folder.
pub(super) const ARCHIVE: &str = "image.tar";

/// The time of `layer::EPOCH`, as a configuration has it.
const CREATED: &str = "2026-01-01T00:00:00Z";

/// Writes the image of `scratch/root` to `scratch/image.tar`; the root is gone then.
pub(super) fn write(scratch: &Path, recipe: &Recipe, labels: &Value) -> Result<()> {
    let owners = if recipe.origin == Origin::Debian { Owners::Kept } else { Owners::Root };
    let [root, layer] = ["root", "layer.tar"].map(|name| scratch.join(name));
    layer::write(&root, owners, &layer)?;
    // Two copies of it are enough for the disk.
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    let config = serde_json::to_vec(&config(recipe, labels, &digest(&layer)?))?;
    let name = format!("{}.json", hex(&Sha256::digest(&config)));
    let manifest = serde_json::to_vec(&manifest(recipe, &name))?;
    for (name, content) in [(name.as_str(), config), ("manifest.json", manifest)] {
        let path = scratch.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    let parts = ["manifest.json", &name, "layer.tar"];
    layer::pack(scratch, &parts, &scratch.join(ARCHIVE))?;
    for part in parts {
        let path = scratch.join(part);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn manifest(recipe: &Recipe, config: &str) -> Value {
    let mut names = vec![super::reference(&recipe.name())];
    names.extend(recipe.aliases.iter().map(|alias| alias.name.clone()));
    json!([{ "Config": config, "RepoTags": names, "Layers": ["layer.tar"] }])
}

/// The configuration as the OCI image specification has it.
fn config(recipe: &Recipe, labels: &Value, diff: &str) -> Value {
    let mut config = json!({
        "User": recipe.user,
        "Env": recipe.env,
        "Entrypoint": recipe.entrypoint,
        "Cmd": recipe.command,
        "WorkingDir": recipe.workdir,
        "Labels": labels,
    });
    if let Some(signal) = &recipe.stop_signal {
        config["StopSignal"] = json!(signal);
    }
    json!({
        "created": CREATED,
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff}")] },
        "history": [{
            "created": CREATED,
            "created_by": format!("cargo xtask image {}", recipe.name()),
        }],
    })
}

/// This machine, as Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The SHA-256 of a file.
pub(super) fn digest(path: &Path) -> Result<String> {
    let read = || format!("read {}", path.display());
    let mut file = fs::File::open(path).with_context(read)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut piece).with_context(read)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&piece[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The bytes of one member of an archive.
    fn member(archive: &Path, name: &str) -> Vec<u8> {
        let out = Command::new("tar")
            .args(["--extract", "--to-stdout", "--file"])
            .arg(archive)
            .arg(name)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    fn json_member(archive: &Path, name: &str) -> Value {
        serde_json::from_slice(&member(archive, name)).unwrap()
    }

    #[test]
    fn an_archive_names_its_configuration_and_its_layer_by_their_hashes() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("root")).unwrap();
        fs::write(scratch.path().join("root/hello"), "hello").unwrap();
        let recipe = Recipe::read(&crate::checkout().unwrap().join("testbench/images/pause"));
        write(scratch.path(), &recipe.unwrap(), &json!({ "key": "value" })).unwrap();

        let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the archive is left: {left:?}");
        let archive = scratch.path().join(ARCHIVE);
        let manifest = json_member(&archive, "manifest.json");
        let names = manifest[0]["RepoTags"].as_array().unwrap();
        assert_eq!(names[0], "alidade.test/pause:bench");
        assert!(names.contains(&json!("registry.k8s.io/pause:3.10")));
        assert_eq!(manifest[0]["Layers"], json!(["layer.tar"]));

        let name = manifest[0]["Config"].as_str().unwrap();
        let config = member(&archive, name);
        assert_eq!(name, format!("{}.json", hex(&Sha256::digest(&config))));
        let config: Value = serde_json::from_slice(&config).unwrap();
        let layer = hex(&Sha256::digest(member(&archive, "layer.tar")));
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{layer}")]));
        assert_eq!(config["config"]["Entrypoint"], json!(["/pause"]));
        assert_eq!(config["config"]["Labels"], json!({ "key": "value" }));
        assert_eq!(config["os"], "linux");
    }
}
