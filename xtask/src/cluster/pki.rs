//! The keys and certificates of a cluster.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::network::Network;
use super::place;

/// Names that the API server is called by inside.
const API_NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

/// Who somebody is: a name, a group, and what it is called by where it serves.
struct Holder<'a> {
    file: String,
    name: String,
    group: Option<&'a str>,
    names: &'a [&'a str],
    addresses: Vec<Ipv4Addr>,
}

impl<'a> Holder<'a> {
    fn client(file: &str, name: &str, group: Option<&'a str>) -> Self {
        let (file, name) = (file.to_owned(), name.to_owned());
        Self { file, name, group, names: &[], addresses: Vec::new() }
    }
}

/// Makes everything in `folder`: `ca.crt`, then `NAME.crt` and `NAME.key` for whoever asks or
/// serves, and `accounts.key` and `accounts.pub` for the tokens of service accounts.
pub(super) fn make(folder: &Path, network: Network, nodes: u8) -> Result<()> {
    let key = KeyPair::generate().context("make a key")?;
    let mut params = named("alidade-bench", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority = CertifiedIssuer::self_signed(params, key).context("make the authority")?;
    place::write(&folder.join("ca.crt"), &authority.pem())?;
    for holder in holders(network, nodes) {
        certify(folder, &authority, &holder)
            .with_context(|| format!("make the certificate of {}", holder.name))?;
    }
    let accounts = KeyPair::generate().context("make a key")?;
    place::write(&folder.join("accounts.key"), &accounts.serialize_pem())?;
    place::write(&folder.join("accounts.pub"), &accounts.public_key_pem())
}

fn holders(network: Network, nodes: u8) -> Vec<Holder<'static>> {
    let masters = Some("system:masters");
    let mut holders = vec![
        Holder {
            names: &API_NAMES,
            // Every address that somebody calls it by: those who are told of no name check this.
            addresses: vec![Ipv4Addr::LOCALHOST, network.control(), network.api_service()],
            ..Holder::client("apiserver", "kube-apiserver", None)
        },
        Holder::client("admin", "admin", masters),
        Holder::client("apiserver-kubelet", "apiserver-kubelet", masters),
        Holder::client("dns", "alidade-bench:dns", masters),
        Holder::client("controller-manager", "system:kube-controller-manager", None),
        Holder::client("scheduler", "system:kube-scheduler", None),
        Holder::client("proxy", "system:kube-proxy", None),
        Holder::client("front-proxy", "front-proxy", None),
    ];
    for number in 1..=nodes {
        let name = format!("node{number}");
        let addresses = vec![network.node(number)];
        let who = format!("system:node:{name}");
        holders.push(Holder { addresses, ..Holder::client(&name, &who, Some("system:nodes")) });
    }
    holders
}

fn certify(folder: &Path, authority: &CertifiedIssuer<'_, KeyPair>, who: &Holder) -> Result<()> {
    let key = KeyPair::generate().context("make a key")?;
    let mut params = named(&who.name, who.group);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    for name in who.names {
        let name = (*name).try_into().with_context(|| format!("read the name {name}"))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    for address in &who.addresses {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(*address)));
    }
    let certificate = params.signed_by(&key, &**authority).context("sign a certificate")?;
    place::write(&folder.join(format!("{}.crt", who.file)), &certificate.pem())?;
    place::write(&folder.join(format!("{}.key", who.file)), &key.serialize_pem())
}

fn named(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params
}
