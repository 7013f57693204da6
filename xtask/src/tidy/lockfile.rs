//! What may be compiled in at all.

use std::collections::BTreeSet;

use super::Complaint;
use super::workshop::Lockfile;

/// Crates that may not come in, not even through others; with the reason.
const FORBIDDEN: &[(&str, &str)] = &[
    ("native-tls", "TLS is rustls"),
    ("openssl", "TLS is rustls, ciphers are RustCrypto"),
    ("openssl-sys", "TLS is rustls, ciphers are RustCrypto"),
    ("ring", "rustls runs on aws-lc-rs"),
    ("serde_yaml", "it is no longer maintained"),
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Nothing forbidden that is compiled in, and everything from the registry of crates.
pub(super) fn check(lockfile: &Lockfile, built: &BTreeSet<String>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for package in &lockfile.package {
        let crate_name = format!("{} {}", package.name, package.version);
        let is_it = |(name, _): &&(&str, &str)| *name == package.name && built.contains(*name);
        if let Some((_, reason)) = FORBIDDEN.iter().find(is_it) {
            complaints
                .push(Complaint::new("Cargo.lock", format!("{crate_name} is forbidden: {reason}")));
        }
        match package.source.as_deref() {
            None | Some(REGISTRY) => {}
            Some(source) => complaints
                .push(Complaint::new("Cargo.lock", format!("{crate_name} comes from {source}"))),
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(name: &str, source: Option<&str>) -> usize {
        let source = source.map(|source| format!("source = '{source}'")).unwrap_or_default();
        let text = format!("[[package]]\nname = '{name}'\nversion = '1.2.3'\n{source}");
        check(&toml::from_str(&text).unwrap(), &[name.to_owned()].into()).len()
    }

    #[test]
    fn crates_of_the_registry_and_our_own_are_silent() {
        assert_eq!(complaints("serde", Some(REGISTRY)), 0);
        assert_eq!(complaints("alidade-model", None), 0);
    }

    #[test]
    fn a_forbidden_crate_is_red() {
        for name in ["openssl", "openssl-sys", "native-tls", "ring", "serde_yaml"] {
            assert_eq!(complaints(name, Some(REGISTRY)), 1, "{name}");
        }
    }

    #[test]
    fn a_forbidden_crate_that_nothing_asks_for_is_silent() {
        let lockfile = toml::from_str("[[package]]\nname = 'ring'\nversion = '1.2.3'").unwrap();
        assert!(check(&lockfile, &BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_crate_from_elsewhere_is_red() {
        assert_eq!(complaints("serde", Some("git+https://example.org/serde#1")), 1);
        assert_eq!(complaints("serde", Some("registry+https://example.org/index")), 1);
    }
}
