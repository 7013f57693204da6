//! A client of S3, with what it needs to authenticate; and what the clients of all clouds have in common.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};

use crate::container::Container;
use crate::credentials::{Given, Giver};
use crate::kept::KeptKeys;
use crate::open::OpenError;
use crate::process::Process;
use crate::profile::{Profile, profile};
use crate::settings::{METADATA, Settings};
use crate::traffic::Meter;
use crate::wire::Wire;

/// The program that gives keys, as a profile names it.
const PROCESS: &str = "credential_process";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A client of S3 or of what speaks its language.
///
/// Credentials, the first that are there: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, with
/// `AWS_SESSION_TOKEN`; the profile `AWS_PROFILE` (or `default`) in `AWS_SHARED_CREDENTIALS_FILE`
/// (`~/.aws/credentials`) and `AWS_CONFIG_FILE` (`~/.aws/config`); a web identity
/// (`AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`); the profile's `credential_process`; a container's; the machine's
/// own role. Those of the last four are good for a while, and are asked for again in time.
pub(crate) fn s3(
    (endpoint, bucket): (&str, &str),
    settings: &Settings,
    meter: Arc<Meter>,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let said = aws(settings)?;
    let wire = Wire::new(meter, settings);
    let is_amazon = endpoint.trim_end_matches('/').ends_with(".amazonaws.com");
    let by_path = settings.path_style.unwrap_or(!is_amazon);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(!by_path)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(options(settings)?)
        .with_allow_http(endpoint.starts_with("http://"))
        .with_retry(no_retry())
        .with_http_connector(wire.clone());
    builder = match (by_path, region_of(endpoint)) {
        // Amazon's own names are made by the client, from the region.
        (false, Some(region)) if is_amazon => builder.with_region(region),
        (true, _) => builder.with_endpoint(endpoint),
        (false, _) => builder.with_endpoint(hosted(endpoint, bucket)),
    };
    for (key, value) in &said {
        if let Ok(key) = key.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    if !said.contains_key("aws_region") && region_of(endpoint).is_none() {
        builder = builder.with_region("us-east-1");
    }
    let has = |name: &str| said.contains_key(name);
    let is_identity = has("aws_web_identity_token_file");
    if has("aws_access_key_id") || has("aws_secret_access_key") {
        return Ok(Arc::new(builder.build()?));
    }
    if is_identity != has("aws_role_arn") {
        let (file, role) = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN");
        let (has, lacks) = if is_identity { (file, role) } else { (role, file) };
        return Err(OpenError::Half { has, lacks });
    }
    let process = said.get(PROCESS).filter(|_| !is_identity);
    if let Some(command) = process {
        let keys = KeptKeys::new(Process(command.clone()));
        return Ok(Arc::new(builder.with_credentials(Arc::new(keys)).build()?));
    }
    let container = if is_identity { None } else { Container::new(settings, &wire)? };
    builder = match container {
        Some(container) => builder.with_credentials(Arc::new(KeptKeys::new(container))),
        None => {
            let giver = if is_identity { Giver::Identity } else { Giver::Machine };
            let inner = Arc::clone(builder.clone().build()?.credentials());
            builder.with_credentials(Arc::new(Given { giver, inner }))
        }
    };
    Ok(Arc::new(builder.build()?))
}

/// What the environment and the files say for S3, by the client's names.
fn aws(settings: &Settings) -> Result<BTreeMap<String, String>, OpenError> {
    const NAMES: [&str; 9] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_ENDPOINT_URL_STS",
    ];
    let found = NAMES.iter().filter_map(|name| Some((*name, settings.get(name)?)));
    let mut said: BTreeMap<String, String> =
        found.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    if let Some(server) = settings.first(&METADATA) {
        let server = server.trim_end_matches('/').to_owned();
        said.insert("aws_metadata_endpoint".to_owned(), server);
    }
    if let Some(region) = said.remove("aws_default_region") {
        said.entry("aws_region".to_owned()).or_insert(region);
    }
    let profile = aws_profile(settings)?;
    let has_keys = said.contains_key("aws_access_key_id");
    for (ours, theirs) in [
        ("aws_access_key_id", "aws_access_key_id"),
        ("aws_secret_access_key", "aws_secret_access_key"),
        ("aws_session_token", "aws_session_token"),
        ("aws_web_identity_token_file", "web_identity_token_file"),
        ("aws_role_arn", "role_arn"),
        (PROCESS, PROCESS),
        ("aws_region", "region"),
    ] {
        // Keys of the one and a token of the other fit nobody.
        if ours != "aws_region" && has_keys {
            continue;
        }
        if let Some(value) = profile.get(theirs) {
            said.entry(ours.to_owned()).or_insert_with(|| value.clone());
        }
    }
    Ok(said)
}

