//! The environment variables by which stores are reached.

/// A variable and what it is for, a sentence. Those of the clouds' makers have the makers' names, those that
/// restic has for the same have restic's.
pub const VARIABLES: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY_ID", "S3: the key's id."),
    ("AWS_SECRET_ACCESS_KEY", "S3: the key."),
    ("AWS_SESSION_TOKEN", "S3: the token that belongs to a temporary key."),
    ("AWS_REGION", "S3: the region; else AWS_DEFAULT_REGION, the profile's, or us-east-1."),
    ("AWS_DEFAULT_REGION", "S3: the region, when AWS_REGION is not set."),
    ("AWS_PROFILE", "S3: the profile in the files below; else `default`."),
    ("AWS_SHARED_CREDENTIALS_FILE", "S3: the file of keys; else ~/.aws/credentials."),
    ("AWS_CONFIG_FILE", "S3: the file of settings; else ~/.aws/config."),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "S3: the token of a web identity."),
    ("AWS_ROLE_ARN", "S3: the role that a web identity takes."),
    ("AWS_ROLE_SESSION_NAME", "S3: what the session of that role is called."),
    ("AWS_ENDPOINT_URL_STS", "S3: the server that gives keys for a web identity."),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "S3: where a container gets its keys."),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "S3: the same, with the server."),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "S3: the token for that server."),
    ("AWS_METADATA_ENDPOINT", "S3: the server that gives keys to this machine's role."),
    ("AZURE_ACCOUNT_NAME", "Azure: the storage account."),
    ("AZURE_ACCOUNT_KEY", "Azure: the account's key."),
    ("AZURE_ACCOUNT_SAS", "Azure: a shared access signature."),
    ("AZURE_TENANT_ID", "Azure: the tenant of a service principal or workload identity."),
    ("AZURE_CLIENT_ID", "Azure: its client."),
    ("AZURE_CLIENT_SECRET", "Azure: its secret."),
    ("AZURE_FEDERATED_TOKEN_FILE", "Azure: the token of a workload identity."),
    ("AZURE_STORAGE_ENDPOINT", "Azure: the server; else Azure's own."),
    ("GOOGLE_APPLICATION_CREDENTIALS", "Google: the file of credentials."),
    ("GOOGLE_SERVICE_ACCOUNT_KEY", "Google: the key of a service account, as JSON."),
    ("GOOGLE_ACCESS_TOKEN", "Google: a token."),
    ("GOOGLE_BASE_URL", "Google: the server; else Google's own."),
];
