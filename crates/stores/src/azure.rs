//! A client of Azure Blob Storage, with what it needs to authenticate.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::azure::{
    AzureAuthorizer, AzureConfigKey, AzureCredentialProvider, MicrosoftAzure, MicrosoftAzureBuilder,
};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::bucket::{no_retry, options};
use crate::credentials::{Given, Giver};
use crate::open::OpenError;
use crate::settings::Settings;
use crate::traffic::Meter;
use crate::wire::Wire;

/// The variables that say the same, restic's names before those of Azure's own tools.
const ACCOUNT: [&str; 2] = ["AZURE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"];
const KEY: [&str; 2] = ["AZURE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"];
const SIGNATURE: [&str; 2] = ["AZURE_ACCOUNT_SAS", "AZURE_STORAGE_SAS_TOKEN"];

/// What a client is told, and the variables that say it: the first that is there counts.
const SAID: [(AzureConfigKey, &[&str]); 7] = [
    (AzureConfigKey::AccountName, &ACCOUNT),
    (AzureConfigKey::AccessKey, &KEY),
    (AzureConfigKey::SasKey, &SIGNATURE),
    (AzureConfigKey::AuthorityId, &["AZURE_TENANT_ID"]),
    (AzureConfigKey::ClientId, &["AZURE_CLIENT_ID"]),
    (AzureConfigKey::ClientSecret, &["AZURE_CLIENT_SECRET"]),
    (AzureConfigKey::FederatedTokenFile, &["AZURE_FEDERATED_TOKEN_FILE"]),
];

/// A client of Azure Blob Storage: the account's name, and the first of these that is there: its key, a
/// workload identity, a service principal, a shared access signature, the machine's own identity.
///
/// The server is `AZURE_STORAGE_ENDPOINT`, which may have the account's name in its path; else the
/// account's host below `AZURE_ENDPOINT_SUFFIX`, else below Azure's own.
pub(crate) fn azure(
    container: &str,
    settings: &Settings,
    meter: Arc<Meter>,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let wire = Wire::new(meter, settings);
    let mut options = options(settings)?;
    let endpoint = endpoint(settings);
    let is_plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    options = options.with_allow_http(is_plain);
    let remover = wire.connect(&options)?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_client_options(options)
        .with_retry(no_retry())
        .with_http_connector(wire.clone());
    for (key, names) in SAID {
        if let Some(value) = settings.first(names) {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(endpoint) = endpoint.clone() {
        builder = builder.with_endpoint(endpoint);
    }
    let has = |names: &[&str]| settings.first(names).is_some();
    if !has(&KEY) && !has(&SIGNATURE) {
        let giver = if has(&["AZURE_TENANT_ID"]) { Giver::Identity } else { Giver::Machine };
        let inner = Arc::clone(builder.clone().build()?.credentials());
        builder = builder.with_credentials(Arc::new(Given { giver, inner }));
    }
    let account = settings.first(&ACCOUNT).unwrap_or_default().to_owned();
    let server = endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    let below = format!("{server}/{container}/");
    Ok(Arc::new(Single { inner: builder.build()?, client: remover, account, below }))
}

/// Removes one blob at a time. The client would ask for it as for a batch of one, which needs more rights, and
/// which not every server does for a shared access signature.
#[derive(Debug)]
struct Single {
    inner: MicrosoftAzure,
    client: HttpClient,
    account: String,
    /// What stands before a blob's name in its address.
    below: String,
}

impl fmt::Display for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Asks for the removal of a blob.
async fn remove(
    (client, account, url): (HttpClient, String, String),
    credentials: AzureCredentialProvider,
    path: Path,
) -> Result<Path> {
    let credential = credentials.get_credential().await?;
    let failed = |source| Error::Generic { store: "MicrosoftAzure", source };
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = "DELETE".parse().map_err(|error| failed(Box::new(error)))?;
    *request.uri_mut() = url.parse().map_err(|error| failed(Box::new(error)))?;
    AzureAuthorizer::new(&credential, &account).try_authorize(&mut request)?;
    let answer = client.execute(request).await.map_err(|error| failed(Box::new(error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(path);
    }
    let said = answer.into_body().bytes().await.map_err(|error| failed(Box::new(error)))?;
    let said = String::from_utf8_lossy(&said);
    let source = format!("DELETE {path} was answered with status code: {status}: {said}").into();
    Err(match status.as_u16() {
        404 => Error::NotFound { path: path.to_string(), source },
        _ => failed(source),
    })
}

#[async_trait]
impl ObjectStore for Single {
    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (client, account) = (self.client.clone(), self.account.clone());
        let (below, credentials) = (self.below.clone(), Arc::clone(self.inner.credentials()));
        let one = move |path: Path| {
            let url = format!("{below}{path}");
            remove((client.clone(), account.clone(), url), Arc::clone(&credentials), path)
        };
        paths.and_then(one).boxed()
    }

    async fn put_opts(&self, path: &Path, body: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(path, body, how).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, how).await
    }

    async fn get_opts(&self, path: &Path, how: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, how).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

/// The server, if it is not to be the one that the client knows.
fn endpoint(settings: &Settings) -> Option<String> {
    if let Some(endpoint) = settings.get("AZURE_STORAGE_ENDPOINT") {
        return Some(endpoint.trim_end_matches('/').to_owned());
    }
    let suffix = settings.get("AZURE_ENDPOINT_SUFFIX")?;
    let account = settings.first(&ACCOUNT)?;
    Some(format!("https://{account}.blob.{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    fn endpoint_of(pairs: &[(&str, &str)]) -> Option<String> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings =
            Settings { environment: pairs.collect(), ..Settings::new(Cancel::default()) };
        endpoint(&settings)
    }

    #[test]
    fn the_server_is_the_one_that_is_named_or_the_accounts_below_a_suffix() {
        let account = ("AZURE_ACCOUNT_NAME", "one");
        let suffix = ("AZURE_ENDPOINT_SUFFIX", "core.chinacloudapi.cn");
        let server = ("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:10000/one/");
        assert_eq!(endpoint_of(&[account]), None);
        assert_eq!(
            endpoint_of(&[account, suffix]).unwrap(),
            "https://one.blob.core.chinacloudapi.cn"
        );
        assert_eq!(endpoint_of(&[account, suffix, server]).unwrap(), "http://127.0.0.1:10000/one");
    }
}