/// The profile that was asked for. One that was asked for by name must be there.
fn aws_profile(settings: &Settings) -> Result<Profile, OpenError> {
    let named = settings.get("AWS_PROFILE");
    let name = named.unwrap_or("default");
    let file = |variable: &str, usual: &str| {
        let set = settings.get(variable).map(PathBuf::from);
        set.or_else(|| Some(settings.home.as_ref()?.join(".aws").join(usual)))
    };
    let mut found = Profile::new();
    for (variable, usual) in
        [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")]
    {
        let Some(path) = file(variable, usual) else { continue };
        match fs::read_to_string(&path) {
            Ok(text) => found.extend(profile(&text, name)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::file(&path, error)),
        }
    }
    match (named, found.is_empty()) {
        (Some(name), true) => Err(OpenError::Profile { name: name.to_owned() }),
        _ => Ok(found),
    }
}

/// The region in a host name of Amazon's, such as `s3.eu-west-1.amazonaws.com`.
fn region_of(endpoint: &str) -> Option<&str> {
    let host = endpoint.split("://").nth(1)?.strip_suffix(".amazonaws.com")?;
    let region = host.strip_prefix("s3.").or_else(|| host.strip_prefix("s3-"))?;
    let region = region.strip_prefix("dualstack.").unwrap_or(region);
    (!region.is_empty()).then_some(region)
}

/// The endpoint with the bucket in the host name.
fn hosted(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) => format!("{scheme}://{bucket}.{host}"),
        None => endpoint.to_owned(),
    }
}

/// How every client connects.
pub(crate) fn options(settings: &Settings) -> Result<ClientOptions, OpenError> {
    let mut options = ClientOptions::new()
        // How long a pack takes is for the line to say; silence is what counts.
        .with_timeout_disabled()
        .with_read_timeout(settings.silence())
        .with_connect_timeout(CONNECT.min(settings.silence()));
    if let Some(path) = &settings.ca_certificates {
        for certificate in certificates(path)? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, OpenError> {
    let pem = fs::read(path).map_err(|error| OpenError::file(path, error))?;
    let found = Certificate::from_pem_bundle(&pem)?;
    if found.is_empty() {
        let error = std::io::Error::other("there is no certificate in it");
        return Err(OpenError::file(path, error));
    }
    Ok(found)
}

/// Never: that is done below, where it is seen what happened.
pub(crate) fn no_retry() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings { environment, ..Settings::new(Cancel::default()) }
    }

    #[test]
    fn keys_of_the_environment_go_before_those_of_a_profile() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".aws")).unwrap();
        let text = "[default]\naws_access_key_id=P\naws_secret_access_key=S\naws_session_token=T\n";
        fs::write(home.path().join(".aws/credentials"), text).unwrap();
        fs::write(home.path().join(".aws/config"), "[default]\nregion = eu-north-1\n").unwrap();
        let at_home = |settings| Settings { home: Some(home.path().to_owned()), ..settings };
        let said = aws(&at_home(settings(&[]))).unwrap();
        assert_eq!((&*said["aws_access_key_id"], &*said["aws_session_token"]), ("P", "T"));
        assert_eq!(said["aws_region"], "eu-north-1");
        let keys = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "F")];
        let said = aws(&at_home(settings(&keys))).unwrap();
        assert_eq!(said["aws_access_key_id"], "E");
        assert_eq!(said.get("aws_session_token"), None, "no token of another key");
        assert_eq!(said["aws_region"], "eu-north-1");
        let missing = aws(&at_home(settings(&[("AWS_PROFILE", "other")])));
        assert!(matches!(missing, Err(OpenError::Profile { .. })), "{missing:?}");
    }

    #[test]
    fn a_region_is_read_from_amazons_names() {
        for (endpoint, region) in [
            ("https://s3.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("https://s3-us-west-2.amazonaws.com", Some("us-west-2")),
            ("https://s3.dualstack.us-east-2.amazonaws.com", Some("us-east-2")),
            ("https://s3.amazonaws.com", None),
            ("https://s3.example.org", None),
        ] {
            assert_eq!(region_of(endpoint), region, "{endpoint}");
        }
    }
}
