//! How a program finds the API server and shows who it is.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::network::Network;
use super::place::{self, Place};

/// Writes the file that lets the holder of the certificate `who` talk to the cluster; JSON is YAML.
pub(super) fn make(place: &Place, network: Network, who: &str, path: &Path) -> Result<()> {
    let pki = |file: String| place.at("pki").join(file);
    let name = format!("alidade-bench-{}", place.name());
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": network.api(),
            "certificate-authority": pki("ca.crt".into()),
        }}],
        "users": [{"name": who, "user": {
            "client-certificate": pki(format!("{who}.crt")),
            "client-key": pki(format!("{who}.key")),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": who}}],
        "current-context": name,
    });
    place::write(path, &format!("{document:#}\n"))
}
