//! A client of Google Cloud Storage, with what it needs to authenticate.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use crate::bucket::{no_retry, options};
use crate::credentials::{Given, Giver};
use crate::open::OpenError;
use crate::settings::Settings;
use crate::traffic::Meter;
use crate::wire::Wire;

/// What an emulator is told where there is no token: it asks for none, and looks at none.
const NOBODY: &str = "anonymous";

/// A client of Google Cloud Storage. Credentials, the first that are there: `GOOGLE_ACCESS_TOKEN`,
/// `GOOGLE_SERVICE_ACCOUNT_KEY`, `GOOGLE_APPLICATION_CREDENTIALS`, the file that Google's tools leave in the
/// home directory, the machine's own account.
///
/// The server is `GOOGLE_BASE_URL`, else the emulator at `STORAGE_EMULATOR_HOST`, which needs no
/// credentials, else Google's own.
pub(crate) fn google(
    bucket: &str,
    settings: &Settings,
    meter: Arc<Meter>,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_client_options(options(settings)?)
        .with_retry(no_retry())
        .with_http_connector(Wire::new(meter, settings));
    for (name, key) in [
        ("GOOGLE_APPLICATION_CREDENTIALS", GoogleConfigKey::ApplicationCredentials),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", GoogleConfigKey::ServiceAccountKey),
        ("GOOGLE_ACCESS_TOKEN", GoogleConfigKey::BearerToken),
    ] {
        if let Some(value) = settings.get(name) {
            builder = builder.with_config(key, value);
        }
    }
    let has = |name: &str| settings.get(name).is_some();
    let is_said = has("GOOGLE_APPLICATION_CREDENTIALS") || has("GOOGLE_SERVICE_ACCOUNT_KEY");
    let mut has_token = has("GOOGLE_ACCESS_TOKEN");
    let own = settings.get("GOOGLE_BASE_URL").map(str::to_owned);
    let emulator = settings.get("STORAGE_EMULATOR_HOST").map(emulator);
    if own.is_none() && emulator.is_some() && !is_said && !has_token {
        builder = builder.with_bearer_token(NOBODY);
        has_token = true;
    }
    if let Some(server) = own.or(emulator) {
        let options = options(settings)?.with_allow_http(server.starts_with("http://"));
        let server = server.trim_end_matches('/');
        builder = builder.with_client_options(options).with_base_url(server);
    }
    if has_token {
        return Ok(Arc::new(builder.build()?));
    }
    let giver = if is_said { Giver::Identity } else { Giver::Machine };
    let inner = Arc::clone(builder.clone().build()?.credentials());
    Ok(Arc::new(builder.with_credentials(Arc::new(Given { giver, inner })).build()?))
}

/// The server that Google's own libraries would find there: a host and a port, or an address of its own.
fn emulator(said: &str) -> String {
    let (scheme, rest) = said.split_once("://").unwrap_or(("http", said));
    let host = rest.split('/').next().unwrap_or(rest);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::emulator;

    #[test]
    fn an_emulator_is_named_as_for_googles_libraries() {
        for (said, server) in [
            ("127.0.0.1:4443", "http://127.0.0.1:4443"),
            ("http://127.0.0.1:4443/storage/v1/", "http://127.0.0.1:4443"),
            ("https://example.org", "https://example.org"),
        ] {
            assert_eq!(emulator(said), server, "{said}");
        }
    }
}
